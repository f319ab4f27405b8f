"""The server that is soaked, as a program. Whenever it dies, it is started again on the same port.

It prints ``port <number>`` once, and ``serving <process>`` whenever it serves.
"""

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import grpc

from ephaptic_grpc import Limits, Server, Service, ServiceError, limits

service = Service("soak.v1.SoakService")

_PARENT_DIED = 1
"""``PR_SET_PDEATHSIG`` of Linux."""


@service.expose
async def echo(text: str) -> str:
    return text


@service.expose
def echo_in_thread(text: str) -> str:
    return text


@service.expose
async def rest(seconds: float) -> None:
    await asyncio.sleep(seconds)


@service.expose
async def ticks(count: int, pause: float = 0.0) -> AsyncIterator[int]:
    for tick in range(count):
        yield tick
        await asyncio.sleep(pause)


@service.expose
def ticks_in_thread(count: int, pause: float = 0.0) -> Iterator[int]:
    for tick in range(count):
        yield tick
        time.sleep(pause)


@service.expose
async def refuses(after: int) -> AsyncIterator[int]:
    for tick in range(after):
        yield tick
    raise ServiceError(grpc.StatusCode.FAILED_PRECONDITION, "as it was told to")


@service.expose
async def pours(size: int) -> AsyncIterator[str]:
    """As much as its reader takes."""
    while True:
        yield "x" * size


_closed: dict[str, float] = {}


@service.expose
async def waits(key: str = "") -> AsyncIterator[int]:
    """One item, and then nothing until it is left."""
    try:
        yield 0
        await asyncio.Event().wait()
    finally:
        _closed[key] = time.time()


@service.expose
async def closed(key: str) -> float:
    """When a stream of ``waits`` was closed, by the machine's clock."""
    while key not in _closed:  # noqa: ASYNC110  there is nothing to be told by
        await asyncio.sleep(0.001)
    return _closed.pop(key)


@service.expose
async def deaf() -> AsyncIterator[int]:
    """Nothing ends it."""
    yield 0
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@service.expose
def sleeps() -> Iterator[int]:
    """A thread that can't be woken."""
    yield 0
    time.sleep(600)


@service.expose
async def within(seconds: float) -> AsyncIterator[int]:
    """An item each millisecond, inside of a timeout."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                yield 0
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise ServiceError(grpc.StatusCode.ABORTED, "the time is over") from None


@service.expose
async def dies_once(runs: Path) -> int:
    """Count a run in a file and, at the first, take the whole process with it."""
    return _run(runs)


@service.expose(idempotent=True)
async def dies_once_and_may(runs: Path, ballast: str = "") -> int:  # noqa: ARG001  it is only sent
    """The same, of a function that clients may call again, with as much to say as it has."""
    return _run(runs)


def _run(runs: Path) -> int:
    with runs.open("a") as file:
        file.write("run\n")
    count = len(runs.read_text().splitlines())
    if count == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return count


LATE_SECONDS = 0.5


@service.expose(first_item_timeout=LATE_SECONDS)
async def starts_late() -> AsyncIterator[int]:
    await asyncio.sleep(60)
    yield 0


@service.expose(idle_timeout=LATE_SECONDS)
async def falls_silent() -> AsyncIterator[int]:
    yield 0
    await asyncio.sleep(60)


class Held(NamedTuple):
    """What the event loop and Python hold."""

    tasks: int
    threads: int


@service.expose
async def held() -> Held:
    return Held(len(asyncio.all_tasks()), threading.active_count())


async def _serve(port: int, bound: Limits) -> None:
    async with Server(service, port=port, grace=1.0, limits=bound) as server:
        _say(f"serving {os.getpid()}")
        await server.wait()


def _serve_again_and_again(port: int, bound: Limits) -> None:
    """Serve in a child, which is forked before gRPC has done anything, and so takes milliseconds to start."""
    stopped = False

    def stop(number: int, frame: object) -> None:  # noqa: ARG001  as signals call it
        nonlocal stopped
        stopped = True
        os.kill(child, signal.SIGTERM)

    while not stopped:
        child = os.fork()
        if not child:
            ctypes.CDLL(None).prctl(_PARENT_DIED, signal.SIGKILL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            asyncio.run(_serve(port, bound), debug=False)
            return
        signal.signal(signal.SIGTERM, stop)
        os.waitpid(child, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keepalive", type=float, nargs=2, metavar=("SILENCE", "TIMEOUT"))
    parser.add_argument("--calls", type=int, default=Limits().calls)
    parser.add_argument("--threads", type=int, default=Limits().threads)
    parser.add_argument("--max-timeout", type=float)
    options = parser.parse_args()
    if options.keepalive:  # minutes are too long for a test
        for name, seconds in zip(("KEEPALIVE_SECONDS", "KEEPALIVE_TIMEOUT_SECONDS"), options.keepalive, strict=True):
            setattr(limits, name, seconds)
    bound = Limits(calls=options.calls, threads=options.threads, max_timeout=options.max_timeout)
    port = _free_port()
    _say(f"port {port}")
    _serve_again_and_again(port, bound)


if __name__ == "__main__":
    _main()
