"""Those who attack through Envoy: each gets what it has earned, while others are served as if nothing were."""

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any

import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, RstStreamFrame
from raw_http2 import Header, RawHttp2, message
from waiting import eventually_sync

from ephaptic_grpc import CallError, connect_sync
from ephaptic_grpc.payload import pack

ADD = b"/web.v1.WebService/Add"
FIVE = message(pack(b"[2,3]"))
GRPC_WEB = (b"content-type", b"application/grpc-web+proto")
TEXT = (b"content-type", b"application/grpc-web-text")

LATE_MILLISECONDS = 250
LOADED = 5
"""How much longer things may take where other programs run, too."""


@contextmanager
def others_are_served(address: str) -> Iterator[None]:
    """A client that calls all the time: what it asks is answered, and soon."""
    milliseconds: list[float] = []
    failures: list[str] = []
    over = threading.Event()

    def call_on() -> None:
        with connect_sync(address, "web.v1.WebService", timeout=20) as client:
            while not over.wait(0.002):
                started = time.perf_counter()
                try:
                    assert client.call("add", 2, 3) == 5
                except CallError as error:
                    failures.append(str(error))
                milliseconds.append((time.perf_counter() - started) * 1000)

    thread = threading.Thread(target=call_on)
    thread.start()
    try:
        eventually_sync(lambda: len(milliseconds) > 120)
        before = p99(milliseconds[20:])
        milliseconds.clear()
        yield
        eventually_sync(lambda: len(milliseconds) > 100)
    finally:
        over.set()
        thread.join()
    assert failures == []
    print(f"p99 of {len(milliseconds)} calls: {p99(milliseconds):.1f} ms, and {before:.1f} when nobody attacked")
    assert p99(milliseconds) < max(LATE_MILLISECONDS, 2 * before) * LOADED


def p99(milliseconds: list[float]) -> float:
    return sorted(milliseconds)[len(milliseconds) * 99 // 100]


@pytest.fixture
def envoy(served) -> str:
    return served.web.removeprefix("http://")


@pytest.fixture
def ask(envoy) -> Callable[..., dict[bytes, bytes]]:
    """``ask(body, headers, path)``: headers and trailers of an answer over HTTP/2, or how else it ended."""

    def ask(body: bytes = FIVE, *headers: Header, path: bytes = ADD) -> dict[bytes, bytes]:
        with RawHttp2(envoy) as raw:
            raw.call(ADD, FIVE)
            return raw.call(path, body, headers)

    return ask


def frames_of_calls(raw: RawHttp2, more: Callable[[int], list[Any]]) -> Iterator[bytes]:
    """One call after the other, as bytes, each followed by other frames."""
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", ADD), (b":authority", b"localhost"), GRPC_WEB]
    first, again = raw.http.encoder.encode(head), raw.http.encoder.encode(head)
    for stream in range(1, 200_000, 2):
        headers = HeadersFrame(stream, first if stream == 1 else again, flags=["END_HEADERS"])
        yield b"".join(frame.serialize() for frame in (headers, DataFrame(stream, FIVE), *more(stream)))


def test_rapid_reset(envoy):
    with others_are_served(envoy):
        for _ in range(3):
            with RawHttp2(envoy) as raw:
                resets = frames_of_calls(raw, lambda stream: [RstStreamFrame(stream, error_code=8)])
                assert not raw.pour(islice(resets, 50_000))


def test_floods_of_what_costs_its_sender_nothing(envoy):
    def pings() -> Iterator[bytes]:
        while True:
            yield PingFrame(0, b"12345678").serialize() * 100

    def headers_without_an_end() -> Iterator[bytes]:
        yield HeadersFrame(1, b"\0\1x\1v").serialize()
        while True:
            yield ContinuationFrame(1, b"\0\1x\1v" * 3_000).serialize()

    def empty_data(raw: RawHttp2) -> Iterator[bytes]:
        yield next(frames_of_calls(raw, lambda _: []))
        while True:
            yield DataFrame(1, b"").serialize() * 100

    with others_are_served(envoy):
        for flood in (lambda _: pings(), lambda _: headers_without_an_end(), empty_data):
            with RawHttp2(envoy) as raw:
                assert not raw.pour(islice(flood(raw), 20_000))


def test_requests_that_dawdle(envoy):
    """Two hundred that send a header now and then: 408, as soon as they had their ten seconds."""
    with others_are_served(envoy):
        host, port = envoy.split(":")
        slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(200)]
        for connection in slow:
            connection.sendall(b"POST " + ADD + b" HTTP/1.1\r\nhost: localhost\r\n")
        for number in range(5):
            for connection in slow:
                with suppress(ConnectionError):  # on a busy machine the ten seconds may be over
                    connection.sendall(b"x-slow-%d: a\r\n" % number)
            time.sleep(1)  # as they do
        for connection in slow:
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
            connection.close()


