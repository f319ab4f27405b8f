"""What stands between a generator and the transport: here the transport is the test, and takes items as it likes."""

import asyncio
import itertools
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from waiting import eventually, settled

from ephaptic_grpc import pipe as pipe_module
from ephaptic_grpc.errors import Status
from ephaptic_grpc.limits import AHEAD_BYTES, AHEAD_ITEMS, BATCH_ITEMS, JSON_BYTES, Limits
from ephaptic_grpc.payload import PLAIN, Delivery
from ephaptic_grpc.pipe import Patience, Pipe, produce, produce_in_thread
from ephaptic_grpc.threads import Threads

pytestmark = pytest.mark.anyio

ENDLESS = Patience.of(Limits())


def never(status: Status) -> None:
    raise AssertionError(status)


@pytest.fixture
def threads():
    threads = Threads(2)
    yield threads
    threads.close()


def dump(item: object) -> bytes:
    return str(item).encode()


@pytest.fixture(params=[PLAIN, Delivery(batches=True)], ids=["plain", "batches"])
def pipe(request, anyio_backend) -> Callable[[], Pipe]:
    """Makes a pipe to a caller that takes one item at a time, and to one that takes several."""
    return lambda: Pipe(asyncio.get_running_loop(), JSON_BYTES, request.param)


