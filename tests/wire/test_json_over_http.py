"""Plain JSON over real HTTP: values, JSON Lines, Server-Sent Events, errors, and who may call."""

import json
import time

import httpx
import pytest
from http_server import serving_http
from http_service import events, http
from waiting import eventually_sync

from ephaptic_grpc import Limits
from ephaptic_grpc.asgi import web_app

ORIGIN = "https://app.example.com"
PATH = "/http.v1.HttpService/"


@pytest.fixture(scope="module", params=["httptools", "h11"])
def url(request):
    app = web_app(http, origins=[ORIGIN], headers=["x-tenant"], limits=Limits(request_bytes=1000))
    with serving_http(app, http="auto" if request.param == "httptools" else "h11") as url:
        yield url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url + PATH, timeout=10) as client:
        yield client


def test_values(client):
    answer = client.post("Add", json={"a": 2, "b": 3})
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, "application/json", 5)
    assert client.post("Add", json=[2]).json() == 3
    assert client.post("InThread", content=b"", headers={"content-type": "application/json"}).text == '" ephaptic_grpc"'
    assert client.post("Place", json={"order": {"item": "tea", "quantity": 2}}).json() == "2 x tea"
    assert client.post("Add", content=b"[1]", headers={"content-type": "application/JSON; charset=UTF-8"}).json() == 2


def test_a_stream_is_json_lines(client):
    answer = client.post("Count", json=[3])
    assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, "application/jsonl", "0\n1\n2\n")
    assert client.post("Count", json=[0]).text == ""
    assert [*map(json.loads, client.post("BlockingCount", json=[300]).iter_lines())] == [*range(300)]


def test_items_arrive_one_by_one(client):
    with client.stream("POST", "Forever", json=["one by one", 0.05]) as answer:
        lines = answer.iter_lines()
        assert [next(lines) for _ in range(3)] == ["0", "1", "2"]
    eventually_sync(lambda: "one by one ended" in events)


def test_a_stream_is_server_sent_events_for_who_asks(client):
    answer = client.post("Count", json=[2], headers={"accept": "text/event-stream"})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.text == "id: 1\ndata: 0\n\nid: 2\ndata: 1\n\n"


def test_a_quiet_stream_gives_signs_of_life(client):
    headers = {"accept": "text/event-stream", "ephaptic-heartbeat": "100"}
    with client.stream("POST", "Quiet", json=["sse"], headers=headers) as answer:
        text = answer.iter_text()
        told = ""
        while told.count(":\n\n") < 2:
            told += next(text)
    assert told.startswith("id: 1\ndata: 1\n\n:\n\n:\n\n")
    with client.stream("POST", "Quiet", json=["jsonl"], headers={"ephaptic-heartbeat": "100"}) as answer:
        lines = answer.iter_lines()
        assert [next(lines), next(lines), next(lines)] == ["1", "", ""]
    eventually_sync(lambda: {"sse ended", "jsonl ended"} <= {*events})


def test_errors_are_http_statuses_with_a_status_as_json(client):
    answer = client.post("Place", json={"order": {"item": "fish"}})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")
    value = {"@type": "type.googleapis.com/google.protobuf.Value", "value": {"item": "fish"}}
    assert answer.json() == {"code": 5, "message": "no fish, 100% sure, ö\n", "details": [value]}
    answer = client.post("Place", json={"order": {"item": "coffee", "quantity": 0}})
    (detail,) = answer.json()["details"]
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert [violation["field"] for violation in detail["fieldViolations"]] == ["order.item", "order.quantity"]
    answer = client.post("Place", json={"order": {"item": "time"}})
    duration = {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "3s"}
    assert answer.json()["details"] == [duration, {**value, "value": [1]}]


def test_nothing_else_is_told(client, caplog):
    answer = client.post("Place", json={"order": {"item": "bug"}})
    assert (answer.status_code, answer.json()["code"]) == (500, 13)
    assert "secret" not in answer.text
    error_id = answer.json()["message"].removeprefix("internal error (error id ").removesuffix(")")
    eventually_sync(lambda: error_id in caplog.text)


@pytest.mark.parametrize("body", [b"1", b'"x"', b"{", b"null", b"\xff", b'{"a": 1e999}', b"[" * 300])
def test_what_is_no_arguments_is_refused(client, body):
    answer = client.post("Add", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, 3)


def test_a_stream_that_fails_says_so_at_its_end(client):
    answer = client.post("FailAfter", json=[2])
    *items, last = answer.text.splitlines()
    value = {"@type": "type.googleapis.com/google.protobuf.Value", "value": {"after": 2}}
    assert (answer.status_code, items) == (200, ["0", "1"])
    assert last.startswith(" ")
    assert json.loads(last) == {"error": {"code": 10, "message": "enough", "details": [value]}}
    told = client.post("FailAfter", json=[1], headers={"accept": "text/event-stream"}).text
    assert told.startswith('id: 1\ndata: 0\n\nevent: error\ndata: {"code":10,"message":"enough","details":[')
    answer = client.post("FailAfter", json=[0])
    assert (answer.status_code, answer.json()["code"]) == (409, 10)


