"""A call that ends before its function does: the function is told, cleans up within a second, and nothing is left.

The server is a process of its own, in Python's development mode; it must not print a word about any of this.
"""

import asyncio
import gc
import signal
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing
from functools import partial
from pathlib import Path

import grpc
import pytest
from faults.conftest import ServerProcess, running
from faults.slow_service import slow
from plain_client import plain

from ephaptic_grpc import CallError, Client, Stream, connect, connect_sync

pytestmark = pytest.mark.anyio

STREAMS = ["async_waiting", "async_parked", "sync_waiting", "sync_parked"]
WITHIN_A_SECOND = 1.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ServerProcess]]:
    """One server process for each event loop, that has to exit cleanly after all that was done to it."""
    started: dict[str, ServerProcess] = {}
    with ExitStack() as stack:

        def get(loop: str) -> ServerProcess:
            if loop not in started:
                started[loop] = stack.enter_context(running(tmp_path_factory.mktemp(loop), loop, 5))
            return started[loop]

        yield get
        for process in started.values():
            process.signal()
        for process in started.values():
            assert process.wait(15) == 0
            assert not process.errors(), process.errors()


@pytest.fixture
def server(servers: Callable[[str], ServerProcess], loop_name: str) -> Iterator[ServerProcess]:
    process = servers(loop_name)
    before = process.errors()
    yield process
    said = process.errors().removeprefix(before)
    assert not said, said


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


class OutOfTheLoopError(Exception):
    pass


Ready = Callable[[], Awaitable[object]]


async def by_break(stream: Stream[str], ready: Ready) -> None:
    async for _ in stream:
        await ready()
        break


async def by_exception(stream: Stream[str], ready: Ready) -> None:
    with pytest.raises(OutOfTheLoopError):
        async for _ in stream:
            await ready()
            raise OutOfTheLoopError


async def by_dropping(stream: Stream[str], ready: Ready) -> None:
    await anext(stream)
    await ready()


async def by_cancel(stream: Stream[str], ready: Ready) -> None:
    await anext(stream)
    await ready()
    stream.cancel()


async def by_aclose(stream: Stream[str], ready: Ready) -> None:
    async with aclosing(stream):
        await anext(stream)
        await ready()


async def by_cancelling_the_task(stream: Stream[str], ready: Ready) -> None:
    started = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await started.wait()
    await ready()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def by_cancelling_the_waiting_task(stream: Stream[str], ready: Ready) -> None:
    await anext(stream)
    await ready()

    async def read() -> None:
        async for _ in stream:
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


WAYS = [
    by_break,
    by_exception,
    by_dropping,
    by_cancel,
    by_aclose,
    by_cancelling_the_task,
    by_cancelling_the_waiting_task,
]


def as_it_is(client: Client) -> Client:
    """It accepts batches."""
    return client


async def has_ended(client: Client, key: str) -> str:
    """How a function ended; CallError with DEADLINE_EXCEEDED where it has not, after a second."""
    return await client.with_options(timeout=WITHIN_A_SECOND).has_ended(key)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("delivery", [as_it_is, plain])
@pytest.mark.parametrize("function", STREAMS)
async def test_a_generator_is_closed_when_its_caller_goes_away(server, key, function, delivery, way):
    async with connect(server.address, slow) as client:
        stream = delivery(client).call(function, key)
        parked = function.endswith("parked")
        await way(stream, partial(client.is_parked if parked else client.has_begun, key))
        del stream
        gc.collect()
        how = await has_ended(client, key)
    assert how == ("CancelledError" if function == "async_waiting" else "GeneratorExit")


@pytest.mark.parametrize("function", STREAMS)
async def test_a_generator_is_closed_when_the_stream_is_dropped_unread(server, key, function):
    async with connect(server.address, slow) as client:
        stream = client.call(function, key)
        await client.has_begun(key)
        del stream
        gc.collect()
        await has_ended(client, key)


@pytest.mark.parametrize("function", STREAMS)
async def test_a_generator_is_closed_when_the_client_is_closed(server, key, function):
    async with connect(server.address, slow) as other:
        async with connect(server.address, slow) as client:
            stream = client.call(function, key)
            await anext(stream)
        await has_ended(other, key)


