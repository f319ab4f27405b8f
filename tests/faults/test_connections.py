"""Connections that go silent or end: who notices, what a caller sees, and which calls are made again.

Servers are killed and black holes dug for real; only the figures of production are scaled down.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import grpc
import pytest
from loops import backend

from ephaptic_grpc import CallError, Server, Service, ServiceError, connect, connect_sync, limits
from soak.process import ServerProcess, road
from soak.server import service

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return backend("uvloop")  # which of them has no part in it


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


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")  # and empty settings
PING = bytes.fromhex("000008060000000000") + b"anyone? "
PONG = bytes.fromhex("000008060100000000") + b"anyone? "


async def test_pings_are_accepted_for_ever(asks_often):
    """Of proxies, which ask more often than clients do; gRPC's own server takes three for an attack."""
    host, port = asks_often.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    with closing(writer):
        writer.write(PREFACE)
        for _ in range(8):
            writer.write(PING)
            await asyncio.wait_for(reader.readuntil(PONG), IN_TIME)
            await asyncio.sleep(SILENCE * 0.75)  # twice as often would be too often
        assert not reader.at_eof()


async def test_a_quiet_stream_outlasts_the_pings(asks_often):
    async with connect(asks_often.address, service) as client:
        assert [tick async for tick in client.ticks(2, 1.5)] == [0, 1]


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
            assert await client.dies_once_and_may(tmp_path / "large", "x" * 3_000_000) == 2
        with connect_sync(server.address, service) as blocking:
            assert await asyncio.to_thread(blocking.dies_once_and_may, tmp_path / "more") == 2


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_what_a_function_answers_is_no_reason_to_run_it_again(code):
    service, ran = Service("connections.v1.ClosedService"), []

    @service.expose(idempotent=True)
    async def refuses() -> int:
        ran.append("refuses")
        raise ServiceError(code, "closed on Sundays")

    @service.expose(idempotent=True)
    async def streams() -> AsyncIterator[int]:
        ran.append("streams")
        raise ServiceError(code, "closed on Sundays")
        yield 1

    async with Server(service, port=0) as server, connect(server.address, service, timeout=IN_TIME) as client:
        with pytest.raises(CallError, match="closed on Sundays"):
            await client.refuses()
        with pytest.raises(CallError, match="closed on Sundays"):
            await anext(client.streams())
    assert ran == ["refuses", "streams"]


async def test_what_is_idempotent_is_run_again_where_a_server_stopped_before_it_began():
    service, begun = Service("connections.v1.StoppingService"), 0

    @service.expose(idempotent=True)
    async def again() -> int:
        nonlocal begun
        begun += 1
        return begun

    def call(address: str) -> int:
        with connect_sync(address, service, timeout=IN_TIME) as client:
            client.again()
            ready.release()
            go.wait()
            return client.again()

    ready, go = threading.Semaphore(0), threading.Event()
    async with Server(service, port=0) as first:
        calls = [asyncio.ensure_future(asyncio.to_thread(call, first.address)) for _ in range(3)]
        for _ in calls:
            await asyncio.to_thread(ready.acquire)
        go.set()
        time.sleep(0.3)  # noqa: ASYNC251  it is too busy to begin what comes now
    async with Server(service, port=first.port):
        assert sorted(await asyncio.gather(*calls)) == [4, 5, 6]
