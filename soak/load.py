"""Parts of a soak that load the server: thousands of streams, bursts, everything at once, a reader who waits."""

import asyncio
import itertools
import json
import operator
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple
from unittest.mock import patch

import grpc

from ephaptic_grpc import CallError, Client, Stream, connect
from ephaptic_grpc.connections import ChannelOptions
from ephaptic_grpc.remote import Functions, channel_options
from soak.process import ServerProcess, Usage, started
from soak.report import Figure, percentile, slope
from soak.scale import Say, Scale
from soak.server import service

_MIB = 1024 * 1024
_SETTLING_SECONDS = 20.0


async def streams(scale: Scale, say: Say) -> list[Figure]:
    """Streams by the thousand: how fast they open, what they take, and what other calls take meanwhile."""
    with ServerProcess() as server:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(_own_connection(server)) for _ in range(scale.connections)]
            await asyncio.gather(*(client.echo("connected") for client in clients))
            before = server.usage()
            async with _probing(server) as probe:
                begun = time.perf_counter()
                held = [
                    client.waits() for client, _ in zip(itertools.cycle(clients), range(scale.streams), strict=False)
                ]
                await asyncio.gather(*map(anext, held))
                opened = time.perf_counter() - begun
                each = (server.usage().memory - before.memory) / scale.streams / 1024
                say(f"{scale.streams:,} streams are open")
                await asyncio.sleep(5)
            took = await probe
            for stream in held:
                stream.cancel()
    return [
        Figure(f"first items of {scale.streams:,} streams", opened, 10, "s", slack=4),
        Figure("memory of an open stream", each, 30, "KiB", slack=3),
        Figure("p99 of unary calls meanwhile", percentile(took, 0.99), 250, "ms", slack=10),
    ]


@asynccontextmanager
async def _own_connection(server: ServerProcess) -> AsyncIterator[Client]:
    """A client that shares its connection with no other, as all of one process do."""

    def options(functions: Functions, reply_bytes: int | None) -> ChannelOptions:
        return [*channel_options(functions, reply_bytes), ("grpc.use_local_subchannel_pool", 1)]

    with patch("ephaptic_grpc.client.channel_options", options):
        connected = connect(server.address, service)
    async with connected as client:
        yield client


