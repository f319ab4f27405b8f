"""Parts of a soak that break something: servers, clients, the road between them."""

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable

import grpc

from ephaptic_grpc import CallError, Client, Stream, connect
from soak.process import ServerProcess, road, started
from soak.report import Figure
from soak.scale import Say, Scale
from soak.server import service

_GRACE_SECONDS = 5.0
"""That of ``ephaptic-grpc serve``."""

_AFTER_SECONDS = 30.0
"""What a later call has to succeed, at most; it is measured, too."""


async def kills(scale: Scale, say: Say) -> list[Figure]:
    """SIGKILL of the server in mid-stream, again and again: what the client sees, and whether it goes on."""
    clean, wrong, lost = 0, 0, 0
    seen: list[float] = []
    again: list[float] = []
    with ServerProcess() as server:
        async with connect(server.address, service, timeout=_AFTER_SECONDS) as client:
            for number in range(1, scale.kills + 1):
                quiet, busy = client.waits(), client.ticks(1_000_000, 0.001)
                await asyncio.gather(anext(quiet), anext(busy))
                killed = server.kill()
                for code, when in await asyncio.gather(*map(_end, (quiet, busy))):
                    clean += code is grpc.StatusCode.OK
                    wrong += code is not grpc.StatusCode.UNAVAILABLE
                    seen.append(when - killed)
                server.served_again()
                back = time.perf_counter()
                lost += not await _goes_on(client)
                again.append(time.perf_counter() - back)
                say(f"kill {number} of {scale.kills}")
    return [
        Figure("streams that ended cleanly although their server was killed", clean, 0),
        Figure("streams that ended with another status than UNAVAILABLE", wrong, 0),
        Figure("slowest UNAVAILABLE after SIGKILL", max(seen), 1, "s", slack=10),
        Figure("clients that could not go on after the restart", lost, 0),
        Figure("slowest first success after the restart", max(again), 5, "s", slack=4),
    ]


async def _end(stream: Stream[int]) -> tuple[grpc.StatusCode, float]:
    try:
        async for _ in stream:
            pass
    except CallError as error:
        return error.code, time.perf_counter()
    return grpc.StatusCode.OK, time.perf_counter()


async def _goes_on(client: Client) -> bool:
    until = time.perf_counter() + _AFTER_SECONDS
    while time.perf_counter() < until:
        try:
            await client.echo("still there?")
            return True
        except CallError:
            await asyncio.sleep(0.01)
    return False


async def vanish(scale: Scale, say: Say) -> list[Figure]:
    """SIGKILL of clients: how long until their generators have been closed."""
    took: list[float] = []
    with ServerProcess() as server:
        async with connect(server.address, service, timeout=_AFTER_SECONDS) as client:
            for number in range(1, scale.vanished + 1):
                key = f"vanished {number}"
                with started("soak.prober", server.address, "waits", key, stdout=subprocess.PIPE) as process:
                    assert process.stdout is not None  # noqa: S101  for type checkers
                    await asyncio.to_thread(process.stdout.readline)
                    killed = time.time()
                    os.kill(process.pid, signal.SIGKILL)
                    took.append((await client.closed(key) - killed) * 1000)
                say(f"client {number} of {scale.vanished}")
    return [Figure("slowest clean-up after a client's SIGKILL", max(took), 100, "ms", slack=20)]


async def black_hole(scale: Scale, say: Say) -> list[Figure]:  # noqa: ARG001  every part is called so
    """A connection over which nothing comes any more, with the figures of production."""
    with ServerProcess() as server:
        async with (
            road(server.address) as (address, cut),
            connect(address, service) as client,
            connect(server.address, service, timeout=120) as other,
        ):
            stream = client.waits("black hole")
            await anext(stream)
            say("the road is cut: at most half a minute")
            cut.set()
            cut_at, cut_on_clock = time.perf_counter(), time.time()
            (code, noticed), closed = await asyncio.gather(_end(stream), other.closed("black hole"))
    return [
        Figure("black hole until the client says UNAVAILABLE", noticed - cut_at, 30, "s"),
        Figure("black hole until the generator is closed", closed - cut_on_clock, 30, "s"),
        Figure("other statuses than UNAVAILABLE", int(code is not grpc.StatusCode.UNAVAILABLE), 0),
    ]


async def drain(scale: Scale, say: Say) -> list[Figure]:
    """SIGTERM of a process that has calls which nothing ends: what they are told, and when the process has ended."""
    codes: list[grpc.StatusCode] = []
    took: list[float] = []
    for number in range(1, scale.drains + 1):
        command = ("ephaptic_grpc", "serve", "soak.server:service", "--port", 0)
        with started(*command, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None  # noqa: S101  for type checkers
            while not (found := re.match(r"on (\S+) ", await asyncio.to_thread(process.stderr.readline))):
                if process.poll() is not None:
                    raise RuntimeError("the server does not start")
            async with connect(found[1], service) as client:
                calls = [client.deaf(), client.sleeps(), client.waits()]
                for call in calls:
                    await anext(call)
                begun = time.perf_counter()
                process.terminate()
                codes += [code for code, _ in await asyncio.gather(*map(_end, calls))]
                await asyncio.to_thread(process.communicate)
                took.append(time.perf_counter() - begun - _GRACE_SECONDS)
        say(f"drain {number} of {scale.drains}")
    wrong = sum(code is not grpc.StatusCode.UNAVAILABLE for code in codes)
    return [
        Figure("calls of a drain that ended with another status than UNAVAILABLE", wrong, 0),
        Figure("exit after the grace, whatever ignores it", max(took), 1, "s", slack=10),
    ]


async def deadlines(scale: Scale, say: Say) -> list[Figure]:
    """Deadlines: how late the status is, how late the generator is closed; and a timeout around a yield."""
    late: list[float] = []
    late_closed: list[float] = []
    wrong = 0
    with ServerProcess() as server:
        async with connect(server.address, service) as client:
            await client.echo("connected")
            for number in range(1, scale.deadlines + 1):
                key, hurried = f"deadline {number}", client.with_options(timeout=0.1)
                ends = [await _timed(hurried.rest, 60)]
                on_clock = time.time()
                ends.append(await _timed(_drained, hurried, "waits", key))
                late_closed.append((await client.closed(key) - on_clock - 0.1) * 1000)
                wrong += sum(code is not grpc.StatusCode.DEADLINE_EXCEEDED for code, _ in ends)
                ends.append(await _timed(_drained, client, "within", 0.1))
                wrong += ends[-1][0] is not grpc.StatusCode.ABORTED
                late.extend((seconds - 0.1) * 1000 for _, seconds in ends)
                say(f"deadline {number} of {scale.deadlines}")
    return [
        Figure("slowest status after a deadline, or a timeout around a yield", max(late), 50, "ms", slack=40),
        Figure("slowest clean-up after a deadline", max(late_closed), 100, "ms", slack=20),
        Figure("calls that ended with another status", wrong, 0),
    ]


async def _timed(call: Callable[..., Awaitable[object]], *arguments: object) -> tuple[grpc.StatusCode, float]:
    """How a call ended, and how many seconds it took."""
    begun = time.perf_counter()
    code = grpc.StatusCode.OK
    try:
        await call(*arguments)
    except CallError as error:
        code = error.code
    return code, time.perf_counter() - begun


async def _drained(client: Client, function: str, argument: object) -> None:
    async for _ in client.call(function, argument):
        pass
