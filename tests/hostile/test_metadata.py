"""Headers that no client of gRPC would send: each call has a defined end, and others are served."""

import os
from collections.abc import AsyncIterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import grpc
import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame
from raw_http2 import Header, RawHttp2, message
from waiting import eventually_sync

from ephaptic_grpc import Service, current_call
from ephaptic_grpc.payload import pack
from ephaptic_grpc.testing import Served

pytestmark = pytest.mark.once

PATH = b"/headers.v1.HeadersService/"
ADD = message(pack(b"[2,3]"))

headers = Service("headers.v1.HeadersService")


@headers.expose
async def add(a: int, b: int) -> int:
    return a + b


@headers.expose
async def count(to: int) -> AsyncIterator[int]:
    for number in range(to):
        yield number


@headers.expose
async def seen() -> list[str]:
    return [f"{key}={value!r}" for key, value in current_call().metadata]


@pytest.fixture
def served(serve) -> Any:
    served = serve(headers)
    yield served
    assert served.client.add(1, 2) == 3  # whatever has happened


def ask(served: Served, function: bytes, body: bytes, *more: Header) -> dict[bytes, bytes]:
    """An answer to a client that has acknowledged the server's settings: of another, no limit is asked."""
    with RawHttp2(served.address) as raw:
        assert raw.call(PATH + b"Add", ADD)[b"grpc-status"] == b"0"
        return raw.call(PATH + function, body, more)


def code(answer: dict[bytes, bytes]) -> str:
    """The status, or how else it ended."""
    if b"grpc-status" in answer:
        return next(code.name for code in grpc.StatusCode if code.value[0] == int(answer[b"grpc-status"]))
    return "reset" if b"reset" in answer else "gone"


LONG = b"1" * 4000

TIMEOUTS = {
    "DEADLINE_EXCEEDED OK": [b"0n", b"0S", b"0H"],  # a function can be faster than gRPC sees that it is too late
    "OK": [b"1H", b"99999999H", b"1000000000H"],
    "INTERNAL": [b"-1S", b"abc", b"1.5S", b"\xff"],
    "INTERNAL OK DEADLINE_EXCEEDED": [b"", b"1", b" 1S", b"1n", LONG, LONG + b"S"],  # gRPC's releases differ
}


@pytest.mark.parametrize("codes", TIMEOUTS)
def test_deadlines(served, codes):
    for timeout in TIMEOUTS[codes]:
        assert code(ask(served, b"Add", ADD, (b"grpc-timeout", timeout))) in codes.split(), timeout


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"\r", b"a\x00b", b"\x1b[2K", b"\x7f", b"\xe2\x80\xa8"])
def test_control_characters_reach_no_function(served, value):
    """HTTP/2 carries them, and gRPC lets them in: no log and no header should."""
    answer = ask(served, b"Seen", message(b""), (b"x-odd", value))
    assert code(answer) == "INVALID_ARGUMENT"
    assert answer[b"grpc-message"] == b"the metadata 'x-odd' must be printable text"
    assert code(ask(served, b"Add", ADD, (b"x-odd", value))) == "OK"  # where nobody reads them


@pytest.mark.parametrize("value", [b"Zo\xc3\xab", b"\xe4", b"a  b", b"", b"%s{}"])
def test_other_characters_do(served, value):
    assert code(ask(served, b"Seen", message(b""), (b"x-odd", value))) == "OK"


@pytest.mark.parametrize("value", [b"!!!!", b"YQ=,YQ=", b"\xff"])
def test_binary_that_is_no_base64(served, value):
    assert code(ask(served, b"Seen", message(b""), (b"x-data-bin", value))) in ("INTERNAL", "reset", "gone", "OK")


@pytest.mark.parametrize(
    "header",
    [
        *((b"", b"a"), (b"x y", b"a"), (b"X-Upper", b"a"), (b":odd", b"a"), (b"x\r\ny", b"a"), (b"\xff", b"a")),
        *(
            (b"te", b"gzip"),
            (b"grpc-encoding", b"nonsense"),
            (b":method", b"GET"),
            (b"grpc-previous-rpc-attempts", b"x"),
        ),
    ],
    ids=repr,
)
def test_what_no_header_may_be(served, header):
    assert code(ask(served, b"Add", ADD, header)) in ("INTERNAL", "UNIMPLEMENTED", "reset", "gone")


