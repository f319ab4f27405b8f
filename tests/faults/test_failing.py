"""A generator that fails, at any position: its caller has exactly the items before, and then exactly one status."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from weakref import WeakSet

import grpc
import httpx
import pytest
from h2.events import DataReceived
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from plain_client import plain
from raw_http2 import RawHttp2, message
from waiting import eventually

from ephaptic_grpc import CallError, Limits, Server, Service, ServiceError, connect
from ephaptic_grpc.asgi import web_app
from ephaptic_grpc.payload import pack

failing = Service("faults.v1.FailingService")

ERRORS = {
    "meant": (ServiceError(grpc.StatusCode.DATA_LOSS, "here"), grpc.StatusCode.DATA_LOSS),
    "not meant": (RuntimeError("here"), grpc.StatusCode.INTERNAL),
    "cancelled": (asyncio.CancelledError(), grpc.StatusCode.INTERNAL),
    "stopped": (GeneratorExit(), grpc.StatusCode.INTERNAL),
    "exits": (SystemExit(3), grpc.StatusCode.INTERNAL),
}


@failing.expose
async def on_loop(position: int, error: str, rests: bool) -> AsyncIterator[int]:
    for item in range(position):
        yield item
        if rests:
            await asyncio.sleep(0)
    raise ERRORS[error][0]


@failing.expose
def in_thread(position: int, error: str, rests: bool) -> Iterator[int]:
    yield from range(position)
    raise ERRORS[error][0]


@failing.expose
async def in_a_timeout(items: int) -> AsyncIterator[int]:
    async with asyncio.timeout(0.05):
        for item in range(items):
            yield item
        await asyncio.Event().wait()


let_go = asyncio.Event()


@failing.expose
async def deaf() -> None:
    while not let_go.is_set():
        with suppress(asyncio.CancelledError):
            await let_go.wait()


async def read(client, function: str, *arguments) -> tuple[list[int], grpc.StatusCode]:
    """What came, and how it ended."""
    items: list[int] = []
    try:
        async for item in client.call(function, *arguments):
            items += [item]
    except CallError as error:
        return items, error.code
    return items, grpc.StatusCode.OK


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


@pytest.fixture(scope="module")
def client(runner):
    server = Server(failing, port=0)
    runner.run(server.start())
    connected = connect(server.address, failing)
    yield connected
    runner.run(connected.close())
    runner.run(server.stop(0))


@pytest.mark.once
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    function=st.sampled_from(["on_loop", "in_thread"]),
    position=st.integers(0, 600),
    error=st.sampled_from([*ERRORS]),
    rests=st.booleans(),
    batches=st.booleans(),
)
@example(function="on_loop", position=0, error="meant", rests=False, batches=True)
@example(function="in_thread", position=0, error="not meant", rests=False, batches=False)
@example(function="on_loop", position=256, error="not meant", rests=False, batches=True)
@example(function="in_thread", position=1, error="cancelled", rests=False, batches=True)
def test_all_items_before_a_failure_arrive_and_then_one_status(
    runner, client, function, position, error, rests, batches
):
    called = client if batches else plain(client)
    items, code = runner.run(read(called, function, position, error, rests))
    assert items == [*range(position)]
    assert code is ERRORS[error][1]


@pytest.mark.once
@pytest.mark.parametrize("batches", [True, False])
def test_a_timeout_around_a_yield_ends_the_call(runner, client, batches):
    """A bare grpc.aio server leaves the client waiting for ever."""
    called = client if batches else plain(client)
    items, code = runner.run(asyncio.wait_for(read(called, "in_a_timeout", 3), 20))
    assert items == [0, 1, 2]
    assert code is grpc.StatusCode.INTERNAL


@pytest.mark.once
def test_what_swallows_its_cancellation_is_counted_until_it_ends(runner):
    async def check() -> None:
        server = Server(failing, port=0, limits=Limits(calls=1))
        async with server, connect(server.address, failing) as client:
            with pytest.raises(CallError) as caught:
                await client.with_options(timeout=1).deaf()
            assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert await read(client, "in_a_timeout", 1) == ([], grpc.StatusCode.RESOURCE_EXHAUSTED)
            let_go.set()
            await eventually_free(client)

    async def eventually_free(client) -> None:
        while (await read(client, "on_loop", 1, "meant", False))[1] is grpc.StatusCode.RESOURCE_EXHAUSTED:
            pass

    runner.run(asyncio.wait_for(check(), 20))


@pytest.mark.once
@pytest.mark.anyio
async def test_who_leaves_while_a_reply_is_on_its_way_fills_no_log(caplog):
    service = Service("faults.v1.LargeService")

    @service.expose
    async def large(size: int) -> str:
        return "x" * size

    def leave(address: str) -> None:
        with RawHttp2(address) as client:  # whose window has no room for it
            stream = client.send(b"/faults.v1.LargeService/Large", message(pack(b"[100000]")))
            events = client.receive()
            while not any(isinstance(event, DataReceived) for event in events):
                events = client.receive()
            client.http.reset_stream(stream)
            client.flush()
            assert client.call(b"/faults.v1.LargeService/Large", message(pack(b"[1]")))[b"grpc-status"] == b"0"

    async with Server(service, port=0) as server:
        await asyncio.to_thread(leave, server.address)
    assert [record for record in caplog.records if record.name.startswith("grpc")] == []


raised: WeakSet[Exception] = WeakSet()


class KnownError(Exception):
    def __init__(self) -> None:
        raised.add(self)


forgetful = Service("faults.v1.ForgetfulService")


@forgetful.expose
async def value_on_loop() -> int:
    raise KnownError


@forgetful.expose
def value_in_thread() -> int:
    raise KnownError


@forgetful.expose
async def items_on_loop() -> AsyncIterator[int]:
    yield 1
    raise KnownError


@forgetful.expose
def items_in_thread() -> Iterator[int]:
    yield 1
    raise KnownError


@pytest.mark.once
@pytest.mark.anyio
@pytest.mark.parametrize("function", [*forgetful.procedures])
@pytest.mark.parametrize("over", ["grpc", "http"])
async def test_what_a_failed_call_held_waits_for_no_garbage_collector(function, over, monkeypatch):
    """An error holds the frames that it came through, and they hold the request: 4 MiB of it, say."""
    monkeypatch.setattr(logging.getLogger("ephaptic_grpc"), "disabled", True)  # pytest keeps what is logged
    app = httpx.AsyncClient(transport=httpx.ASGITransport(web_app(forgetful)), base_url="http://here")
    path = forgetful.procedures[function].path
    gc.collect()
    gc.disable()
    try:
        async with Server(forgetful, port=0) as server, grpc.aio.insecure_channel(server.address) as channel, app:
            if over == "grpc":
                with pytest.raises(grpc.aio.AioRpcError):
                    _ = [reply async for reply in channel.unary_stream(path)(b"")]
            else:
                await app.post(path, json=[])
            await eventually(lambda: not raised, within=5)
    finally:
        gc.enable()
