"""Streams over a real connection: in order, in time, side by side, and at home in what asyncio and anyio offer."""

import asyncio
import gc
import logging
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar

import anyio
import grpc
import pytest
from plain_client import plain
from waiting import eventually, settled

from ephaptic_grpc import CallError, Client, Server, Service, ServiceError, connect, current_call

pytestmark = pytest.mark.anyio

BIG = "x" * 1_000_000


@pytest.fixture(params=["batches", "plain"])
def served(request: pytest.FixtureRequest) -> Callable[[Service], AbstractAsyncContextManager[Client]]:
    """Serves a service, for a client that accepts batches and for one that doesn't."""

    @asynccontextmanager
    async def serve(service: Service) -> AsyncIterator[Client]:
        async with Server(service, port=0, grace=0) as server, connect(server.address, service) as client:
            yield client if request.param == "batches" else plain(client)

    return serve


@pytest.fixture
def service() -> Service:
    return Service("streams.v1.StreamsService")


async def everything(stream: AsyncIterator[object], pause: float = 0) -> list[object]:
    """What a stream gives, read slowly where there is a pause; an error comes last, as its status and message."""
    items: list[object] = []
    try:
        async for item in stream:
            items.append(item)
            await asyncio.sleep(pause)
    except CallError as error:
        items.append((error.code.name, error.message.partition(" (error id")[0]))
    return items


INTERNAL = ("INTERNAL", "internal error")

# --- in time and in order


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_an_item_is_seen_before_the_next_is_produced(service, served, kind):
    seen = [threading.Event() for _ in range(5)]

    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        for number, event in enumerate(seen):
            yield number
            await eventually(event.is_set)

    @service.expose
    def in_thread() -> Iterator[int]:
        for number, event in enumerate(seen):
            yield number
            assert event.wait(5)

    async with served(service) as client:
        numbers = []
        async for number in client.call(kind):
            numbers.append(number)
            seen[number].set()
    assert numbers == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("pause", [0, 0.001])
@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_items_keep_their_order(service, served, kind, pause):
    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        for number in range(200):
            yield number

    @service.expose
    def in_thread() -> Iterator[int]:
        yield from range(200)

    async with served(service) as client:
        assert await everything(client.call(kind), pause) == list(range(200))


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_falsy_items_and_no_items_at_all(service, served, kind):
    @service.expose
    async def in_loop(items: list[object]) -> AsyncIterator[object]:
        for item in items:
            yield item

    @service.expose
    def in_thread(items: list[object]) -> Iterator[object]:
        yield from items

    falsy = [0, "", None, [], False, 0.0, {}]
    async with served(service) as client:
        assert await everything(client.call(kind, falsy)) == falsy
        assert await everything(client.call(kind, [])) == []


@pytest.mark.parametrize("pause", [0, 0.01])
@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_items_arrive_before_the_error_that_follows(service, served, kind, pause):
    @service.expose
    async def in_loop(code: bool) -> AsyncIterator[int]:
        yield 1
        yield 2
        raise ServiceError(grpc.StatusCode.NOT_FOUND, "no more") if code else ValueError("a secret")

    @service.expose
    def in_thread(code: bool) -> Iterator[int]:
        yield 1
        yield 2
        raise ServiceError(grpc.StatusCode.NOT_FOUND, "no more") if code else ValueError("a secret")

    async with served(service) as client:
        assert await everything(client.call(kind, True), pause) == [1, 2, ("NOT_FOUND", "no more")]
        assert await everything(client.call(kind, False), pause) == [1, 2, INTERNAL]


# --- side by side


async def test_calls_on_one_connection_do_not_wait_for_each_other(service, served):
    @service.expose
    async def waits() -> None:
        await release.wait()

    @service.expose
    async def floods() -> AsyncIterator[str]:
        while True:
            yield BIG

    @service.expose
    async def answers() -> int:
        return 1

    release = asyncio.Event()
    async with served(service) as client:
        waiting = asyncio.create_task(client.waits())
        unread = client.floods()
        await anext(unread)
        assert await asyncio.wait_for(client.answers(), 5) == 1
        assert not waiting.done()
        release.set()
        await waiting


