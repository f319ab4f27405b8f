"""What stands between a generator and the transport: the generator runs apart from the task that writes.

In a task (or thread) of its own, a generator can be cancelled, timed out and closed where it waits, while a write that
is under way is never torn: a timeout inside of the generator that ends while an item is being sent must not cancel the
sending. The generator is a few items ahead of the writer at most, and the first one leaves at once. To a caller that
accepts batches, what has come while a message was being written leaves together in the next one.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from time import perf_counter
from typing import Any, Final, NamedTuple, Self

import grpc

from ephaptic_grpc.errors import ServiceError, Status, TooLargeError, log_error
from ephaptic_grpc.limits import (
    AHEAD_BYTES,
    AHEAD_ITEMS,
    AHEAD_RAMP,
    AHEAD_SECONDS,
    BATCH_ITEMS,
    HEARTBEAT_MILLISECONDS,
    Limits,
)
from ephaptic_grpc.payload import PLAIN, Delivery
from ephaptic_grpc.threads import Job, Threads, post

Dump = Callable[[Any], bytes]
"""The JSON of an item."""

Write = Callable[..., Awaitable[object]]
"""Sends the JSON of one item or, to a caller that accepts batches, of several; returns when the transport can take the
next. Empty JSON is no item: it only breaks the silence.
"""

Interrupt = Callable[[Status], object]
"""Ends a call with a status: cancels the task that writes, and tells the caller without waiting for the generator."""

_EARLY_SECONDS: Final = HEARTBEAT_MILLISECONDS / 1000


class Patience(NamedTuple):
    """How long a writer waits for its producer, in seconds (None: for ever), and what a caller is told then."""

    first_item: float | None
    no_first_item: Status
    idle: float | None
    no_item: Status

    @classmethod
    def of(cls, limits: Limits) -> Self:
        first_item, idle = limits.first_item_timeout, limits.idle_timeout
        return cls(first_item, _late(f"no item came within {first_item} s"), idle, _late(f"no item came for {idle} s"))


def _late(text: str) -> Status:
    return Status(grpc.StatusCode.DEADLINE_EXCEEDED, text, ())


class Pipe:
    """The items of one stream between their producer, in the loop or in a thread, and the one task that writes them.

    Args:
        loop: of the task that writes.
        largest: bytes of JSON that an item has at most.
        delivery: how the caller wants the items.

    Attributes:
        closed: nobody reads any more; set by the writer.
        ended: the producer will put nothing more, and its generator is closed.
        error: what the generator raised, to be told after its last item.
    """

    __slots__ = (
        "_ahead",
        "_bytes",
        "_delivery",
        "_items",
        "_largest",
        "_loop",
        "_make_room",
        "_most",
        "_told",
        "_until",
        "_waiting",
        "closed",
        "ended",
        "error",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, largest: int, delivery: Delivery = PLAIN) -> None:
        self._loop: Final = loop
        self._largest: Final = largest
        self._delivery: Final = delivery
        # The producer can be in a thread: `_ahead` and `_told` are its own, `_waiting` is the writer's. Of the others,
        # all that may happen is that it waits for the writer earlier than it has to.
        self._items: Final[list[bytes]] = []
        self._waiting: asyncio.Future[None] | None = None
        self._told: asyncio.Future[None] | None = None
        self._make_room: Callable[[], object] | None = None
        self._most: Final = BATCH_ITEMS if delivery.batches else AHEAD_ITEMS
        self._ahead = 1
        self._bytes = 0
        self._until = 0.0
        self.closed = False
        self.ended = False
        self.error: BaseException | None = None

    def put(self, json: bytes) -> bool:
        """Hand an item to the writer; False where the producer has to wait now until it is taken (``when_taken``).

        In the loop's thread. From another it is ``put_from_thread``.

        Raises:
            TooLargeError: it is too large to be sent.
        """
        size = len(json)
        if size > self._largest:
            raise TooLargeError(size, self._largest)
        self._items.append(json)
        self._bytes += size
        if self._waiting is not None:
            self._wake()
        return self._has_room()

    def put_from_thread(self, json: bytes) -> bool:
        """The same, from the one thread that produces.

        Raises:
            TooLargeError: it is too large to be sent.
            RuntimeError: the loop is gone, and with it who waits.
        """
        size = len(json)
        if size > self._largest:
            raise TooLargeError(size, self._largest)
        self._items.append(json)
        self._bytes += size
        waiting = self._waiting
        if waiting is not None and waiting is not self._told:
            self._told = waiting  # and not `_waiting`, which could be another by now
            self._loop.call_soon_threadsafe(_settle, waiting)
        if len(self._items) <= 1:
            self._until = perf_counter() + AHEAD_SECONDS  # the loop can take it while the generator goes on
        return self._has_room()

    def _has_room(self) -> bool:
        # Not the loop's time: that of uvloop stands still while a generator never waits.
        if len(self._items) < self._ahead and self._bytes < AHEAD_BYTES and perf_counter() < self._until:
            return True
        self._ahead = min(self._ahead * AHEAD_RAMP, self._most)
        return False

    def when_taken(self, make_room: Callable[[], object]) -> None:
        """Call ``make_room`` when all that was put has been taken. In the loop's thread only."""
        self._make_room = make_room
        self._taken()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more will come. In the loop's thread only."""
        self.error = error
        self.ended = True
        if self.closed:
            self.log_late_error()
        self._wake()

    async def forward(self, write: Write, patience: Patience, interrupt: Interrupt) -> None:
        """Write every item, in order, until the producer has ended, or is interrupted for taking too long."""
        items, heartbeat, loop = self._items, self._delivery.heartbeat, self._loop
        take = self._take_many if self._delivery.batches else self._take_one
        early = self._delivery.early
        seconds, status = patience.first_item, patience.no_first_item
        until = 0.0 if seconds is None else loop.time() + seconds
        while True:
            if items:
                await write(*take())
                if early and not self.ended:
                    early = False
                    await write(b"")
                seconds, status, until = patience.idle, patience.no_item, 0.0
            elif self.ended:
                return
            else:
                waiting = self._expect()
                if items:
                    continue  # put by a thread just now, which didn't see that it is waited for
                timer = None
                if seconds is not None:
                    until = until or loop.time() + seconds
                    timer = loop.call_at(until, interrupt, status)
                silent = False
                try:
                    if heartbeat is None:
                        await waiting
                    else:
                        wanted = _EARLY_SECONDS if early else heartbeat
                        silent = not (await asyncio.wait((waiting,), timeout=wanted))[0]
                finally:
                    if timer is not None:
                        timer.cancel()
                if silent:
                    early = False
                    # Without the timer: how long the reader takes is not the generator's time.
                    await write(b"")

    async def wait_for_end(self) -> None:
        while not self.ended:
            await self._expect()

    def log_late_error(self) -> None:
        """Log what a generator raised that no caller is left to be told."""
        if self.error is not None and not isinstance(self.error, asyncio.CancelledError | ServiceError):
            log_error(self.error, "a generator failed after its caller had left")

    def _take_one(self) -> tuple[bytes]:
        json = self._items.pop(0)
        self._taken()
        return (json,)

    def _take_many(self) -> list[bytes]:
        items = self._items
        count = len(items)
        batch = items[:count]
        if count > 1 and sum(map(len, batch)) > AHEAD_BYTES:
            count = _that_fit(batch)
            del batch[count:]
        del items[:count]
        self._taken()
        return batch

    def _taken(self) -> None:
        if self._items:
            return
        self._bytes = 0
        make_room = self._make_room
        if make_room is not None:
            self._make_room = None
            self._until = perf_counter() + AHEAD_SECONDS
            make_room()

    def _expect(self) -> asyncio.Future[None]:
        self._waiting = self._loop.create_future()
        return self._waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            _settle(waiting)