@pytest.mark.parametrize(
    ("headers", "ends"),
    [
        ([(b"x-long", b"v" * 50_000)], {b"grpc-status": b"8"}),  # Envoy takes 60 KiB, and gRPC behind it 8
        ([(b"x-long", b"v" * 100_000)], {b"gone": b"", b":status": b"431"}),
        ([(b"x-key-%d" % number, b"v") for number in range(200)], {b"reset": b"2", b":status": b"431"}),
        ([(b"under_score", b"v")], {b"reset": b"2", b":status": b"400"}),
        ([(b"x-odd", b"a\r\nb: c")], {b"gone": b"", b"reset": b"2"}),
        ([(b"x-odd", b"a\x00b")], {b"gone": b"", b"reset": b"2"}),
        ([(b"content-type", b"text/plain")], {b":status": b"415"}),
        ([(b"content-type", b"application/json")], {b":status": b"415"}),
        ([(b"content-type", b"")], {b":status": b"415"}),
        ([(b"grpc-timeout", b"abc")], {b"grpc-status": b"13"}),
        ([(b"x-data-bin", b"!!!")], {b"grpc-status": b"13"}),
        ([(b"grpc-timeout", b"0S")], {b"grpc-status": b"4", b":status": b"200"}),
    ],
    ids=lambda given: repr(given)[:40],
)
def test_headers(ask, envoy, headers, ends):
    web = [] if headers[0][0] == b"content-type" else [GRPC_WEB]
    answer = ask(FIVE, *web, *headers)
    assert any(answer.get(name) == value for name, value in ends.items()), answer
    assert ask(FIVE, GRPC_WEB)[b":status"] == b"200"


def test_long_headers_of_http_1(envoy):
    host, port = envoy.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        with suppress(ConnectionError):  # it has seen enough before the end
            connection.sendall(b"POST " + ADD + b" HTTP/1.1\r\nhost: localhost\r\nx-long: " + b"v" * 100_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("broken", [(b"grpc-timeout", b"abc"), (b"x-data-bin", b"!!!")])
def test_a_broken_header_of_one_is_no_matter_of_another(ask, broken):
    """Envoy's connection to the server is all clients'."""
    good = b"YW%d=" if broken[0].endswith(b"-bin") else b"%dS"
    for number in range(20, 25):
        assert ask(FIVE, *[broken])[b"grpc-status"] == b"13"
        assert ask(FIVE, (broken[0], good % number))[b"grpc-status"] == b"0"


@pytest.mark.parametrize(
    "path",
    [
        ADD + b"?x=\xff",
        b"/?\xff",
        b"/\xff",
        ADD + b"\xff",
        ADD + b"#\xfe",
        b"/web.v1.WebService/\xed\xa0\x80",
        ADD + b"?\xc3\xa4",
    ],
)
def test_a_path_or_query_that_is_no_text_stops_nobody(ask, path):
    for headers in ([GRPC_WEB], []):
        answer = ask(FIVE, *headers, path=path)
        assert answer.get(b"grpc-status", answer.get(b":status")) in (b"12", b"13", b"400"), answer
    assert ask()[b"grpc-status"] == b"0"


def test_bodies_that_are_no_message(ask):
    """The end of what begins and doesn't end is its deadline, or its client."""
    deadline = (b"grpc-timeout", b"300m")
    assert ask(FIVE[:-2], GRPC_WEB, deadline)[b"grpc-status"] == b"4"
    assert ask(b"", GRPC_WEB, deadline)[b"grpc-status"] == b"4"
    assert ask(b"\0\xff\xff\xff\xff", GRPC_WEB)[b"grpc-status"] == b"8"
    assert ask(b"!!!!", TEXT)[b":status"] == b"400"
    assert ask(base64.b64encode(FIVE[:-2]), TEXT, deadline)[b"grpc-status"] == b"4"
    assert ask(base64.b64encode(FIVE), TEXT)[b":status"] == b"200"


def test_an_unknown_origin_is_told_nothing(ask):
    answer = ask(FIVE, GRPC_WEB, (b"origin", b"https://evil.example"))
    assert not any(name.startswith(b"access-control") for name in answer)
