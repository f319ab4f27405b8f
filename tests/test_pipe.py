"""What stands between a generator and the transport: here the transport is the test, and takes items as it likes."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from waiting import eventually, settled

from ephaptic_grpc.limits import AHEAD_BYTES, AHEAD_ITEMS
from ephaptic_grpc.pipe import Pipe, produce, produce_in_thread
from ephaptic_grpc.threads import Threads

pytestmark = pytest.mark.anyio


@pytest.fixture
def threads():
    threads = Threads(2)
    yield threads
    threads.close()


def dump(item: object) -> bytes:
    return str(item).encode()


class Reader:
    """Takes items one at a time, when it is told to."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.room = asyncio.Semaphore(0)

    async def write(self, json: bytes) -> None:
        self.items.append(json)
        await self.room.acquire()


Start = Callable[[Pipe], Callable[[], object]]


@pytest.fixture(params=["in_loop", "in_thread"])
def start_counting(request, threads) -> tuple[Start, dict[str, object]]:
    """Starts a generator that counts, of either kind; and what has become of it."""
    state: dict[str, object] = {"produced": 0, "closed": False, "threads": set()}

    async def in_loop() -> AsyncIterator[int]:
        try:
            for number in range(100):
                state["produced"] = number + 1
                yield number
        finally:
            state["closed"] = True

    def in_thread() -> Iterator[int]:
        try:
            for number in range(100):
                state["produced"] = number + 1
                state["threads"].add(threading.get_ident())
                yield number
        finally:
            state["threads"].add(threading.get_ident())
            state["closed"] = True

    if request.param == "in_loop":
        return (lambda pipe: produce(in_loop(), dump, pipe)), state
    return (lambda pipe: produce_in_thread(threads, in_thread, dump, pipe)), state


async def test_the_generator_is_a_few_items_ahead_of_the_write_at_most(start_counting):
    start, state = start_counting
    pipe, reader = Pipe(asyncio.get_running_loop()), Reader()
    stop = start(pipe)
    forwarding = asyncio.create_task(pipe.forward(reader.write))
    for taken in range(1, 5):
        await eventually(lambda taken=taken: len(reader.items) == taken)
        assert taken < await settled(lambda: state["produced"]) <= taken + AHEAD_ITEMS
        reader.room.release()
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    assert state["closed"]
    assert len(state["threads"]) <= 1
    forwarding.cancel()
    await asyncio.wait([forwarding])


async def test_all_is_written_in_order_and_then_it_ends(start_counting):
    start, state = start_counting
    pipe, items = Pipe(asyncio.get_running_loop()), []

    async def write(json: bytes) -> None:
        items.append(int(json))

    start(pipe)
    await asyncio.wait_for(pipe.forward(write), 5)
    assert items == list(range(100))
    assert pipe.ended
    assert pipe.error is None
    assert state["closed"]


async def test_stopping_before_anything_has_begun(start_counting):
    start, state = start_counting
    pipe = Pipe(asyncio.get_running_loop())
    stop = start(pipe)
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    assert state["closed"] == (state["produced"] > 0)


@pytest.mark.parametrize("delay", [0, 0.0001, 0.001, 0.005])
async def test_stopping_at_any_moment(start_counting, delay):
    start, state = start_counting

    async def write(json: bytes) -> None:
        await asyncio.sleep(0)

    for _ in range(20):
        state.update(produced=0, closed=False)
        pipe = Pipe(asyncio.get_running_loop())
        stop = start(pipe)
        forwarding = asyncio.create_task(pipe.forward(write))
        await asyncio.sleep(delay)
        forwarding.cancel()
        await asyncio.wait([forwarding])
        if not pipe.ended:
            pipe.closed = True
            stop()
            await asyncio.wait_for(pipe.wait_for_end(), 5)
        assert state["closed"] == (state["produced"] > 0)