def produce(start: Callable[[], Any], dump: Dump, pipe: Pipe, threads: Threads) -> Callable[[], object]:
    """Start to put what an asynchronous iterator gives into a pipe; what comes back stops it.

    Args:
        start: called in the task that produces. It gives an asynchronous iterator, or something that gives an iterator
            when it is awaited; one that turns out to be synchronous is moved into a thread.
        dump: gives the JSON of an item.
        pipe: is ended when the iterator is closed.
        threads: where to go with a synchronous iterator.
    """
    loop = asyncio.get_running_loop()
    stop_thread: Callable[[], object] | None = None

    async def run(items: AsyncIterator[Any]) -> None:
        step, put = items.__anext__, pipe.put
        item = await step()
        while not pipe.closed:
            if put(dump(item)):
                item = await step()
                continue
            room: asyncio.Future[None] = loop.create_future()
            pipe.when_taken(partial(_settle, room))
            try:
                await room
            except asyncio.CancelledError as error:
                # The generator is parked at a yield. If the call ended, it is closed below; else something that
                # it opened itself (a timeout, a cancel scope) has to be told inside of it.
                throw = getattr(items, "athrow", None)
                if pipe.closed or throw is None:
                    raise
                item = await throw(error)
            else:
                item = await step()

    async def run_and_close() -> BaseException | None:
        nonlocal stop_thread
        failure: BaseException | None = None
        items: Any = None
        try:
            items = start()
            if isawaitable(items):
                items = await items
            if not hasattr(items, "__aiter__"):
                stop_thread = produce_in_thread(threads, lambda: items, dump, pipe)
                return None
            items = aiter(items)
            with suppress(StopAsyncIteration):
                await run(items)
        except BaseException as error:
            failure = error
        try:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        except BaseException as error:
            failure = error if failure is None else failure  # it may be one that is false
        try:
            return failure
        finally:
            del failure  # whose traceback holds this frame

    def end(task: asyncio.Task[BaseException | None]) -> None:
        # Cancelled means: before its first step. Cancelled later, it returns the error that ended the generator.
        if stop_thread is None:
            pipe.end(asyncio.CancelledError() if task.cancelled() else task.result())

    def stop() -> None:
        if stop_thread is None:
            task.cancel()
        else:
            stop_thread()

    task = loop.create_task(run_and_close())
    task.add_done_callback(end)
    return stop


