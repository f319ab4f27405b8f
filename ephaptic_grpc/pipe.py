"""What stands between a generator and the transport: the generator runs apart from the task that writes.

In a task (or thread) of its own, a generator can be cancelled, timed out and closed where it waits, while a write that
is under way is never torn: a timeout inside of the generator that ends while an item is being sent must not cancel the
sending. The generator is a few items ahead of the writer at most, and the first one leaves at once.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import copy_context
from typing import Any, Final

from ephaptic_grpc.errors import ServiceError
from ephaptic_grpc.limits import AHEAD_BYTES, AHEAD_ITEMS, AHEAD_SECONDS
from ephaptic_grpc.threads import Threads, post

logger = logging.getLogger("ephaptic_grpc")

Dump = Callable[[Any], bytes]
"""The JSON of an item."""


class Pipe:
    """The items of one stream between their producer and the one task that writes them.

    Attributes:
        closed: nobody reads any more; set by the writer.
        ended: the producer will put nothing more, and its generator is closed.
        error: what the generator raised, to be told after its last item.
        make_room: set by the producer; called when the last item is taken.
    """

    __slots__ = ("_bytes", "_items", "_loop", "_waiting", "closed", "ended", "error", "make_room")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._items: deque[bytes] = deque()
        self._bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        self.closed = False
        self.ended = False
        self.error: BaseException | None = None
        self.make_room: Callable[[], object] = _nothing

    def put(self, json: bytes) -> None:
        """Hand an item to the writer. In the loop's thread only."""
        self._items.append(json)
        self._bytes += len(json)
        self._wake()

    def has_room(self, items: int) -> bool:
        """Whether fewer than so many items are waiting to be written, and they are small."""
        return len(self._items) < items and self._bytes < AHEAD_BYTES

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more will come. In the loop's thread only."""
        self.error = error
        self.ended = True
        self._wake()

    async def forward(self, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Write every item, in order, until the producer has ended."""
        items = self._items
        while True:
            if items:
                json = items.popleft()
                self._bytes -= len(json)
                if not items:
                    self.make_room()
                await write(json)
            elif self.ended:
                return
            else:
                await self._wait()

    async def wait_for_end(self) -> None:
        while not self.ended:
            await self._wait()

    def log_late_error(self) -> None:
        """Log what a generator raised that no caller is left to be told."""
        if self.error is not None and not isinstance(self.error, asyncio.CancelledError | ServiceError):
            logger.error("a generator failed after its caller had left", exc_info=self.error)

    async def _wait(self) -> None:
        self._waiting = self._loop.create_future()
        await self._waiting

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def produce(items: AsyncIterator[Any], dump: Dump, pipe: Pipe) -> Callable[[], object]:
    """Start to put what an asynchronous iterator gives into a pipe; what comes back stops it."""
    loop = asyncio.get_running_loop()
    room: asyncio.Future[None] | None = None

    def make_room() -> None:
        if room is not None and not room.done():
            room.set_result(None)

    async def run() -> None:
        nonlocal room
        step = items.__anext__
        item = await step()
        ahead, until = 1, 0.0
        while not pipe.closed:
            pipe.put(dump(item))
            if pipe.has_room(ahead) and loop.time() < until:
                item = await step()
                continue
            room = loop.create_future()
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
                ahead, until = min(2 * ahead, AHEAD_ITEMS), loop.time() + AHEAD_SECONDS
                item = await step()

    async def run_and_close() -> BaseException | None:
        failure: BaseException | None = None
        try:
            await run()
        except StopAsyncIteration:
            pass
        except BaseException as error:
            failure = error
        try:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        except BaseException as error:
            failure = failure or error
        return failure

    def end(task: asyncio.Task[BaseException | None]) -> None:
        # Cancelled means: before its first step. Cancelled later, it returns the error that ended the generator.
        pipe.end(asyncio.CancelledError() if task.cancelled() else task.result())

    pipe.make_room = make_room
    task = loop.create_task(run_and_close())
    task.add_done_callback(end)
    return task.cancel


def produce_in_thread(threads: Threads, start: Callable[[], Any], dump: Dump, pipe: Pipe) -> Callable[[], object]:
    """Start to put what an iterator gives, made and run in one thread, into a pipe; what comes back stops it.

    The whole stream stays in one thread and one context, since what a generator opens may be bound to them. It can only
    be closed between two of its steps.
    """
    loop = asyncio.get_running_loop()
    room = threading.Semaphore(0)
    begun = threading.Lock()  # by the thread; or by who stops, so that it never begins

    def run(items: Any) -> None:
        for item in items:
            if pipe.closed or not post(loop, pipe.put, dump(item)):
                return
            room.acquire()
            if pipe.closed:
                return

    def run_and_close() -> None:
        if not begun.acquire(blocking=False):
            return
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
            failure = failure or error
        post(loop, pipe.end, failure)

    def stop() -> None:
        if begun.acquire(blocking=False):
            pipe.end()  # every thread is taken, and its turn has not come
        else:
            room.release()

    context = copy_context()
    pipe.make_room = room.release
    threads.submit(lambda: context.run(run_and_close))
    return stop


def _nothing() -> None:
    """There is no producer that waits."""
