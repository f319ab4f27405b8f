"""The part of a soak that goes over the server's limits: how fast it says so, and what others notice."""

import asyncio
import time
from collections.abc import Awaitable

import grpc

from ephaptic_grpc import CallError, Stream, connect
from soak.process import ServerProcess
from soak.report import Figure, percentile
from soak.scale import Say, Scale
from soak.server import LATE_SECONDS, service

_MAX_SECONDS = 1.0


async def bounds(scale: Scale, say: Say) -> list[Figure]:
    """Over the limits: of calls in flight, of threads, and of time."""
    refused: list[float] = []
    beside: list[float] = []
    late: list[float] = []
    with ServerProcess("--calls", scale.bound, "--threads", 2, "--max-timeout", _MAX_SECONDS) as server:
        async with connect(server.address, service) as client:
            held = [asyncio.ensure_future(client.rest(60)) for _ in range(scale.bound)]
            await asyncio.sleep(_MAX_SECONDS / 4)
            until = time.perf_counter() + _MAX_SECONDS / 2
            while time.perf_counter() < until:
                refused.append(await _until(client.echo("?"), grpc.StatusCode.RESOURCE_EXHAUSTED))
                await asyncio.sleep(0.005)
            say(f"{len(refused):,} calls were refused beside {scale.bound} that are served")
            await asyncio.gather(*held, return_exceptions=True)
            threads = [client.sleeps(), client.sleeps()]
            await asyncio.gather(*map(anext, threads))
            for _ in range(scale.deadlines):
                begun = time.perf_counter()
                await client.echo("?")
                beside.append((time.perf_counter() - begun) * 1000)
            say("all threads are taken")
            for call, seconds in (
                (client.rest(60), _MAX_SECONDS),
                (client.echo_in_thread("?"), _MAX_SECONDS),
                (_all(client.waits()), _MAX_SECONDS),
                (_all(client.starts_late()), LATE_SECONDS),
                (_all(client.falls_silent()), LATE_SECONDS),
            ):
                late.append(await _until(call, grpc.StatusCode.DEADLINE_EXCEEDED) - seconds * 1000)
    return [
        Figure("calls beyond the limit that were refused", len(refused), 1, more_is_better=True),
        Figure("p99 of their refusals", percentile(refused, 0.99), 50, "ms", slack=10),
        Figure("p99 of unary calls while all threads are taken", percentile(beside, 0.99), 50, "ms", slack=10),
        Figure("a call over a time limit is told so, after it", max(late), 50, "ms", slack=10),
    ]


async def _all(stream: Stream[int]) -> None:
    async for _ in stream:
        pass


async def _until(call: Awaitable[object], code: grpc.StatusCode) -> float:
    """Milliseconds until a call fails with a status."""
    begun = time.perf_counter()
    try:
        await call
    except CallError as error:
        if error.code is code:
            return (time.perf_counter() - begun) * 1000
        raise
    raise RuntimeError(f"a call that was to be {code.name} was served")