async def test_a_generator_that_sleeps_is_closed_when_its_step_returns(threads):
    begun, closed = threading.Event(), threading.Event()

    def sleeps() -> Iterator[int]:
        try:
            begun.set()
            time.sleep(0.2)
            yield 1
            yield 2
        finally:
            closed.set()

    pipe = Pipe(asyncio.get_running_loop())
    stop = produce_in_thread(threads, sleeps, dump, pipe)
    await eventually(begun.is_set)
    pipe.closed = True
    stop()
    assert not closed.is_set()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    assert closed.is_set()


async def test_one_whose_turn_never_came_ends_at_once(threads):
    release, made = threading.Event(), []
    for _ in range(2):
        threads.submit(lambda: release.wait(10))
    pipe = Pipe(asyncio.get_running_loop())
    stop = produce_in_thread(threads, lambda: made.append(1), dump, pipe)
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    release.set()
    assert await threads.run(lambda: 7) == 7
    assert made == []


async def test_a_cancellation_of_its_own_reaches_the_generator_at_its_yield():
    seen = []

    async def times_out() -> AsyncIterator[object]:
        try:
            async with asyncio.timeout(0.05):
                for number in itertools.count():
                    yield number
        except TimeoutError:
            seen.append("timeout")
        yield "goes on"

    pipe, reader = Pipe(asyncio.get_running_loop()), Reader()
    produce(times_out(), dump, pipe)
    forwarding = asyncio.create_task(pipe.forward(reader.write))
    await eventually(lambda: seen == ["timeout"])
    for _ in range(2 * AHEAD_ITEMS):
        reader.room.release()
    await asyncio.wait_for(forwarding, 5)
    assert reader.items == [*map(dump, range(len(reader.items) - 1)), b"goes on"]
    assert pipe.error is None


async def test_what_is_no_generator_is_not_asked_to_be_one():
    class Numbers:
        def __init__(self) -> None:
            self.left = 2

        def __aiter__(self):
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    pipe, reader = Pipe(asyncio.get_running_loop()), Reader()
    produce(aiter(Numbers()), dump, pipe)
    for _ in range(2):
        reader.room.release()
    await asyncio.wait_for(pipe.forward(reader.write), 5)
    assert reader.items == [b"1", b"0"]

    pipe = Pipe(asyncio.get_running_loop())
    stop = produce(aiter(Numbers()), dump, pipe)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    pipe.log_late_error()


def test_a_loop_that_ends_first_leaves_the_thread_alone(threads):
    begun, release, closed = threading.Event(), threading.Event(), threading.Event()

    def outlives() -> Iterator[int]:
        try:
            begun.set()
            release.wait(10)
            yield 1
        finally:
            closed.set()

    async def main() -> None:
        produce_in_thread(threads, outlives, dump, Pipe(asyncio.get_running_loop()))
        await eventually(begun.is_set)

    asyncio.run(main())
    release.set()
    assert closed.wait(5)


async def test_big_items_are_not_produced_ahead():
    produced = 0

    async def big() -> AsyncIterator[str]:
        nonlocal produced
        while True:
            produced += 1
            yield "x" * AHEAD_BYTES

    pipe, reader = Pipe(asyncio.get_running_loop()), Reader()
    stop = produce(big(), dump, pipe)
    forwarding = asyncio.create_task(pipe.forward(reader.write))
    for taken in range(1, 5):
        await eventually(lambda taken=taken: len(reader.items) == taken)
        assert await settled(lambda: produced) == taken + 1
        reader.room.release()
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    forwarding.cancel()
    await asyncio.wait([forwarding])


async def test_a_generator_that_never_waits_leaves_the_loop_to_others():
    async def busy() -> AsyncIterator[int]:
        while True:
            yield 1

    async def write(json: bytes) -> None:
        pass  # never waits, either

    pipe = Pipe(asyncio.get_running_loop())
    stop = produce(busy(), dump, pipe)
    forwarding = asyncio.create_task(pipe.forward(write))
    async with asyncio.timeout(5):
        for _ in range(100):
            await asyncio.sleep(0)
    forwarding.cancel()
    await asyncio.wait([forwarding])
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
