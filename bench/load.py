"""What a client is told to do, whichever it is."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench.worker import Commands

TEXT: Final = "What is the capital of France?"
"""What is sent, and what comes back as the reply and as each item."""


@dataclass(frozen=True, slots=True)
class Calls:
    """How a client calls the three functions of the service."""

    reply: Callable[[], Awaitable[str]]
    tokens: Callable[[int], AsyncIterable[object]]
    watch: Callable[[], AsyncIterable[object]]


class Work(NamedTuple):
    """How many calls, items or streams there were, and the figure that they gave."""

    done: int
    figure: float


class Load(Commands):
    """What a client can be told. What comes back is counted, and not looked at."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._held: list[AsyncIterator[object]] = []

    async def unary(self, in_flight: int, seconds: float) -> Work:
        """Calls per second, with so many waiting for their reply at any time."""

        async def call() -> int:
            await self._calls.reply()
            return 1

        return await _rate(call, in_flight, seconds)

    async def stream(self, streams: int, items: int, seconds: float) -> Work:
        """Items per second, with so many streams open at any time, each of so many items."""

        async def read() -> int:
            done = 0
            async for _ in self._calls.tokens(items):
                done += 1
            return done

        return await _rate(read, streams, seconds)

    async def first_item(self, items: int, seconds: float) -> Work:
        """Milliseconds to the first item: the median of many streams, one after the other, each of so many items."""
        until = time.perf_counter() + seconds
        times = []
        while (start := time.perf_counter()) < until:
            stream = aiter(self._calls.tokens(items))
            await anext(stream)
            times.append(time.perf_counter() - start)
            async for _ in stream:
                pass
        return Work(len(times), statistics.median(times) * 1000)

    async def hold(self, streams: int) -> None:
        """Open streams, read the first item of each, and leave them open."""
        for _ in range(streams):
            stream = aiter(self._calls.watch())
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
    return Work(done, done / (time.perf_counter() - start))
