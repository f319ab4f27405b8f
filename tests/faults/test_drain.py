"""A server process that is told to stop: what is in flight finishes, what can't is cancelled, and the process exits."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from signal import SIGINT, SIGTERM

import grpc
import pytest
from faults.conftest import ServerProcess
from faults.slow_service import slow
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ephaptic_grpc import CallError, Client, connect

pytestmark = pytest.mark.anyio

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

EITHER_SIGNAL = pytest.mark.parametrize(
    ("anyio_backend", "number"), [("asyncio", SIGTERM), ("uvloop", SIGINT)], indirect=["anyio_backend"]
)


async def first(stream):
    """The stream, with its first item taken: the function is running for sure."""
    await anext(stream)
    return stream


async def rest(stream):
    return [item async for item in stream]


async def exited(server: ServerProcess, within: float) -> None:
    """Wait for the process, which must have ended well."""
    assert await asyncio.to_thread(server.wait, within) == 0


async def refuses(client: Client) -> None:
    """Wait until new calls are refused."""
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    while code is grpc.StatusCode.DEADLINE_EXCEEDED:
        with pytest.raises(CallError) as caught:
            while True:
                await client.with_options(timeout=2).takes("nothing", 0)
        code = caught.value.code
    # A call that is on its way when gRPC stops to listen gets CANCELLED, or once in a while no answer at all.
    assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


@asynccontextmanager
async def narrow_road(address: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address that leads to another, and a gate: while it is closed, nothing comes back from there."""
    host, port = address.split(":")
    gate = asyncio.Event()
    gate.set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, gated: bool) -> None:
        with closing(writer), suppress(ConnectionError):
            while data := await reader.read(4096):
                if gated:
                    await gate.wait()
                writer.write(data)
                await writer.drain()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what waits has to wait in the server
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (host, int(port)))
        there, back = await asyncio.open_connection(sock=connection, limit=4096)
        carriers.add(asyncio.create_task(carry(reader, back, gated=False)))
        carriers.add(asyncio.create_task(carry(there, writer, gated=True)))

    carriers: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", gate
    finally:
        gate.set()
        server.close()
        await asyncio.gather(*carriers)


@EITHER_SIGNAL
async def test_calls_in_flight_finish_within_the_grace(start_server, number):
    server = start_server(10)
    async with connect(server.address, slow) as client:
        unary = asyncio.create_task(client.takes("in flight", 5))
        threaded = asyncio.create_task(client.function("threaded", 100))
        streams = [
            await first(client.counts("stream", 6, 0.2)),
            await first(client.counts_sync("thread", 6, 0.2)),
        ]
        await asyncio.gather(client.has_begun("in flight"), client.has_begun("threaded"))
        server.signal(number)
        async with connect(server.address, slow) as other:
            await refuses(other)
        assert not unary.done()
        assert await unary == "done"
        assert await threaded == 100
        assert await asyncio.gather(*map(rest, streams)) == [[1, 2, 3, 4, 5]] * 2
    await exited(server, within=8)
    assert not server.errors(), server.errors()


async def test_a_stream_whose_end_is_still_on_its_way_arrives_in_full(start_server):
    server = start_server(10)
    async with (
        connect(server.address, slow) as other,
        narrow_road(server.address) as (address, gate),
        connect(address, slow) as client,
    ):
        stream = await first(client.big(3))
        gate.clear()
        await other.has_ended("big")  # the function has returned, but not all that it gave has arrived
        server.signal()
        await refuses(other)
        asyncio.get_running_loop().call_later(0.5, gate.set)
        assert len(await rest(stream)) == 2
    await exited(server, within=8)
    assert not server.errors(), server.errors()


async def told_of_the_drain(call) -> None:
    """Wait for the end of a call that the grace was too short for."""
    with pytest.raises(CallError) as caught:
        await call
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert "draining" in caught.value.message
    assert [detail.reason for detail in caught.value.details] == ["DRAINING"]


