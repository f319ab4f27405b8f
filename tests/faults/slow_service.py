"""Functions that wait, park and sleep, and tell how they ended. As a program it serves them in a process of its own.

It prints ``port <number>`` when it listens, and ``<key> <how>`` for every function that has ended.
"""

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from ephaptic_grpc import Server, Service

slow = Service("faults.v1.SlowService")

BIG = "x" * 1_000_000
"""An item of which few fit into the transport's window."""

begun: set[str] = set()
ended: dict[str, str] = {}
produced: Counter[str] = Counter()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")  # in one piece: threads say something, too
    sys.stdout.flush()


class told:  # noqa: N801  it reads as a verb
    """Records that a block has begun, and how it has ended."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __enter__(self) -> None:
        begun.add(self.key)

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        ended[self.key] = kind.__name__ if kind else "returned"
        say(f"{self.key} {ended[self.key]}")


@slow.expose
async def coroutine(key: str) -> None:
    with told(key):
        await asyncio.Event().wait()


@slow.expose
def function(key: str, steps: int = 20) -> int:
    with told(key):
        for _ in range(steps):
            time.sleep(0.01)
    return steps


@slow.expose
async def async_waiting(key: str) -> AsyncIterator[str]:
    with told(key):
        yield "first"
        await asyncio.Event().wait()


@slow.expose
async def async_parked(key: str) -> AsyncIterator[str]:
    with told(key):
        while True:
            produced[key] += 1
            yield BIG


@slow.expose
def sync_waiting(key: str) -> Iterator[str]:
    with told(key):
        while True:
            yield "tick"
            time.sleep(0.01)


@slow.expose
def sync_parked(key: str) -> Iterator[str]:
    with told(key):
        while True:
            produced[key] += 1
            yield BIG


@slow.expose
async def takes(key: str, seconds: float) -> str:
    with told(key):
        await asyncio.sleep(seconds)
    return "done"


@slow.expose
async def counts(key: str, items: int, seconds: float) -> AsyncIterator[int]:
    with told(key):
        for item in range(items):
            yield item
            await asyncio.sleep(seconds)


@slow.expose
def counts_sync(key: str, items: int, seconds: float) -> Iterator[int]:
    with told(key):
        for item in range(items):
            yield item
            time.sleep(seconds)


@slow.expose
async def big(items: int) -> AsyncIterator[str]:
    with told("big"):
        for _ in range(items):
            yield BIG


@slow.expose
def sleeps(key: str) -> None:
    begun.add(key)
    time.sleep(60)


@slow.expose
def sleeps_in_stream(key: str) -> Iterator[str]:
    begun.add(key)
    yield "first"
    time.sleep(60)


@slow.expose
async def stubborn(key: str) -> None:
    begun.add(key)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say(f"{key} ignored it")


@slow.expose
async def stubborn_stream(key: str) -> AsyncIterator[str]:
    begun.add(key)
    yield "first"
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            say(f"{key} ignored it")


@slow.expose
async def fails_in_cleanup(key: str) -> AsyncIterator[str]:
    try:
        yield "first"
        await asyncio.Event().wait()
    finally:
        ended[key] = "failed"
        raise RuntimeError("the clean-up failed")


@slow.expose
async def has_begun(key: str) -> None:
    while key not in begun:  # noqa: ASYNC110  threads begin, too
        await asyncio.sleep(0.002)


@slow.expose
async def has_ended(key: str) -> str:
    while key not in ended:  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    return ended[key]


@slow.expose
async def is_parked(key: str) -> int:
    """Wait until a generator makes no more items."""
    last = 0
    while last == 0 or last != produced[key]:
        last = produced[key]
        await asyncio.sleep(0.1)
    return last


async def main(grace: float) -> None:
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 5.0
    if not isinstance(loop, asyncio.BaseEventLoop):
        loop.set_debug(False)  # see tests/conftest.py
    async with Server(slow, port=0, grace=grace) as server:
        say(f"port {server.port}")
        await server.wait()


if __name__ == "__main__":
    loop_name, grace_text = sys.argv[1:]
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    if loop_name == "uvloop":
        import uvloop

        uvloop.run(main(float(grace_text)))
    else:
        asyncio.run(main(float(grace_text)))
