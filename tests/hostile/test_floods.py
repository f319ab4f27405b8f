"""Floods against gRPC's server itself, with nothing in front: what its options bound is bounded, and it stays up."""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame
from raw_http2 import RawHttp2, message

from ephaptic_grpc import connect_sync
from ephaptic_grpc.limits import STREAMS_PER_CONNECTION
from ephaptic_grpc.payload import pack

pytestmark = pytest.mark.once

MODULE = """
from collections.abc import AsyncIterator
from ephaptic_grpc import Service
floods = Service("floods.v1.FloodsService")
@floods.expose
async def add(a: int, b: int) -> int:
    return a + b
"""
HEAD = [
    *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/floods.v1.FloodsService/Add"), (b":authority", b"x")),
    *((b"content-type", b"application/grpc"), (b"te", b"trailers")),
]


@pytest.fixture(scope="module")
def process(tmp_path_factory) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address, and the number of the process."""
    folder = tmp_path_factory.mktemp("floods")
    (folder / "flooded.py").write_text(MODULE)
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", "flooded", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            found = next(found for line in process.stderr if (found := re.match(r"on (\S+) ", line)))
            yield found[1], process.pid
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture
def address(process) -> Iterator[str]:
    """Its address; when the test is over, it still serves others, and has not kept what it was sent."""
    address, number = process
    before = resident_mib(number)
    yield address
    with connect_sync(address, "floods.v1.FloodsService", timeout=30) as client:
        assert client.call("add", 2, 3) == 5
    assert resident_mib(number) - before < 150


def resident_mib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) // 1024


def calls(raw: RawHttp2, *, reset: bool) -> Iterator[bytes]:
    first, again = raw.http.encoder.encode(HEAD), raw.http.encoder.encode(HEAD)
    for stream in range(1, 200_000, 2):
        frames = [HeadersFrame(stream, first if stream == 1 else again, flags=["END_HEADERS"])]
        if reset:
            frames += [DataFrame(stream, message(pack(b"[2,3]")), flags=["END_STREAM"])]
            frames += [RstStreamFrame(stream, error_code=8)]
        yield b"".join(frame.serialize() for frame in frames)


def test_rapid_reset(address):
    with RawHttp2(address) as raw:
        raw.pour(islice(calls(raw, reset=True), 10_000))


def test_a_connection_has_so_many_calls_open_and_no_more(address):
    with RawHttp2(address) as raw:
        raw.call(b"/floods.v1.FloodsService/Add", message(pack(b"[2,3]")))
        assert raw.http.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] == STREAMS_PER_CONNECTION
    with RawHttp2(address) as raw:
        raw.pour(islice(calls(raw, reset=False), STREAMS_PER_CONNECTION + 1_000))
        assert any(frame.startswith(b"\0\0\x04\x03") for frame in raw_frames(raw))  # RST_STREAM


def raw_frames(raw: RawHttp2) -> Iterator[bytes]:
    """Frames as they come, with their heads."""
    stream = raw.socket.makefile("rb")
    with stream:
        while head := stream.read(9):
            yield head + stream.read(int.from_bytes(head[:3]))


def test_a_ping_flood_ends_the_connection(address):
    with RawHttp2(address) as raw:
        raw.pour([PingFrame(0, b"12345678").serialize()] * 20)
        assert any(frame[3] == 7 and frame.endswith(b"too_many_pings") for frame in raw_frames(raw))


def test_settings_without_an_end(address):
    with RawHttp2(address) as raw:
        raw.pour([SettingsFrame(0).serialize() * 100_000])
