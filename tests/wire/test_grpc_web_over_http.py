"""gRPC-Web over real HTTP, spoken byte by byte: both modes, statuses, deadlines, batches, heartbeats, limits."""

import json
import socket
from base64 import b64decode, b64encode

import httpx
import pytest
from google.rpc.status_pb2 import Status
from http_server import serving_http
from http_service import events, http
from waiting import eventually_sync
from web_trailers import read_message, read_trailers

from ephaptic_grpc import Limits
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.grpc_web import MESSAGE, TRAILERS, Frames, frame
from ephaptic_grpc.payload import pack, unpack_items

KINDS = ["application/grpc-web+proto", "application/grpc-web-text"]


@pytest.fixture(scope="module")
def url():
    with serving_http(web_app(http, limits=Limits(request_bytes=2000)), http="httptools") as url:
        yield url


@pytest.fixture(params=KINDS)
def caller(url, request):
    with httpx.Client(base_url=f"{url}/http.v1.HttpService/", timeout=10) as client:
        yield Caller(client, request.param)


class Caller:
    def __init__(self, client: httpx.Client, kind: str):
        self.client = client
        self.text = "text" in kind
        self.headers = {"content-type": kind, "x-grpc-web": "1"}

    def post(self, rpc: str, body: bytes, **headers: str) -> httpx.Response:
        """The raw answer to a body."""
        body = b64encode(body) if self.text else body
        return self.client.post(rpc, content=body, headers={**self.headers, **as_headers(headers)})

    def stream(self, rpc: str, args: object, **headers: str):
        body = frame(pack(json.dumps(args).encode()))
        body = b64encode(body) if self.text else body
        return self.client.stream("POST", rpc, content=body, headers={**self.headers, **as_headers(headers)})

    def call(self, rpc: str, args: object, **headers: str) -> tuple[list[object], dict[str, str]]:
        """The items, and the trailers, wherever they are."""
        return self.read(self.post(rpc, frame(pack(json.dumps(args).encode())), **headers))

    def read(self, answer: httpx.Response) -> tuple[list[object], dict[str, str]]:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(self.headers["content-type"])
        messages, last = self.frames(answer)
        if last is None:
            assert not messages
            return [], dict(answer.headers)
        assert "grpc-status" not in answer.headers
        return [json.loads(item) for message in messages for item in unpack_items(message)], read_trailers(last)

    def frames(self, answer: httpx.Response) -> tuple[list[bytes], bytes | None]:
        reader = Frames(1 << 24, text=self.text)
        frames = reader.feed(answer.content)
        assert reader.complete
        if not frames:
            return [], None
        *messages, last = frames
        assert all(flag == MESSAGE for flag, _ in messages)
        assert last.flag == TRAILERS
        return [message for _, message in messages], last.payload


def as_headers(names: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in names.items()}


def test_values_and_streams(caller):
    assert caller.call("Add", [2, 3]) == ([5], {"grpc-status": "0"})
    assert caller.call("InThread", {"text": "in"}) == (["in ephaptic_grpc"], {"grpc-status": "0"})
    assert caller.call("Count", [3]) == ([0, 1, 2], {"grpc-status": "0"})
    assert caller.call("Count", [0]) == ([], {"grpc-status": "0"})
    assert caller.call("BlockingCount", [300]) == ([*range(300)], {"grpc-status": "0"})


def test_one_message_for_each_item_or_batches_for_who_accepts_them(caller):
    body = frame(pack(b"[1000]"))
    messages, _ = caller.frames(caller.post("BlockingCount", body))
    assert len(messages) == 1000
    messages, _ = caller.frames(caller.post("BlockingCount", body, ephaptic_batch="1"))
    assert len(messages) < 500
    assert sum(len(unpack_items(message)) for message in messages) == 1000


def test_a_quiet_stream_gives_signs_of_life(caller):
    # One comes early, however long a silence may be.
    for milliseconds, expected in (("100", [pack(b"1"), b"", b""]), ("60000", [pack(b"1"), b""])):
        with caller.stream("Quiet", ["beats"], ephaptic_heartbeat=milliseconds) as answer:
            reader = Frames(1000, text=caller.text)
            frames = []
            for data in answer.iter_raw():
                frames += reader.feed(data)
                if len(frames) == len(expected):
                    break
        assert [payload for _, payload in frames] == expected
    eventually_sync(lambda: "beats ended" in events)
    _, told = caller.call("Quiet", ["x"], ephaptic_heartbeat="often")
    assert told["grpc-status"] == "3"


@pytest.mark.parametrize("items", [0, 2])
def test_errors_before_and_after_items(caller, items):
    got, told = caller.call("FailAfter", [items])
    assert got == [*range(items)]
    assert (told["grpc-status"], told["grpc-message"]) == ("10", "enough")
    details = told["grpc-status-details-bin"]
    status = Status.FromString(b64decode(details + "=" * (-len(details) % 4)))
    assert status.details[0].type_url == "type.googleapis.com/ephaptic_grpc.v1.Payload"


