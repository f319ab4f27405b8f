"""Connections that go silent or end: who notices, what a caller sees, and which calls are made again.

Servers are killed and black holes dug for real; only the figures of production are scaled down.
"""

import asyncio
from collections.abc import Iterator

import grpc
import pytest

from ephaptic_grpc import CallError, connect, connect_sync, limits
from ephaptic_grpc.payload import pack
from soak.process import ServerProcess, road
from soak.server import service

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the loop has no part in it


SILENCE, ANSWER = 0.4, 0.4
IN_TIME = 20.0


@pytest.fixture
def asks_often(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server and clients that take a silent peer for gone within a second."""
    monkeypatch.setattr(limits, "KEEPALIVE_SECONDS", SILENCE)
    monkeypatch.setattr(limits, "KEEPALIVE_TIMEOUT_SECONDS", ANSWER)
    with ServerProcess("--keepalive", SILENCE, ANSWER) as server:
        yield server


def test_a_black_hole_is_noticed_within_half_a_minute():
    assert limits.KEEPALIVE_SECONDS + limits.KEEPALIVE_TIMEOUT_SECONDS < 30


async def test_a_black_hole_ends_a_stream_on_both_sides(asks_often):
    async with (
        road(asks_often.address) as (address, cut),
        connect(address, service) as client,
        connect(asks_often.address, service, timeout=IN_TIME) as other,
    ):
        stream = client.waits("stream")
        await anext(stream)
        unary = asyncio.create_task(client.rest(600))
        await other.echo("the road is another's")
        cut.set()
        for call in (anext(stream), unary):
            with pytest.raises(CallError) as caught:
                await asyncio.wait_for(call, IN_TIME)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        await other.closed("stream")  # the server can't have heard of it: nothing came through


async def test_a_black_hole_ends_a_blocking_call(asks_often):
    def read(address: str, cut: asyncio.Event, loop: asyncio.AbstractEventLoop) -> grpc.StatusCode:
        with connect_sync(address, service) as client:
            stream = client.waits("blocking")
            next(stream)
            loop.call_soon_threadsafe(cut.set)
            with pytest.raises(CallError) as caught:
                next(stream)
            return caught.value.code

    async with road(asks_often.address) as (address, cut):
        code = await asyncio.wait_for(asyncio.to_thread(read, address, cut, asyncio.get_running_loop()), IN_TIME)
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_pings_are_accepted_for_ever(asks_often):
    """Of clients, and of proxies that ask more often; gRPC's own server ends a connection at the third."""
    proxy = [
        ("grpc.keepalive_time_ms", int(SILENCE * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with (
        connect(asks_often.address, service) as client,
        grpc.aio.insecure_channel(asks_often.address, proxy) as channel,
    ):
        quiet = client.ticks(2, 2.5)
        raw = channel.unary_stream("/soak.v1.SoakService/Ticks")(pack(b"[2, 2.5]"))
        assert len([message async for message in raw]) == 2
        assert [tick async for tick in quiet] == [0, 1]


async def test_what_may_have_run_is_never_run_again(tmp_path):
    with ServerProcess() as server:
        async with connect(server.address, service) as client:
            with pytest.raises(CallError) as caught:
                await client.dies_once(tmp_path / "runs")
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            server.served_again()
            await client.with_options(timeout=IN_TIME).echo("the same client goes on")
        assert (tmp_path / "runs").read_text() == "run\n"


async def test_what_is_idempotent_is_run_again(tmp_path):
    with ServerProcess() as server:
        async with connect(server.address, service) as client:
            assert await client.dies_once_and_may(tmp_path / "runs") == 2
        with connect_sync(server.address, service) as blocking:
            assert await asyncio.to_thread(blocking.dies_once_and_may, tmp_path / "more") == 2