@asynccontextmanager
async def _probing(server: ServerProcess) -> AsyncIterator[Awaitable[list[float]]]:
    """Call all the while from another process; what comes is to be awaited afterwards, and gives milliseconds."""
    prober = started("soak.prober", server.address, "echo", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with prober as process:
        assert process.stdout is not None  # noqa: S101  for type checkers
        await asyncio.to_thread(process.stdout.readline)
        result: asyncio.Future[list[float]] = asyncio.get_running_loop().create_future()
        yield result
        said, _ = await asyncio.to_thread(process.communicate)
        result.set_result(json.loads(said))


async def burst(scale: Scale, say: Say) -> list[Figure]:
    """Thousands of calls at once, and ten times as many as are admitted: each has a status, then all is as before."""
    figures: list[Figure] = []
    with ServerProcess() as server:
        async with connect(server.address, service, timeout=60) as client:
            for name, call in (("calls", lambda: client.rest(0.01)), ("streams", lambda: _all(client.ticks(2)))):
                ends = await _at_once(call, scale.burst)
                say(f"{scale.burst:,} {name} at once: {dict(ends)}")
                figures.append(Figure(f"of {scale.burst:,} {name} at once, lost", scale.burst - ends["OK"], 0))
    with ServerProcess("--calls", scale.bound) as server:
        async with connect(server.address, service, timeout=60) as client:
            await _rate(server, client)
            before = await _rate(server, client)
            refused = lost = 0
            for _ in range(2):
                ends = await _at_once(lambda: client.rest(0.2), 10 * scale.bound)
                say(f"{10 * scale.bound:,} calls, of which {scale.bound} are admitted at a time: {dict(ends)}")
                refused += ends["RESOURCE_EXHAUSTED"]
                lost += 10 * scale.bound - ends["OK"] - ends["RESOURCE_EXHAUSTED"]
            after = await _rate(server, client)
    return [
        *figures,
        Figure("of calls over the bound, neither OK nor RESOURCE_EXHAUSTED", lost, 0),
        Figure("of calls over the bound, refused", refused, 1, more_is_better=True),
        Figure(
            "calls for a second of CPU after the bursts, to those before",
            after / before,
            0.9,
            more_is_better=True,
            slack=3,
        ),
    ]


async def _at_once(call: Callable[[], Awaitable[object]], count: int) -> Counter[str]:
    """How so many calls end that begin together, by their status."""

    async def end() -> str:
        try:
            await call()
        except CallError as error:
            return error.code.name
        return "OK"

    return Counter(await asyncio.gather(*(end() for _ in range(count))))


async def _rate(server: ServerProcess, client: Client) -> float:
    """Calls for each second of the server's CPU, with 16 in flight: what else the machine does matters little."""
    done, used, until = 0, server.cpu(), time.perf_counter() + 3.0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await client.echo("?")
            done += 1

    await asyncio.gather(*(work() for _ in range(16)))
    return done / (server.cpu() - used)


async def mixed(scale: Scale, say: Say) -> list[Figure]:
    """Every kind of call at once, for minutes: nothing grows, and nothing is left."""
    warm_up = scale.seconds / 5
    with ServerProcess() as server:
        async with connect(server.address, service, timeout=60) as client:
            load = _Mixed(server, client)
            # As many threads as there can be at a time, so that none comes later.
            await asyncio.gather(*(_all(client.ticks_in_thread(2, 0.1)) for _ in range(20)))
            await load.run(warm_up, lambda left: say(f"warming up: {left:.0f} s"))
            before = await _settled(server, client, None)
            points = await load.run(scale.seconds, lambda left: say(f"{load.done:,} calls, {left:.0f} s to go"))
            after = await _settled(server, client, before)
    growth = slope([(seconds / 60, usage.memory / _MIB) for seconds, usage in points])
    return [
        Figure("calls that did not end as they should", load.wrong, 0),
        Figure("growth of resident memory", growth, 1, "MiB/min", slack=5),
        Figure("tasks more than at the start", after.tasks - before.tasks, 0),
        Figure("threads of Python more than at the start", after.threads - before.threads, 0),
        Figure("threads of gRPC's own pool more than at the start", after.grpc_threads - before.grpc_threads, 4),
        Figure("file descriptors more than at the start", after.files - before.files, 0),
        Figure("calls", load.done, 1, more_is_better=True),
    ]


class _Mixed:
    """Workers that call every kind of function, each in its own way."""

    def __init__(self, server: ServerProcess, client: Client) -> None:
        self._server = server
        self._client = client
        self.done = 0
        self.wrong = 0

    async def run(self, seconds: float, say: Callable[[float], None]) -> list[tuple[float, Usage]]:
        """Load for so long; what the server had, each second."""
        begun = time.perf_counter()
        until = begun + seconds
        client = self._client
        hurried = client.with_options(timeout=0.02)
        steps: list[Callable[[], Awaitable[object]]] = [
            *(lambda: client.echo("?"),) * 8,
            *(lambda: client.echo_in_thread("?"),) * 2,
            *(lambda: _all(client.ticks(200, 0.0)),) * 2,
            *(lambda: _all(client.ticks(20, 0.01)),) * 4,
            *(lambda: _all(client.ticks_in_thread(100)),) * 2,
            lambda: _fails(_all(client.refuses(3)), grpc.StatusCode.FAILED_PRECONDITION),
            lambda: _fails(hurried.rest(60), grpc.StatusCode.DEADLINE_EXCEEDED),
            lambda: _left(client.ticks(1000, 0.001)),
            lambda: _left(client.ticks_in_thread(1000, 0.001)),
            self._connects,
        ]
        workers = [asyncio.create_task(self._work(step, until)) for step in steps]
        points: list[tuple[float, Usage]] = []
        while (now := time.perf_counter()) < until:
            points.append((now - begun, self._server.usage()))
            say(until - now)
            await asyncio.sleep(1)
        await asyncio.gather(*workers)
        return points

    async def _work(self, step: Callable[[], Awaitable[object]], until: float) -> None:
        while time.perf_counter() < until:
            try:
                await step()
            except (CallError, AssertionError):
                self.wrong += 1
            self.done += 1

    async def _connects(self) -> None:
        async with _own_connection(self._server) as client:
            await client.echo("?")


async def _all(stream: Stream[int]) -> int:
    return len([tick async for tick in stream])


async def _left(stream: Stream[int]) -> None:
    async for tick in stream:
        if tick == 3:
            break


async def _fails(call: Awaitable[object], code: grpc.StatusCode) -> None:
    try:
        await call
    except CallError as error:
        if error.code is code:
            return
        raise
    raise AssertionError("it gave a value")


class _Left(NamedTuple):
    """What a server has when nobody calls it."""

    tasks: int
    threads: int
    grpc_threads: int
    files: int


async def _settled(server: ServerProcess, client: Client, goal: _Left | None) -> _Left:
    """What the server has, when that has come down to a goal or, without one, after a while."""
    until = time.perf_counter() + (_SETTLING_SECONDS if goal else 3.0)
    while True:
        held, usage = await client.held(), server.usage()
        left = _Left(held.tasks, held.threads, usage.threads - held.threads, usage.files)
        if time.perf_counter() > until or (goal and all(map(operator.le, left, goal))):
            return left
        await asyncio.sleep(0.5)


async def slow_reader(scale: Scale, say: Say) -> list[Figure]:
    """A reader that stops to read: the generator waits, and memory stays as it is."""
    with ServerProcess() as server:
        async with connect(server.address, service) as client:
            await client.echo("connected")
            before = server.usage().memory
            stream = client.pours(64 * 1024)
            await anext(stream)
            await asyncio.sleep(2)
            start = most = server.usage().memory
            until = time.perf_counter() + scale.slow
            while (left := until - time.perf_counter()) > 0:
                most = max(most, server.usage().memory)
                say(f"not reading for {left:.0f} s more")
                await asyncio.sleep(0.5)
            stream.cancel()
    return [
        Figure("memory that a slow reader takes of the server", (start - before) / _MIB, 16, "MiB"),
        Figure(f"growth of it in {scale.slow:g} s", (most - start) / _MIB, 1, "MiB"),
    ]