@pytest.mark.parametrize("kind", ["sleeps", "sleeps_between"])
async def test_a_function_that_sleeps_does_not_hold_others_up(service, served, kind):
    @service.expose
    def sleeps() -> None:
        sleeping.set()
        assert release.wait(10)

    @service.expose
    def sleeps_between() -> Iterator[int]:
        sleeping.set()
        assert release.wait(10)
        yield 1

    @service.expose
    async def answers() -> int:
        return 1

    @service.expose
    def answers_in_thread() -> int:
        return 2

    sleeping, release = threading.Event(), threading.Event()
    async with served(service) as client:
        call = client.call(kind)
        first = asyncio.ensure_future(call if kind == "sleeps" else anext(call))
        await eventually(sleeping.is_set)
        assert await asyncio.wait_for(client.answers(), 5) == 1
        assert await asyncio.wait_for(client.answers_in_thread(), 5) == 2
        assert not first.done()
        release.set()
        await first


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_a_slow_reader_holds_the_generator_back(service, served, kind):
    produced = 0

    @service.expose
    async def in_loop() -> AsyncIterator[str]:
        nonlocal produced
        while True:
            produced += 1
            yield BIG

    @service.expose
    def in_thread() -> Iterator[str]:
        nonlocal produced
        while True:
            produced += 1
            yield BIG

    async with served(service) as client:
        stream = client.call(kind)
        await anext(stream)
        ahead = await settled(lambda: produced)
        assert ahead < 40  # of a megabyte each
        for _ in range(ahead):
            await anext(stream)
        await eventually(lambda: produced > ahead)


async def test_many_streams_at_once(service, served):
    @service.expose
    async def in_loop(start: int) -> AsyncIterator[int]:
        for number in range(start, start + 20):
            yield number
            await asyncio.sleep(0)

    @service.expose
    def in_thread(start: int) -> Iterator[int]:
        yield from range(start, start + 20)

    async with served(service) as client:
        kinds = [client.in_loop, client.in_thread]
        results = await asyncio.gather(*(everything(kinds[i % 2](i)) for i in range(150)))
    assert results == [list(range(i, i + 20)) for i in range(150)]


async def test_more_synchronous_streams_than_threads_take_turns(service):
    from ephaptic_grpc import Limits

    @service.expose
    def count() -> Iterator[int]:
        for number in range(3):
            yield number
            time.sleep(0.005)

    limits = Limits(threads=2)
    async with Server(service, port=0, grace=0, limits=limits) as server, connect(server.address, service) as client:
        assert await asyncio.gather(*(everything(client.count()) for _ in range(10))) == [[0, 1, 2]] * 10


async def test_a_stream_whose_turn_never_came_ends_with_its_call(service):
    from ephaptic_grpc import Limits

    begun = []

    @service.expose
    def holds(name: str) -> Iterator[str]:
        begun.append(name)
        yield name
        release.wait(10)

    release = threading.Event()
    server = Server(service, port=0, grace=0, limits=Limits(threads=1))
    async with server, connect(server.address, service) as client:
        stream = client.holds("first")
        await anext(stream)
        tasks = len(asyncio.all_tasks())
        with pytest.raises(CallError) as caught:
            await anext(client.with_options(timeout=0.1).holds("second"))
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: gc.collect() is not None and len(asyncio.all_tasks()) <= tasks)
        release.set()
        assert await everything(stream) == []
        assert await everything(client.holds("third")) == ["third"]
    assert begun == ["first", "third"]


# --- context


variable: ContextVar[int] = ContextVar("variable", default=0)


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_context_variables_persist_across_yields(service, served, kind):
    ends = []

    @service.expose
    async def in_loop(start: int) -> AsyncIterator[int]:
        token = variable.set(start)
        try:
            for _ in range(10):
                variable.set(variable.get() + 1)
                yield variable.get()
                await asyncio.sleep(0)
        finally:
            variable.reset(token)  # raises in another context
            ends.append(start)

    @service.expose
    def in_thread(start: int) -> Iterator[int]:
        token = variable.set(start)
        try:
            for _ in range(10):
                variable.set(variable.get() + 1)
                yield variable.get()
        finally:
            variable.reset(token)
            ends.append(start)

    async with served(service) as client:
        results = await asyncio.gather(*(everything(client.call(kind, i * 100)) for i in range(5)))
        assert results == [list(range(i * 100 + 1, i * 100 + 11)) for i in range(5)]
        async for _ in client.call(kind, 1000):
            break
        await eventually(lambda: len(ends) == 6)


