"""What isn't meant to be done with a client or a server has a defined result, or an error that says what to do."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from loops import backend

from ephaptic_grpc import CallError, connect, connect_sync
from soak.process import ServerProcess
from soak.server import service

pytestmark = [pytest.mark.anyio, pytest.mark.once]

ROOT = Path(__file__).parents[2]
CANCELLED = grpc.StatusCode.CANCELLED


@pytest.fixture
def anyio_backend():
    return backend("uvloop")  # which of them has no part in it


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ServerProcess() as server:
        yield server.address


async def items(stream):
    return [item async for item in stream]


async def test_a_stream_that_was_read_has_no_more(address):
    async with connect(address, service) as client:
        stream = client.ticks(3)
        assert await stream is stream  # to await it, or not, is the same
        assert await items(stream) == [0, 1, 2]
        assert await items(stream) == []
        with connect_sync(address, service) as blocking:
            stream = blocking.ticks(3)
            assert (list(stream), list(stream)) == ([0, 1, 2], [])


async def test_a_stream_that_was_left_cannot_be_read_again(address):
    async with connect(address, service) as client:
        stream = client.ticks(1000, 0.001)
        async for _ in stream:
            break
        with pytest.raises(CallError) as caught:
            await items(stream)
        assert caught.value.code is CANCELLED


async def test_two_loops_over_one_stream_are_an_error_in_both(address):
    async with connect(address, service) as client:
        stream = client.ticks(1000, 0.01)
        ends = await asyncio.gather(items(stream), items(stream), return_exceptions=True)
        assert sorted(type(end).__name__ for end in ends) == ["CallError", "RuntimeError"]


async def test_a_call_by_name_is_read_once(address):
    async with connect(address, "soak.v1.SoakService") as client:
        call = client.echo("x")
        assert await call == "x"
        with pytest.raises(RuntimeError, match="has been read already: await it, or loop over it, once"):
            await call
        call = client.echo("x")
        assert await items(call) == ["x"]
        with pytest.raises(RuntimeError, match="has been read already"):
            await call


async def test_a_client_that_is_closed_during_calls_ends_them(address):
    async with connect(address, service) as client:
        stream = client.waits()
        await anext(stream)
        calls = [asyncio.create_task(client.rest(60)), asyncio.create_task(items(stream))]
        await client.echo("they are on their way")
        await client.close()
        ends = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 20)
        assert [end.code for end in ends] == [CANCELLED, CANCELLED]
        with pytest.raises(RuntimeError, match="the client is closed"):
            await client.echo("?")


async def test_a_blocking_client_that_is_closed_by_another_thread_ends_its_calls(address):
    with connect_sync(address, service) as client:
        streams = [client.waits(), client.waits()]
        for stream in streams:
            next(stream)
        waiting = asyncio.gather(*(asyncio.to_thread(list, stream) for stream in streams), return_exceptions=True)
        await asyncio.to_thread(client.echo, "they are on their way")
        client.close()
        ends = await asyncio.wait_for(waiting, 20)
        assert [end.code for end in ends] == [CANCELLED, CANCELLED]
        with pytest.raises(RuntimeError, match="the client is closed"):
            client.echo("?")


def test_a_client_in_two_event_loops_says_so(address):
    async def call(client):
        return await client.echo("x")

    client = connect(address, service)
    with asyncio.Runner() as runner:
        assert runner.run(call(client)) == "x"
        with pytest.raises(RuntimeError, match="belongs to another event loop: connect once for each loop"):
            asyncio.run(call(client))
        runner.run(client.close())


FORKS = """
import asyncio, os, sys
from ephaptic_grpc import Server, connect, connect_sync
from soak.server import service

address = sys.argv[1]
client = connect(address, service)
runner = asyncio.Runner()

async def call(client):
    return await client.echo("x")

async def call_another():
    async with connect(address, service) as another:
        return await another.echo("x")

async def serve():
    await Server(service, port=0).start()

def in_child(step):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            print(step())
        except RuntimeError as error:
            print(error)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

with connect_sync(address, service) as blocking:
    blocking.echo("x")
    in_child(lambda: asyncio.run(call_another()))  # gRPC's blocking side can be forked
    print(runner.run(call(client)))
in_child(lambda: runner.run(call(client)))
in_child(lambda: asyncio.run(call_another()))
in_child(lambda: asyncio.run(serve()))
in_child(lambda: connect_sync(address, service))
print(runner.run(call(client)))
runner.run(client.close())
"""


def test_a_fork_of_a_process_that_used_grpc_says_so(address):
    command = [sys.executable, "-c", FORKS, address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refused = "this process was forked from one that used gRPC already, and can't"
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["x", "x", *[refused] * 4, "x"], done.stdout