def produce_in_thread(threads: Threads, start: Callable[[], Any], dump: Dump, pipe: Pipe) -> Callable[[], object]:
    """Start to put what an iterator gives, made and run in one thread, into a pipe; what comes back stops it.

    The whole stream stays in one thread and one context, since what a generator opens may be bound to them. It can only
    be closed between two of its steps.
    """
    loop = asyncio.get_running_loop()
    room = threading.Semaphore(0)

    def run(items: Any) -> None:
        put = pipe.put_from_thread
        for item in items:
            if not put(dump(item)):
                loop.call_soon_threadsafe(pipe.when_taken, room.release)
                room.acquire()
            if pipe.closed:
                return

    def run_and_close() -> None:
        failure: BaseException | None = None
        items: Any = None
        try:
            items = start()
            run(items)
        except BaseException as error:  # SystemExit too: it is the generator's, not the server's
            failure = error
        try:
            close = getattr(items, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            failure = error if failure is None else failure  # it may be one that is false
        post(loop, pipe.end, failure)
        del failure  # whose traceback holds this frame

    def stop() -> None:
        if job.take_back():
            pipe.end()  # every thread is taken, and its turn has not come
        else:
            room.release()

    job = Job(partial(copy_context().run, run_and_close))
    threads.submit(job)
    return stop


def _settle(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _that_fit(batch: list[bytes]) -> int:
    """How many items may leave in one message: as many as are small enough together, and at least one."""
    size = 0
    for count, json in enumerate(batch):
        size += len(json)
        if count and size > AHEAD_BYTES:
            return count
    return len(batch)