@pytest.mark.parametrize("many", [[(b"x-long", b"v" * 9_000)], [(b"x-long", b"v" * 60_000)]], ids=["9 KB", "60 KB"])
def test_headers_of_8_kb_and_more_are_refused(served, many):
    answers = {code(ask(served, b"Add", ADD, *many)) for _ in range(3)}
    if len(many[0][1]) > 16 * 1024:
        assert answers <= {"RESOURCE_EXHAUSTED", "reset", "gone"}
    else:  # between the two limits gRPC refuses by chance, the more the nearer to the second
        assert answers <= {"RESOURCE_EXHAUSTED", "OK"}


@pytest.mark.parametrize("count", [1_000, 5_000])
def test_thousands_of_keys(served, count):
    several = [(b"x-key-%d" % number, b"v") for number in range(count)]
    assert code(ask(served, b"Add", ADD, *several)) in ("RESOURCE_EXHAUSTED", "reset", "gone")


def test_headers_without_an_end(served):
    """One header of 256 MB, from a client that doesn't acknowledge the server's limit: read, and kept by nobody."""
    before = resident_bytes()
    with RawHttp2(served.address) as raw:
        more = ContinuationFrame(1, b"v" * 16_384).serialize()
        raw.pour(chain([HeadersFrame(1, b"\0\1x\x7f\xe1\xff\xff\x7f").serialize()], repeat(more, 16_384)))
        assert served.client.add(1, 2) == 3
    assert resident_bytes() - before < 64 << 20


def resident_bytes() -> int:
    """The memory of this process, where the server is, too."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


HEARTBEATS = [b"", b"-1", b"1e9", b"nan", b"9" * 3000, b"1\n", b"\xd9\xa3", b"0x10", b"1,1"]


@pytest.mark.parametrize("value", HEARTBEATS, ids=lambda value: repr(value[:12]))
def test_heartbeats(served, value):
    body = message(pack(b"[2]"))
    answer = ask(served, b"Count", body, (b"ephaptic-heartbeat", value))
    assert code(answer) == "INVALID_ARGUMENT"
    assert b"ephaptic-heartbeat" in answer[b"grpc-message"]
    assert value not in answer[b"grpc-message"] or not value
    assert code(ask(served, b"Count", body, *[(b"ephaptic-heartbeat", b"0")] * 20)) == "OK"


def test_a_stale_client_that_says_so_again_and_again(served, caplog):
    several = [(b"ephaptic-contract", b"x" * 40)] * 60
    answer = ask(served, b"Add", message(pack(b"[]")), *several)
    assert code(answer) == "INVALID_ARGUMENT"
    assert b"grpc-status-details-bin" in answer
    assert not caplog.records


def test_metadata_that_nobody_can_read_is_no_matter_of_the_arguments(served, caplog):
    answer = ask(served, b"Add", message(pack(b"[]")), (b"ephaptic-contract", b"x"), (b"x-odd", b"\r\n"))
    assert code(answer) == "INVALID_ARGUMENT"
    assert answer[b"grpc-message"].startswith(b"bad arguments")
    assert not caplog.records


BODIES = {
    "nothing": b"",
    "half a head": b"\0\0",
    "half a message": b"\0\0\0\0\x09\x12\x05[2,3]",
    "compressed, by nothing": b"\1" + ADD[1:],
    "far too large": b"\0\xff\xff\xff\xff",
}


@pytest.mark.parametrize("body", BODIES)
def test_bodies_that_are_no_message(served, body):
    """Where the body ends too early, gRPC tells nothing: the call is there until its client or its deadline ends it."""
    with RawHttp2(served.address) as raw:
        raw.socket.settimeout(10)
        answer = raw.call(PATH + b"Add", BODIES[body], [(b"grpc-timeout", b"500m")])
    assert code(answer) in ("DEADLINE_EXCEEDED", "INTERNAL", "RESOURCE_EXHAUSTED", "reset", "CANCELLED")


def test_two_messages_are_one_call(served):
    assert code(ask(served, b"Add", ADD + ADD)) in ("OK", "INTERNAL", "UNIMPLEMENTED")


def test_a_client_that_leaves_in_the_middle_of_everything(served):
    for data in (b"", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"\0" * 100_000):
        with RawHttp2(served.address) as raw:
            raw.pour([data])
    with RawHttp2(served.address) as raw:
        raw.send(PATH + b"Add", ADD[:-2], end=False)
    eventually_sync(lambda: served.client.add(1, 2) == 3)