async def test_the_current_call_is_known_everywhere(service, served):
    def name() -> str:
        return current_call().procedure.name

    async def name_in_task() -> str:
        return await asyncio.create_task(asyncio.to_thread(name))

    @service.expose
    async def coroutine() -> list[str]:
        return [name(), await name_in_task()]

    @service.expose
    def function() -> list[str]:
        return [name(), name()]

    @service.expose
    async def async_generator() -> AsyncIterator[str]:
        yield name()
        yield await name_in_task()

    @service.expose
    def generator() -> Iterator[str]:
        yield name()
        yield name()

    async with served(service) as client:
        assert await client.coroutine() == ["coroutine"] * 2
        assert await client.function() == ["function"] * 2
        assert await everything(client.async_generator()) == ["async_generator"] * 2
        assert await everything(client.generator()) == ["generator"] * 2
    with pytest.raises(LookupError, match="no call is being served here"):
        name()


async def test_what_is_bound_to_a_thread_can_be_used_across_yields(service, served):
    @service.expose
    def rows() -> Iterator[int]:
        connection = sqlite3.connect(":memory:")
        try:
            connection.execute("create table numbers (n)")
            connection.executemany("insert into numbers values (?)", [(n,) for n in range(50)])
            yield connection.execute("select count(*) from numbers").fetchone()[0]
            for row in connection.execute("select n from numbers order by n"):
                yield row[0]
        finally:
            connection.close()
            closed.append(True)

    closed: list[bool] = []
    async with served(service) as client:
        results = await asyncio.gather(*(everything(client.rows(), 0.001) for _ in range(5)))
        assert results == [[50, *range(50)]] * 5
        async for _ in client.rows():
            break
        await eventually(lambda: len(closed) == 6)


# --- timeouts, scopes and groups that span yields


@pytest.mark.parametrize("pause", [0, 0.02])
async def test_timeouts_that_span_yields(service, served, pause):
    ended = []

    @service.expose
    async def asyncio_timeout() -> AsyncIterator[int | str]:
        try:
            async with asyncio.timeout(0.1):
                for number in range(1_000_000):
                    yield number
                    await asyncio.sleep(0.005)
        except TimeoutError:
            ended.append("asyncio_timeout")
            yield "late"

    @service.expose
    async def move_on_after() -> AsyncIterator[int | str]:
        with anyio.move_on_after(0.1) as scope:
            for number in range(1_000_000):
                yield number
                await anyio.sleep(0.005)
        ended.append("move_on_after")
        yield "late" if scope.cancelled_caught else "early"

    @service.expose
    async def fail_after() -> AsyncIterator[int | str]:
        try:
            with anyio.fail_after(0.1):
                for number in range(1_000_000):
                    yield number
                    await anyio.sleep(0.005)
        except TimeoutError:
            ended.append("fail_after")
            yield "late"

    @service.expose
    async def escapes() -> AsyncIterator[int | str]:
        async with asyncio.timeout(0.1):
            for number in range(1_000_000):
                yield number
                await asyncio.sleep(0.005)

    async with served(service) as client:
        for name in ("asyncio_timeout", "move_on_after", "fail_after"):
            items = await asyncio.wait_for(everything(client.call(name), pause), 10)
            assert items[-1] == "late"
            assert items[:-1] == list(range(len(items) - 1))
            assert ended.pop() == name
        items = await asyncio.wait_for(everything(client.escapes(), pause), 10)
        assert items[-1] == INTERNAL


async def test_a_timeout_that_passes_while_nobody_reads(service, served):
    @service.expose
    async def parked() -> AsyncIterator[str]:
        count = 0
        try:
            async with asyncio.timeout(0.3):
                while True:
                    count += 1
                    yield BIG
        except TimeoutError:
            timed_out.set()
        yield str(count)

    timed_out = asyncio.Event()
    async with served(service) as client:
        stream = client.parked()
        await anext(stream)
        await asyncio.wait_for(timed_out.wait(), 5)
        items = [item async for item in stream]
    assert set(items[:-1]) == {BIG}
    # The item at which the generator was parked counts: it had been handed over.
    assert int(items[-1]) == len(items)


