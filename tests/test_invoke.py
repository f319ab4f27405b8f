"""From JSON to JSON, without any gRPC: what an edge runs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from ephaptic_grpc import Service, ServiceError
from ephaptic_grpc.errors import Status
from ephaptic_grpc.invoke import stream, unary
from ephaptic_grpc.limits import Limits
from ephaptic_grpc.threads import Threads

pytestmark = pytest.mark.anyio


def never(status: Status) -> None:
    raise AssertionError(status)


@pytest.fixture
def threads():
    threads = Threads(2)
    yield threads
    threads.close()


@pytest.fixture
def service() -> Service:
    return Service("invoke.v1.InvokeService")


class Collected(list[bytes]):
    async def write(self, json: bytes) -> None:
        self.append(json)


async def test_one_value(service, threads):
    @service.expose
    async def in_loop(a: int, b: int = 2) -> int:
        assert threading.current_thread() is threading.main_thread()
        return a * b

    @service.expose
    def in_thread(a: int, b: int = 2) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return a * b

    for procedure in service.procedures.values():
        run = unary(procedure, threads, Limits())
        assert await run(b"[3]") == b"6"
        assert await run(b'{"a": 3, "b": 3}') == b"9"
        with pytest.raises(ServiceError) as caught:
            await run(b"")
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_of_values(service, threads):
    @service.expose
    async def in_loop(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @service.expose
    def in_thread(count: int) -> Iterator[int]:
        yield from range(count)

    for procedure in service.procedures.values():
        run, collected = stream(procedure, threads, Limits()), Collected()
        await run(b"[3]", collected.write, never)
        assert collected == [b"0", b"1", b"2"]
        with pytest.raises(ServiceError):
            await run(b'["three"]', collected.write, never)
        assert len(collected) == 3


async def test_exceptions_leave_as_they_are_after_the_items(service, threads):
    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        yield 1
        raise LookupError("in the generator")

    @service.expose
    def in_thread() -> Iterator[int]:
        yield 1
        raise LookupError("in the generator")

    for procedure in service.procedures.values():
        collected = Collected()
        with pytest.raises(LookupError, match="in the generator"):
            await stream(procedure, threads, Limits())(b"", collected.write, never)
        assert collected == [b"1"]


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_a_write_that_fails_ends_the_generator(service, threads, kind):
    closed = []

    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(kind)

    @service.expose
    def in_thread() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(kind)

    async def write(json: bytes) -> None:
        raise ConnectionError("the caller has gone")

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(stream(service.procedures[kind], threads, Limits())(b"", write, never), 5)
    assert closed == [kind]


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_the_generator_is_closed_before_a_cancelled_stream_ends(service, threads, kind):
    steps = []

    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0.05)
            steps.append("closed")

    @service.expose
    def in_thread() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            threading.Event().wait(0.05)
            steps.append("closed")

    async def write(json: bytes) -> None:
        begun.set()
        await asyncio.sleep(0)

    begun = asyncio.Event()
    task = asyncio.ensure_future(stream(service.procedures[kind], threads, Limits())(b"", write, never))
    await begun.wait()  # else a thread may not have had its turn, and has nothing to close
    task.cancel()
    await asyncio.wait([task])
    steps.append("ended")
    assert task.cancelled()
    assert steps == ["closed", "ended"]
