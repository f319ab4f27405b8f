"""What a client is told to do, whichever it is."""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from bench.worker import Commands

TEXT: Final = "What is the capital of France?"
"""What is sent, and what comes back as the reply and as each item."""


async def _nothing() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Calls:
    """How a client calls the functions of the service.

    Attributes:
        reply: gives one value.
        stream: starts a stream of so many items by the name of its function; ``cancel()`` on it ends the call.
        ended: waits until the last ``watch`` has been cleaned up, and says when that was, by ``time.perf_counter``.
    """

    reply: Callable[[], Awaitable[str]]
    stream: Callable[[str, int], Any]
    ended: Callable[[], Awaitable[str]] = _nothing


Work = tuple[int, float]
"""How many calls, items or streams there were, and the figure that they gave."""


class Load(Commands):
    """What a client can be told."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._held: list[AsyncIterator[object]] = []

    async def unary(self, in_flight: int, seconds: float) -> Work:
        """Calls per second, with so many waiting for their reply at any time."""

        async def call() -> int:
            await self._calls.reply()
            return 1

        return await _rate(call, in_flight, seconds)

    async def stream(self, function: str, streams: int, items: int, seconds: float) -> Work:
        """Items per second, with so many streams open at any time, each of so many items.

        Raises:
            RuntimeError: not all of them came.
        """

        async def read() -> int:
            done = 0
            async for _ in self._calls.stream(function, items):
                done += 1
            if done != items:
                raise RuntimeError(f"{done} of {items} items came")
            return done

        return await _rate(read, streams, seconds)

    async def first_item(self, items: int, seconds: float) -> Work:
        """Milliseconds to the first item: the median of many streams, one after the other, each of so many items."""

        async def measure() -> AsyncGenerator[float, None]:
            while True:
                start = time.perf_counter()
                stream = aiter(self._calls.stream("tokens", items))
                await anext(stream)
                yield time.perf_counter() - start
                async for _ in stream:
                    pass

        return await _median(measure(), seconds)

    async def delay(self, seconds: float) -> Work:
        """Milliseconds from ``yield`` to the loop over the stream, of items that come a millisecond apart."""

        async def measure() -> AsyncGenerator[float, None]:
            stream = self._calls.stream("paced", 1_000_000)
            try:
                async for item in stream:
                    yield time.perf_counter() - float(getattr(item, "text", item))
            finally:
                stream.cancel()  # of a loop that is left, grpc.aio's own client lets the function run on

        return await _median(measure(), seconds)

    async def cancel(self, seconds: float) -> Work:
        """Milliseconds from the cancellation of a stream to the clean-up of its function."""

        async def measure() -> AsyncGenerator[float, None]:
            while True:
                stream = self._calls.stream("watch", 1)
                items = aiter(stream)
                await anext(items)
                start = time.perf_counter()
                stream.cancel()
                yield float(await self._calls.ended()) - start

        return await _median(measure(), seconds)

    async def hold(self, streams: int) -> None:
        """Open streams, read the first item of each, and leave them open."""
        for _ in range(streams):
            stream = aiter(self._calls.stream("watch", 1))
            await anext(stream)
            self._held.append(stream)


async def _rate(step: Callable[[], Awaitable[int]], workers: int, seconds: float) -> Work:
    """What the steps of so many workers do in a second. A step that has begun is finished."""
    start = time.perf_counter()

    async def work() -> int:
        done = 0
        while time.perf_counter() < start + seconds:
            done += await step()
        return done

    done = sum(await asyncio.gather(*(work() for _ in range(workers))))
    return done, done / (time.perf_counter() - start)


async def _median(times: AsyncGenerator[float, None], seconds: float) -> Work:
    """The median, in milliseconds, of what can be measured in a while."""
    until = time.perf_counter() + seconds
    measured = []
    async with aclosing(times):
        async for elapsed in times:
            measured.append(elapsed)
            if time.perf_counter() > until:
                break
    return len(measured), statistics.median(measured) * 1000