@pytest.mark.parametrize("pause", [0, 0.01])
async def test_task_groups_that_span_yields(service, served, pause):
    @service.expose
    async def asyncio_group() -> AsyncIterator[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(queue.put(number))
            for _ in range(10):
                yield await queue.get()

    @service.expose
    async def anyio_group() -> AsyncIterator[int]:
        send, receive = anyio.create_memory_object_stream[int](0)

        async def count() -> None:
            async with send:
                for number in range(10):
                    await send.send(number)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(count)
            async for number in receive:
                yield number

    @service.expose
    async def group_that_fails() -> AsyncIterator[int]:
        async def fail() -> None:
            await asyncio.sleep(0.05)
            raise ServiceError(grpc.StatusCode.ABORTED, "a member failed")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                while True:
                    yield 1
                    await asyncio.sleep(0.01)
        except* ServiceError as errors:
            raise errors.exceptions[0] from None

    @service.expose
    async def anyio_group_that_fails() -> AsyncIterator[int]:
        async def fail() -> None:
            await anyio.sleep(0.05)
            raise LookupError

        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            while True:
                yield 1
                await anyio.sleep(0.01)

    async with served(service) as client:
        assert sorted(await everything(client.asyncio_group(), pause)) == list(range(10))
        assert await everything(client.anyio_group(), pause) == list(range(10))
        items = await asyncio.wait_for(everything(client.group_that_fails(), pause), 10)
        assert items[0] == 1
        assert items[-1][0] in ("ABORTED", "INTERNAL")
        items = await asyncio.wait_for(everything(client.anyio_group_that_fails(), pause), 10)
        assert items[0] == 1
        assert items[-1] == INTERNAL


async def test_scopes_and_groups_end_with_their_call(service, served):
    ended = []

    @service.expose
    async def in_group() -> AsyncIterator[int]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                yield 1
                await asyncio.Event().wait()
        finally:
            ended.append("in_group")

    @service.expose
    async def in_anyio_group() -> AsyncIterator[int]:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                yield 1
                await anyio.sleep_forever()
        finally:
            ended.append("in_anyio_group")

    @service.expose
    async def in_scope() -> AsyncIterator[int]:
        try:
            with anyio.fail_after(60):
                yield 1
                await anyio.sleep_forever()
        finally:
            ended.append("in_scope")

    @service.expose
    async def parked_in_group() -> AsyncIterator[str]:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                while True:
                    yield BIG
        finally:
            ended.append("parked_in_group")

    @service.expose
    async def parked_in_asyncio_group() -> AsyncIterator[str]:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                while True:
                    yield BIG
        finally:
            ended.append("parked_in_asyncio_group")

    async with served(service) as client:
        for name in service.procedures:
            async for _ in client.call(name):
                break
            await eventually(lambda name=name: ended == [name], within=5)
            ended.clear()


# --- generators that don't do as they should


async def test_a_generator_that_yields_while_it_is_closed(service, served, caplog):
    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            yield 2

    @service.expose
    async def parked() -> AsyncIterator[str]:
        try:
            while True:
                yield BIG
        finally:
            yield "more"

    @service.expose
    def in_thread() -> Iterator[int]:
        try:
            while True:
                yield 1
                time.sleep(0.005)
        finally:
            yield 2

    @service.expose
    async def answers() -> int:
        return 1

    async with served(service) as client:
        for name in ("in_loop", "parked", "in_thread"):
            async for _ in client.call(name):
                break
            assert await client.answers() == 1
    # One that is closed where it waits may take its chance and yield, before it is closed for good.
    await eventually(lambda: "generator ignored GeneratorExit" in caplog.text)


async def test_a_generator_that_suppresses_its_cancellation(service, served):
    ended = []

    @service.expose
    async def ends() -> AsyncIterator[int]:
        yield 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("ends")

    @service.expose
    async def goes_on() -> AsyncIterator[int]:
        try:
            yield 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                while True:
                    yield 2
        finally:
            ended.append("goes_on")

    async with served(service) as client:
        for name in ("ends", "goes_on"):
            async for _ in client.call(name):
                break
            await eventually(lambda name=name: name in ended)


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_what_is_raised_in_clean_up_is_logged(service, served, kind, caplog):
    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("the clean-up failed")

    @service.expose
    def in_thread() -> Iterator[int]:
        try:
            while True:
                yield 1
                time.sleep(0.005)
        finally:
            raise RuntimeError("the clean-up failed")

    async with served(service) as client:
        async for _ in client.call(kind):
            break
        await eventually(lambda: "the clean-up failed" in caplog.text)
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["ephaptic_grpc"]


RAISED = [
    SystemExit,
    KeyboardInterrupt,
    StopIteration,
    StopAsyncIteration,
    asyncio.CancelledError,
    GeneratorExit,
    BaseException,
    MemoryError,
]


@pytest.mark.parametrize("error", RAISED)
async def test_whatever_a_function_raises_is_internal_and_the_server_lives_on(service, served, error, caplog):
    @service.expose
    async def coroutine() -> int:
        raise error

    @service.expose
    def function() -> int:
        raise error

    @service.expose
    async def async_generator() -> AsyncIterator[int]:
        yield 1
        raise error

    @service.expose
    def generator() -> Iterator[int]:
        yield 1
        raise error

    @service.expose
    async def answers() -> int:
        return 1

    async with served(service) as client:
        for name in ("coroutine", "function"):
            with pytest.raises(CallError) as caught:
                await asyncio.wait_for(client.call(name), 5)
            assert caught.value.code is grpc.StatusCode.INTERNAL
            assert caught.value.message.startswith("internal error (error id ")
        for name in ("async_generator", "generator"):
            assert await asyncio.wait_for(everything(client.call(name)), 5) == [1, INTERNAL]
        assert await client.answers() == 1
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in records] == ["ephaptic_grpc"] * 4