def test_a_message_of_any_characters(caller):
    _, told = caller.call("Place", {"order": {"item": "fish"}})
    assert told["grpc-message"] == "no fish, 100%25 sure, %C3%B6%0A"
    assert read_message(told["grpc-message"]) == "no fish, 100% sure, ö\n"


def test_what_is_not_there_is_unimplemented(caller, url):
    assert caller.call("Nothing", [])[1]["grpc-status"] == "12"
    assert caller.call(f"{url}/grpc.health.v1.Health/Check", [])[1]["grpc-status"] == "12"


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b"", 3, "ended before"),
        (frame(b"")[:3], 3, "ended before"),
        (frame(pack(b"[1]")) + b"\0", 3, "ended before"),
        (frame(pack(b"[1]")) * 2, 3, "not several"),
        (frame(pack(b"[1]"), 1), 12, "compressed"),
        (frame(b"x:y", 0x80), 3, "another kind"),
        (frame(b"\xff"), 3, "not an ephaptic_grpc.v1.Payload"),
        (frame(pack(b"[1]", b"2")), 3, "'more'"),
        (frame(pack(b"x" * 3000)), 8, "more than 2000 bytes"),
        (b"\0\xff\xff\xff\xff", 8, "more than 2000 bytes"),
    ],
)
def test_what_is_no_request_is_refused(caller, body, code, said):
    _, told = caller.read(caller.post("Add", body))
    assert told["grpc-status"] == str(code)
    assert said in read_message(told["grpc-message"])


def test_pages_of_unknown_origins_are_told_why(caller):
    answer = caller.post("Add", frame(pack(b"[1]")), origin="https://evil.example.com")
    assert (answer.status_code, answer.headers["grpc-status"]) == (403, "7")
    assert "may not call" in answer.headers["grpc-message"]


def test_text_that_is_no_base64(url):
    answer = httpx.post(f"{url}/http.v1.HttpService/Add", content=b"!!!!", headers={"content-type": KINDS[1]})
    assert answer.headers["grpc-status"] == "3"


def test_text_with_padding_in_it_and_cut_inside_a_quantum(url):
    """As pieces that were encoded each, and as a proxy may cut them."""
    whole = frame(pack(b"[2, 3]"))
    text = b64encode(whole[:4]) + b64encode(whole[4:])

    def pieces():
        for start in range(0, len(text), 3):
            yield text[start : start + 3]

    answer = httpx.post(f"{url}/http.v1.HttpService/Add", content=pieces(), headers={"content-type": KINDS[1]})
    assert Frames(1000, text=True).feed(answer.content)[0].payload == pack(b"5")


def test_deadlines(caller):
    key = f"deadline {caller.text}"
    assert caller.call("Sleep", [60, key], grpc_timeout="100m")[1]["grpc-status"] == "4"
    eventually_sync(lambda: f"{key} ended" in events)
    items, told = caller.call("Forever", [key + " stream"], grpc_timeout="300000u")
    assert items[0] == 0
    assert told["grpc-status"] == "4"
    eventually_sync(lambda: f"{key} stream ended" in events)
    assert caller.call("Sleep", [0], grpc_timeout="x")[1]["grpc-status"] == "3"


def test_metadata(caller):
    assert caller.call("Header", ["x-tenant"], x_tenant="a")[0] == [["a"]]
    assert caller.call("Header", ["trace-bin"], trace_bin="AP8")[0] == [[str(b"\0\xff")]]
    assert caller.call("Header", ["grpc-timeout"], grpc_timeout="9S")[0] == [[]]
    assert caller.call("Header", ["x"], trace_bin="~")[1]["grpc-status"] == "3"
    assert caller.call("Add", ["x"], trace_bin="~")[1]["grpc-status"] == "3"
    assert caller.call("Count", [1], trace_bin="~")[1]["grpc-status"] == "3"
    with caller.stream("Quiet", ["kind"], ephaptic_kind="?") as answer:
        assert answer.headers["ephaptic-kind"] == "stream"
    assert "ephaptic-kind" not in caller.post("Add", frame(pack(b"[1]")), ephaptic_kind="?").headers


def test_a_client_of_an_older_contract_is_told(caller):
    _, told = caller.call("Add", ["x"], ephaptic_contract="0123456789abcdef")
    details = told["grpc-status-details-bin"]
    assert b"CONTRACT_CHANGED" in b64decode(details + "=" * (-len(details) % 4))


def test_who_leaves_ends_the_function(caller):
    key = f"left {caller.text}"
    with caller.stream("Quiet", [key]) as answer:
        next(answer.iter_raw())
    eventually_sync(lambda: f"{key} ended" in events)


def test_who_leaves_in_the_middle_of_a_request_calls_nothing(url):
    host, port = url.removeprefix("http://").split(":")
    events.clear()
    head = b"POST /http.v1.HttpService/Sleep HTTP/1.1\r\nhost: x\r\ncontent-type: application/grpc-web\r\n"
    body = frame(pack(b'[0, "half"]'))
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body[:-1])
    assert httpx.post(f"{url}/http.v1.HttpService/Add", json=[1]).json() == 2
    assert "half began" not in events