@EITHER_SIGNAL
async def test_what_takes_longer_than_the_grace_is_cancelled(start_server, number):
    server = start_server(0.3)
    async with connect(server.address, slow) as client:
        unary = asyncio.create_task(client.coroutine("coroutine"))
        thread = asyncio.create_task(client.sleeps("asleep"))
        functions = ["async_waiting", "sync_waiting", "async_parked", "sync_parked"]
        streams = [await first(client.call(function, function)) for function in functions]
        await asyncio.gather(client.has_begun("coroutine"), client.has_begun("asleep"))
        await asyncio.gather(client.is_parked("async_parked"), client.is_parked("sync_parked"))
        server.signal(number)
        await asyncio.gather(*(told_of_the_drain(call) for call in (unary, thread, *map(rest, streams))))
    await exited(server, within=8)
    assert sorted(server.lines()) == [
        "async_parked GeneratorExit",
        "async_waiting CancelledError",
        "coroutine CancelledError",
        "sync_parked GeneratorExit",
        "sync_waiting GeneratorExit",
    ]
    assert not server.errors(), server.errors()


async def test_health_says_not_serving_before_the_drain_and_its_watchers_do_not_hold_it_up(start_server):
    server = start_server(30)
    async with grpc.aio.insecure_channel(server.address) as channel, connect(server.address, slow) as client:
        health = health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "faults.v1.SlowService")]
        for watch in watches:
            assert (await watch.read()).status == SERVING
        unary = asyncio.create_task(client.takes("in flight", 5))
        await client.has_begun("in flight")
        server.signal()
        for watch in watches:
            assert (await watch.read()).status == NOT_SERVING
        assert not unary.done()
        assert await unary == "done"
        await exited(server, within=8)
    assert not server.errors(), server.errors()


async def test_an_idle_server_exits_at_once(start_server):
    server = start_server(30)
    async with connect(server.address, slow) as client:
        await client.takes("done", 0)
        server.signal()
        await exited(server, within=8)
    assert not server.errors(), server.errors()


@pytest.mark.parametrize("numbers", [(SIGTERM, SIGTERM), (SIGINT, SIGTERM), (SIGINT, SIGINT)])
async def test_a_second_signal_ends_the_grace(start_server, numbers):
    server = start_server(60)
    async with connect(server.address, slow) as client:
        call = asyncio.create_task(client.coroutine("coroutine"))
        await client.has_begun("coroutine")
        server.signal(numbers[0])
        async with connect(server.address, slow) as other:
            await refuses(other)
        assert not call.done()
        server.signal(numbers[1])
        await told_of_the_drain(call)
    await exited(server, within=8)
    assert "coroutine CancelledError" in server.lines()
    assert not server.errors(), server.errors()


@pytest.mark.parametrize("function", ["stubborn", "stubborn_stream"])
async def test_a_function_that_ignores_its_cancellation_is_left_behind(start_command, function):
    server = start_command()
    async with connect(server.address, slow) as client:
        call = client.call(function, "deaf")
        task = asyncio.ensure_future(call) if function == "stubborn" else asyncio.create_task(rest(call))
        await client.has_begun("deaf")
        server.signal()
        async with connect(server.address, slow) as other:
            await refuses(other)
        server.signal()
        await told_of_the_drain(task)
    await exited(server, within=15)
    assert "deaf ignored it" in server.lines()
    path = slow.procedures[function].path
    assert server.errors().count(f"ERROR ephaptic_grpc: {path} ignored its cancellation and was left behind") == 1


@pytest.mark.parametrize("function", ["sleeps", "sleeps_in_stream"])
async def test_a_thread_that_sleeps_on_does_not_hold_up_the_exit(start_server, function):
    server = start_server(0.1)
    async with connect(server.address, slow) as client:
        call = client.call(function, "asleep")
        task = asyncio.ensure_future(call) if function == "sleeps" else asyncio.create_task(rest(call))
        await client.has_begun("asleep")
        server.signal()
        await told_of_the_drain(task)
    await exited(server, within=15)
    path = slow.procedures[function].path
    left_behind = f"ERROR ephaptic_grpc {path} ignored its cancellation and was left behind\n"
    assert server.errors() == ("" if function == "sleeps" else left_behind)


async def test_what_fails_in_its_clean_up_is_logged(start_server):
    server = start_server(0)
    async with connect(server.address, slow) as client:
        stream = await first(client.fails_in_cleanup("broken"))
        server.signal()
        await told_of_the_drain(rest(stream))
    await exited(server, within=8)
    assert "RuntimeError: the clean-up failed" in server.errors()
    assert server.errors().count("ERROR") == 1, server.errors()