async def test_a_function_that_cancels_its_own_task(service, served):
    @service.expose
    async def coroutine() -> int:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)
        return 1

    @service.expose
    async def async_generator() -> AsyncIterator[int]:
        yield 1
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    async with served(service) as client:
        with pytest.raises(CallError):
            await asyncio.wait_for(client.coroutine(), 5)
        assert await asyncio.wait_for(everything(client.async_generator()), 5) == [1, INTERNAL]


# --- what counts as a stream


class Countdown:
    """Iterable asynchronously, but no generator."""

    def __init__(self, start: int) -> None:
        self.number = start

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        if not self.number:
            raise StopAsyncIteration
        self.number -= 1
        return self.number


class Up:
    """Iterable by a generator of its own."""

    async def __aiter__(self) -> AsyncIterator[int]:
        yield 1
        yield 2


async def test_all_that_can_be_iterated(service, served):
    @service.expose
    def countdown() -> AsyncIterable[int]:
        return Countdown(3)

    @service.expose
    async def countdown_later() -> AsyncIterator[int]:
        await asyncio.sleep(0)
        return Countdown(3)

    @service.expose
    def up() -> AsyncIterable[int]:
        return Up()

    @service.expose
    async def generator_later() -> AsyncGenerator[int, None]:
        return countdown_generator()

    async def countdown_generator() -> AsyncIterator[int]:
        yield 2
        yield 1

    @service.expose
    async def iterator_later() -> Iterator[int]:
        return iter([3, 4])

    @service.expose
    def iterator() -> Iterator[int]:
        return iter([5, 6])

    @service.expose
    async def unannotated():
        yield "a"

    @service.expose
    def unannotated_in_thread():
        yield "b"

    async with served(service) as client:
        assert await everything(client.countdown()) == [2, 1, 0]
        assert await everything(client.countdown_later()) == [2, 1, 0]
        assert await everything(client.up()) == [1, 2]
        assert await everything(client.generator_later()) == [2, 1]
        assert await everything(client.iterator_later()) == [3, 4]
        assert await everything(client.iterator()) == [5, 6]
        assert await everything(client.unannotated()) == ["a"]
        assert await everything(client.unannotated_in_thread()) == ["b"]


async def test_an_item_that_does_not_fit_ends_the_stream(service, served, caplog):
    closed = []

    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        try:
            yield 1
            yield "a secret"
            yield 3
        finally:
            closed.append("in_loop")

    @service.expose
    def in_thread() -> Iterator[int]:
        try:
            yield 1
            yield "a secret"
            yield 3
        finally:
            closed.append("in_thread")

    async with served(service) as client:
        assert await everything(client.in_loop()) == [1, INTERNAL]
        assert await everything(client.in_thread()) == [1, INTERNAL]
    assert closed == ["in_loop", "in_thread"]


# --- nothing is left behind


@pytest.mark.parametrize("kind", ["in_loop", "in_thread"])
async def test_cancelled_streams_leave_nothing_behind(service, served, kind):
    @service.expose
    async def in_loop() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    @service.expose
    def in_thread() -> Iterator[int]:
        while True:
            yield 1

    async def open_and_leave(times: int) -> None:
        for _ in range(times):
            async for _ in client.call(kind):
                break

    async with served(service) as client:
        await open_and_leave(5)
        await settled(lambda: len(asyncio.all_tasks()))
        gc.collect()
        tasks, threads, objects = len(asyncio.all_tasks()), threading.active_count(), len(gc.get_objects())
        await open_and_leave(200)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
        assert threading.active_count() <= threads + 5
        await eventually(lambda: gc.collect() is not None and len(gc.get_objects()) < objects + 500)