class Reader:
    """Takes messages one at a time, when it is told to."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, ...]] = []
        self.room = asyncio.Semaphore(0)

    @property
    def items(self) -> list[bytes]:
        return [item for message in self.messages for item in message]

    async def write(self, *items: bytes) -> None:
        self.messages.append(items)
        await self.room.acquire()


Start = Callable[[Pipe], Callable[[], object]]


BOTH_KINDS = pytest.mark.parametrize("kind", ["in_loop", "in_thread"])


@pytest.fixture
def patience(monkeypatch):
    """Items wait for each other as long as it takes: how many there are is not up to the machine."""
    monkeypatch.setattr(pipe_module, "AHEAD_SECONDS", 60)


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
        return (lambda pipe: produce(in_loop, dump, pipe, threads)), state
    return (lambda pipe: produce_in_thread(threads, in_thread, dump, pipe)), state


async def test_the_generator_is_a_few_items_ahead_of_the_write_at_most(start_counting):
    start, state = start_counting
    pipe, reader = Pipe(asyncio.get_running_loop(), JSON_BYTES), Reader()
    stop = start(pipe)
    forwarding = asyncio.create_task(pipe.forward(reader.write, ENDLESS, never))
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


async def test_all_is_written_in_order_and_then_it_ends(start_counting, pipe):
    start, state = start_counting
    pipe, items = pipe(), []

    async def write(*jsons: bytes) -> None:
        items.extend(map(int, jsons))

    start(pipe)
    await asyncio.wait_for(pipe.forward(write, ENDLESS, never), 5)
    assert items == list(range(100))
    assert pipe.ended
    assert pipe.error is None
    assert state["closed"]


async def test_stopping_before_anything_has_begun(start_counting, pipe):
    start, state = start_counting
    pipe = pipe()
    stop = start(pipe)
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    assert state["closed"] == (state["produced"] > 0)


async def test_a_generator_that_waits_for_its_writer_is_closed_without_another_step(start_counting, pipe):
    start, state = start_counting
    pipe, reader = pipe(), Reader()
    stop = start(pipe)
    forwarding = asyncio.create_task(pipe.forward(reader.write, ENDLESS, never))
    produced = await settled(lambda: state["produced"])
    assert produced > 1
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    assert (state["produced"], state["closed"]) == (produced, True)
    forwarding.cancel()
    await asyncio.wait([forwarding])


@pytest.mark.parametrize("delay", [0, 0.0001, 0.001, 0.005])
async def test_stopping_at_any_moment(start_counting, pipe, delay):
    start, state = start_counting
    make_pipe = pipe

    async def write(*items: bytes) -> None:
        await asyncio.sleep(0)

    for _ in range(20):
        state.update(produced=0, closed=False)
        pipe = make_pipe()
        stop = start(pipe)
        forwarding = asyncio.create_task(pipe.forward(write, ENDLESS, never))
        await asyncio.sleep(delay)
        forwarding.cancel()
        await asyncio.wait([forwarding])
        if not pipe.ended:
            pipe.closed = True
            stop()
            await asyncio.wait_for(pipe.wait_for_end(), 5)
        assert state["closed"] == (state["produced"] > 0)


async def test_a_generator_that_sleeps_is_closed_when_its_step_returns(threads):
    begun, wake, closed = threading.Event(), threading.Event(), threading.Event()

    def sleeps() -> Iterator[int]:
        try:
            begun.set()
            wake.wait(20)
            yield 1
            yield 2
        finally:
            closed.set()

    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES)
    stop = produce_in_thread(threads, sleeps, dump, pipe)
    await eventually(begun.is_set)
    pipe.closed = True
    stop()
    assert not closed.is_set()
    wake.set()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    assert closed.is_set()


async def test_one_whose_turn_never_came_ends_at_once(threads):
    release, made = threading.Event(), []
    for _ in range(2):
        threads.submit(lambda: release.wait(10))
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES)
    stop = produce_in_thread(threads, lambda: made.append(1), dump, pipe)
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    release.set()
    assert await threads.run(lambda: 7) == 7
    assert made == []


async def test_a_thread_and_its_writer_never_miss_each_other(threads, pipe):
    def count() -> Iterator[int]:
        for number in range(5000):
            if number % 7 == 0:
                time.sleep(0)
            yield number

    async def write(*jsons: bytes) -> None:
        items.extend(map(int, jsons))
        for _ in range(len(items) % 3):
            await asyncio.sleep(0)

    items: list[int] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        pipe = pipe()
        produce_in_thread(threads, count, dump, pipe)
        await asyncio.wait_for(pipe.forward(write, ENDLESS, never), 60)
    finally:
        sys.setswitchinterval(before)
    assert items == list(range(5000))


async def test_a_cancellation_of_its_own_reaches_the_generator_at_its_yield(threads, pipe):
    seen = []

    async def times_out() -> AsyncIterator[object]:
        try:
            async with asyncio.timeout(0.05):
                for number in itertools.count():
                    yield number
        except TimeoutError:
            seen.append("timeout")
        yield "goes on"

    pipe, reader = pipe(), Reader()
    produce(times_out, dump, pipe, threads)
    forwarding = asyncio.create_task(pipe.forward(reader.write, ENDLESS, never))
    await eventually(lambda: seen == ["timeout"])
    for _ in range(2 * AHEAD_ITEMS):
        reader.room.release()
    await asyncio.wait_for(forwarding, 5)
    assert reader.items == [*map(dump, range(len(reader.items) - 1)), b"goes on"]
    assert pipe.error is None


async def test_what_is_no_generator_is_not_asked_to_be_one(threads, pipe):
    make_pipe = pipe

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

    pipe, reader = make_pipe(), Reader()
    produce(Numbers, dump, pipe, threads)
    for _ in range(2):
        reader.room.release()
    await asyncio.wait_for(pipe.forward(reader.write, ENDLESS, never), 5)
    assert reader.items == [b"1", b"0"]

    pipe = make_pipe()
    stop = produce(Numbers, dump, pipe, threads)
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
        produce_in_thread(threads, outlives, dump, Pipe(asyncio.get_running_loop(), JSON_BYTES))
        await eventually(begun.is_set)

    asyncio.run(main())
    release.set()
    assert closed.wait(5)


async def test_big_items_are_not_produced_ahead(threads, pipe):
    produced = 0

    async def big() -> AsyncIterator[str]:
        nonlocal produced
        while True:
            produced += 1
            yield "x" * AHEAD_BYTES

    pipe, reader = pipe(), Reader()
    stop = produce(big, dump, pipe, threads)
    forwarding = asyncio.create_task(pipe.forward(reader.write, ENDLESS, never))
    for taken in range(1, 5):
        await eventually(lambda taken=taken: len(reader.items) == taken)
        assert await settled(lambda: produced) == taken + 1
        reader.room.release()
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)
    forwarding.cancel()
    await asyncio.wait([forwarding])


async def test_a_generator_that_never_waits_leaves_the_loop_to_others(threads, pipe):
    async def busy() -> AsyncIterator[int]:
        while True:
            yield 1

    async def write(*items: bytes) -> None:
        pass  # never waits, either

    pipe = pipe()
    stop = produce(busy, dump, pipe, threads)
    forwarding = asyncio.create_task(pipe.forward(write, ENDLESS, never))
    async with asyncio.timeout(5):
        for _ in range(100):
            await asyncio.sleep(0)
    forwarding.cancel()
    await asyncio.wait([forwarding])
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)


# --- for a caller that accepts batches


def start(kind: str, items: Callable[[], Iterator[object]], pipe: Pipe, threads: Threads) -> Callable[[], object]:
    """Start a generator of a kind that gives the items of an iterator."""

    async def in_loop() -> AsyncIterator[object]:
        for item in items():
            yield item

    def in_thread() -> Iterator[object]:
        yield from items()

    if kind == "in_loop":
        return produce(in_loop, dump, pipe, threads)
    return produce_in_thread(threads, in_thread, dump, pipe)


@BOTH_KINDS
async def test_the_first_item_leaves_alone_and_what_comes_while_it_is_written_leaves_together(kind, threads, patience):
    produced = 0

    def count() -> Iterator[int]:
        nonlocal produced
        while True:
            produced += 1
            yield produced

    pipe, reader = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(batches=True)), Reader()
    stop = start(kind, count, pipe, threads)
    forwarding = asyncio.create_task(pipe.forward(reader.write, ENDLESS, never))
    for messages in range(1, 8):
        await eventually(lambda messages=messages: len(reader.messages) == messages)
        assert await settled(lambda: produced) <= len(reader.items) + BATCH_ITEMS
        reader.room.release()
    sizes = [len(message) for message in reader.messages]
    assert sizes == [1, 4, 16, 64, BATCH_ITEMS, BATCH_ITEMS, BATCH_ITEMS]
    assert reader.items == [str(number + 1).encode() for number in range(len(reader.items))]
    forwarding.cancel()
    await asyncio.wait([forwarding])
    pipe.closed = True
    stop()
    await asyncio.wait_for(pipe.wait_for_end(), 5)


@BOTH_KINDS
async def test_an_item_that_nothing_follows_leaves_at_once(kind, threads):
    taken = [threading.Event() for _ in range(300)]

    async def in_loop() -> AsyncIterator[int]:
        for number, event in enumerate(taken):
            yield number
            while not event.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0)

    def in_thread() -> Iterator[int]:
        for number, event in enumerate(taken):
            yield number
            assert event.wait(5)

    async def write(*items: bytes) -> None:
        messages.append(items)
        taken[int(items[-1])].set()

    messages: list[tuple[bytes, ...]] = []
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(batches=True))
    if kind == "in_loop":
        produce(in_loop, dump, pipe, threads)
    else:
        produce_in_thread(threads, in_thread, dump, pipe)
    await asyncio.wait_for(pipe.forward(write, ENDLESS, never), 20)
    assert messages == [(str(number).encode(),) for number in range(300)]


async def test_an_item_leaves_before_a_long_step_that_holds_the_loop(threads):
    async def write(*items: bytes) -> None:
        written.extend(items)

    async def holds_the_loop() -> AsyncIterator[int]:
        for number in range(5):
            seen.append(len(written))
            yield number
            time.sleep(0.01)  # noqa: ASYNC251

    written: list[bytes] = []
    seen: list[int] = []
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(batches=True))
    produce(holds_the_loop, dump, pipe, threads)
    await asyncio.wait_for(pipe.forward(write, ENDLESS, never), 5)
    assert seen == [0, 1, 2, 3, 4]


@BOTH_KINDS
async def test_small_items_never_travel_with_more_than_64_kib(kind, threads, patience):
    sizes = [1, 10, 1000, AHEAD_BYTES - 500, 1000, 1, 3 * AHEAD_BYTES, 5, *[7000] * 40, AHEAD_BYTES, AHEAD_BYTES, 1]
    pipe, reader = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(batches=True)), Reader()
    start(kind, lambda: ("x" * size for size in sizes), pipe, threads)
    for _ in sizes:
        reader.room.release()
    await asyncio.wait_for(pipe.forward(reader.write, ENDLESS, never), 5)
    assert list(map(len, reader.items)) == sizes
    assert any(len(message) > 1 for message in reader.messages)
    assert all(len(message) == 1 or sum(map(len, message)) <= AHEAD_BYTES for message in reader.messages)


@BOTH_KINDS
async def test_what_it_raises_comes_after_all_its_items(kind, threads, patience):
    def fails() -> Iterator[int]:
        yield from range(500)
        raise LookupError

    pipe, reader = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(batches=True)), Reader()
    start(kind, fails, pipe, threads)
    for _ in range(500):
        reader.room.release()
    await asyncio.wait_for(pipe.forward(reader.write, ENDLESS, never), 5)
    assert reader.items == [str(number).encode() for number in range(500)]
    assert isinstance(pipe.error, LookupError)


# --- silence


@pytest.mark.parametrize("batches", [False, True])
@BOTH_KINDS
async def test_silence_is_broken_between_items_and_never_during_a_write(kind, batches, threads):
    go_on = [threading.Event(), threading.Event()]

    async def in_loop() -> AsyncIterator[int]:
        for number, event in enumerate(go_on):
            await eventually(event.is_set)
            yield number

    def in_thread() -> Iterator[int]:
        for number, event in enumerate(go_on):
            assert event.wait(5)
            yield number

    async def write(*items: bytes) -> None:
        nonlocal writing
        assert not writing
        writing = True
        messages.append(items)
        await asyncio.sleep(0.05)  # longer than the silence
        writing = False

    messages: list[tuple[bytes, ...]] = []
    writing = False
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(batches, heartbeat=0.01))
    if kind == "in_loop":
        produce(in_loop, dump, pipe, threads)
    else:
        produce_in_thread(threads, in_thread, dump, pipe)
    forwarding = asyncio.create_task(pipe.forward(write, ENDLESS, never))
    for number, event in enumerate(go_on):
        before = len(messages)
        await eventually(lambda before=before: messages[before:].count((b"",)) >= 2)
        event.set()
        await eventually(lambda number=number: (str(number).encode(),) in messages)
    await asyncio.wait_for(forwarding, 5)
    assert [message for message in messages if message != (b"",)] == [(b"0",), (b"1",)]


@pytest.mark.parametrize("at_once", [True, False])
async def test_who_wants_to_know_what_silence_means_is_told_early_and_once(threads, at_once):
    async def items() -> AsyncIterator[int]:
        if not at_once:
            await eventually(lambda: messages)
        yield 1
        await eventually(lambda: len(messages) == 2)
        yield 2

    async def write(*items: bytes) -> None:
        messages.append(items)

    messages: list[tuple[bytes, ...]] = []
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(heartbeat=60, early=True))
    produce(items, dump, pipe, threads)
    await asyncio.wait_for(pipe.forward(write, ENDLESS, never), 5)
    assert messages == [*([(b"1",), (b"",)] if at_once else [(b"",), (b"1",)]), (b"2",)]


async def test_a_reader_that_is_slow_to_take_what_breaks_the_silence_uses_none_of_the_generators_time(threads):
    async def generator() -> AsyncIterator[int]:
        yield 0
        await silent.wait()
        yield 1

    async def write(*items: bytes) -> None:
        if items == (b"",):
            silent.set()
            await asyncio.sleep(1.5)  # longer than the generator may take for an item
        messages.append(items)

    silent, messages, told = asyncio.Event(), [], []
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(heartbeat=0.01))
    produce(generator, dump, pipe, threads)
    await asyncio.wait_for(pipe.forward(write, Patience.of(Limits(idle_timeout=1)), told.append), 20)
    assert messages == [(b"0",), (b"",), (b"1",)]
    assert told == []


async def test_silence_is_broken_while_a_function_has_given_no_iterator_yet_and_while_a_thread_is_awaited(threads):
    async def gives_later() -> Iterator[int]:
        await release.wait()
        return iter([1, 2])

    async def write(*items: bytes) -> None:
        messages.append(items)

    messages: list[tuple[bytes, ...]] = []
    release, taken = asyncio.Event(), threading.Event()
    pipe = Pipe(asyncio.get_running_loop(), JSON_BYTES, Delivery(heartbeat=0.01))
    produce(gives_later, dump, pipe, threads)
    forwarding = asyncio.create_task(pipe.forward(write, ENDLESS, never))
    await eventually(lambda: len(messages) >= 2)
    for _ in range(2):
        threads.submit(lambda: taken.wait(10))
    release.set()
    before = len(messages)
    await eventually(lambda: len(messages) >= before + 3)
    assert set(messages) == {(b"",)}
    taken.set()
    await asyncio.wait_for(forwarding, 5)
    assert messages[-2:] == [(b"1",), (b"2",)]
    assert pipe.error is None