@pytest.mark.parametrize("function", STREAMS)
async def test_a_generator_is_closed_when_a_blocking_caller_leaves_its_loop(server, key, function):
    with connect_sync(server.address, slow) as client:
        for _ in client.call(function, key):
            break
        async with connect(server.address, slow) as other:
            await has_ended(other, key)


@pytest.mark.parametrize("delivery", [as_it_is, plain])
@pytest.mark.parametrize("function", ["coroutine", *STREAMS])
async def test_the_deadline_ends_a_function(server, key, function, delivery):
    async with connect(server.address, slow) as client:
        call = delivery(client.with_options(timeout=0.5)).call(function, key)
        if function == "coroutine":
            with pytest.raises(CallError) as caught:
                await call
        elif function.endswith("parked"):
            await anext(call)  # and no more: nobody reads
            how = await has_ended(client.with_options(timeout=1.5), key)
            assert how == "GeneratorExit"
        if function != "coroutine":
            with pytest.raises(CallError) as caught:
                async for _ in call:
                    pass
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await has_ended(client, key)


async def test_a_coroutine_is_cancelled_when_its_caller_is(server, key):
    async with connect(server.address, slow) as client:
        task = asyncio.create_task(client.coroutine(key))
        await client.has_begun(key)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert await has_ended(client, key) == "CancelledError"


@pytest.mark.parametrize("cause", ["cancel", "deadline"])
async def test_a_synchronous_function_runs_to_its_end(server, key, cause):
    async with connect(server.address, slow) as client:
        task = asyncio.create_task(client.with_options(timeout=0.1 if cause == "deadline" else None).function(key))
        await client.has_begun(key)
        if cause == "cancel":
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception().code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await has_ended(client, key) == "returned"


CLIENT = """
import asyncio, sys
from faults.slow_service import slow
from ephaptic_grpc import connect

async def main():
    async with connect(sys.argv[1], slow) as client:
        calls = []
        for function in sys.argv[2:]:
            call = client.call(function, function)
            calls.append(call if hasattr(call, "cancel") else asyncio.ensure_future(call))
        for call in calls:
            if not isinstance(call, asyncio.Future):
                await anext(call)
        await client.has_begun("coroutine")
        await client.has_begun("function")
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def client_process(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CLIENT, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])


async def test_functions_end_when_their_client_is_killed(start_server):
    server = start_server(5)
    functions = ["coroutine", "function", *STREAMS]
    async with connect(server.address, slow) as client:
        with client_process(server.address, *functions) as process:
            try:
                assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
                await client.is_parked("async_parked")
                await client.is_parked("sync_parked")
            finally:
                process.send_signal(signal.SIGKILL)
        ends = await asyncio.gather(*(has_ended(client, function) for function in functions))
    assert dict(zip(functions, ends, strict=True)) == {
        "coroutine": "CancelledError",
        "function": "returned",
        "async_waiting": "CancelledError",
        "async_parked": "GeneratorExit",
        "sync_waiting": "GeneratorExit",
        "sync_parked": "GeneratorExit",
    }
    server.signal()
    assert server.wait(15) == 0
    assert not server.errors(), server.errors()


async def test_a_server_that_stops_at_once_ends_its_functions(start_server):
    server = start_server(0)
    async with connect(server.address, slow) as client:
        calls = [client.coroutine("coroutine"), client.function("function", 500)]
        calls += [client.call(function, function) for function in STREAMS]
        unary = [asyncio.ensure_future(call) for call in calls[:2]]
        for stream in calls[2:]:
            await anext(stream)
        await asyncio.gather(client.has_begun("coroutine"), client.has_begun("function"))
        await asyncio.gather(client.is_parked("async_parked"), client.is_parked("sync_parked"))
        server.signal()
        assert server.wait(15) == 0
        await asyncio.wait(unary)
        assert all(isinstance(task.exception(), CallError) for task in unary)
        for stream in calls[2:]:
            with pytest.raises(CallError):
                async for _ in stream:
                    pass
    assert sorted(server.lines()) == [  # and none of the synchronous function, whose thread went with the process
        "async_parked GeneratorExit",
        "async_waiting CancelledError",
        "coroutine CancelledError",
        "sync_parked GeneratorExit",
        "sync_waiting GeneratorExit",
    ]
    assert not server.errors(), server.errors()