def test_no_such_function(client, url):
    answer = client.post("Nothing", json=[])
    path = answer.url.path
    assert (answer.status_code, answer.json()) == (404, {"code": 12, "message": f"no such function: {path}"})
    for other in ("add", "%41dd"):  # the function's own name, and a way of writing that no proxy's rule knows
        told = client.post(other, json=[]).json()["message"]
        assert told.endswith(f"(it is called by the name of its RPC, as {path.replace('Nothing', 'Add')})")
    told = client.post("%1b%0a" + "x" * 1000, json=[]).json()["message"]
    assert "\\x1b" in told
    assert len(told) < 300
    answer = client.get(url + "/x")
    assert (answer.status_code, answer.json()) == (404, {"code": 12, "message": "no such function: /x"})
    assert client.post(url + "/grpc.health.v1.Health/Check", json=[]).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_post_runs_anything(client, method):
    answer = client.request(method, "Add", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        assert answer.json() == {"code": 12, "message": "functions are called by POST"}


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=x"],
)
def test_what_a_page_can_send_without_asking_is_refused(client, kind):
    """A form, or a fetch without a preflight."""
    answer = client.post("Sleep", content=b'[0, "simple"]', headers={"content-type": kind} if kind else {})
    assert (answer.status_code, answer.json()["code"]) == (415, 3)
    assert "application/json" in answer.json()["message"]
    assert "simple began" not in events


def test_pages_of_known_origins_may_call(client, url):
    answer = client.post("Add", json=[1], headers={"origin": ORIGIN})
    assert answer.json() == 2
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "grpc-status" in answer.headers["access-control-expose-headers"]
    assert client.post("Add", json=[1], headers={"origin": url}).json() == 2  # the app's own
    asked = {"origin": ORIGIN, "access-control-request-method": "POST"}
    answer = client.options("Add", headers={**asked, "access-control-request-headers": "content-type,x-tenant"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert client.options("Add", headers={**asked, "access-control-request-headers": "x-other"}).status_code == 400


@pytest.mark.parametrize("origin", ["https://evil.example.com", "http://app.example.com", "null", ORIGIN + ":8443", ""])
def test_an_unknown_origin_is_refused_before_a_function_runs(client, url, origin):
    answer = client.post("Sleep", json=[0, "unknown"], headers={"origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, 7)
    assert f"the app's own is {url}" in answer.json()["message"]
    assert "access-control-allow-origin" not in answer.headers
    assert "unknown began" not in events
    asked = {"origin": origin, "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in client.options("Add", headers=asked).headers


def test_what_is_too_large_is_refused(client):
    answer = client.post("InThread", json=["x" * 2000])
    assert (answer.status_code, answer.json()["code"]) == (429, 8)
    assert client.post("InThread", json=["x" * 900]).status_code == 200

    def body():
        for _ in range(20):
            yield b" " * 100

    headers = {"content-type": "application/json"}
    assert client.post("InThread", content=body(), headers=headers).status_code == 429


def test_deadlines(client):
    answer = client.post("Sleep", json=[30, "late"], headers={"grpc-timeout": "100m"})
    assert (answer.status_code, answer.json()["code"]) == (504, 4)
    eventually_sync(lambda: "late ended" in events)
    *items, last = client.post("Forever", json=["late stream"], headers={"grpc-timeout": "500m"}).text.splitlines()
    assert items
    assert last == ' {"error":{"code":4,"message":"the deadline has passed"}}'
    eventually_sync(lambda: "late stream ended" in events)
    assert 0 < client.post("Sleep", json=[0], headers={"grpc-timeout": "9S"}).json() <= 9
    assert client.post("Sleep", json=[0], headers={"grpc-timeout": "soon"}).status_code == 400


def test_a_deadline_is_told_though_the_function_ignores_it(client):
    answer = client.post("Stubborn", json=["stubborn"], headers={"grpc-timeout": "50m"})
    assert answer.status_code == 504
    assert "stubborn ended" not in events
    eventually_sync(lambda: "stubborn ended" in events)


def test_a_function_that_cancels_itself(client):
    assert client.post("CancelsItself", json=[]).status_code == 499


@pytest.mark.parametrize(("function", "more"), [("Sleep", {"seconds": 60}), ("Quiet", {}), ("Forever", {"seconds": 0})])
def test_who_leaves_ends_the_function(client, function, more):
    """Within 100 ms where the machine has nothing else to do: the best of some tries."""
    took = []
    for attempt in range(5):
        key = f"left {function} {attempt}"
        events.clear()
        arguments = {"key": key, **more}
        if function == "Sleep":
            with pytest.raises(httpx.ReadTimeout):
                client.post(function, json=arguments, timeout=httpx.Timeout(5, read=0.2))
        else:
            with client.stream("POST", function, json=arguments) as answer:
                next(answer.iter_raw())
        left = time.perf_counter()
        eventually_sync(lambda key=key: f"{key} ended" in events)
        took.append(time.perf_counter() - left)
        if took[-1] < 0.1:
            return
    raise AssertionError(took)


def test_a_reader_that_is_slow_holds_the_generator_up(client):
    events.clear()
    with client.stream("POST", "LargeItems", json=[5000]) as answer:  # 100 MB
        raw = answer.iter_raw()
        next(raw)
        before = -1
        while before != len(events):
            before = len(events)
            time.sleep(0.2)
        assert before < 2000
        size = sum(map(len, raw))
    assert size > 5000 * 20_000 - 1_000_000
    assert len(events) == 5000


def test_headers_are_metadata(client):
    assert client.post("Header", json=["x-tenant"], headers=[("x-tenant", "a"), ("x-tenant", "b")]).json() == ["a", "b"]
    assert client.post("Header", json=["host"]).json() == []
