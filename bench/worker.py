"""A process on a core of its own, which does what it is told over a pipe."""

import asyncio
import mmap
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):  # there are platforms without a wheel
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

_STATM: Final = Path("/proc/self/statm")
MEMORY_IS_KNOWN: Final = _STATM.exists()

_ANSWER_SECONDS: Final = 60.0


class Usage(NamedTuple):
    """What a process uses: seconds of CPU until now, in all its threads, and bytes of memory."""

    cpu: float
    memory: int


class Commands:
    """What a worker can be told: the methods of this class and of those below it."""

    async def usage(self) -> Usage:
        pages = int(_STATM.read_text().split()[1]) if MEMORY_IS_KNOWN else 0
        return Usage(time.process_time(), pages * mmap.PAGESIZE)


class Served(Commands):
    """What a server can be told."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def address(self) -> str:
        return self._address


Role = Callable[..., AbstractAsyncContextManager[Commands]]
"""What a worker is; entered when its process starts."""


class Worker:
    """A process that plays a role. It ends when it is closed, and when the process that started it ends, however."""

    def __init__(self, core: int | None, loop: str, role: Role, *arguments: object) -> None:
        spawn = multiprocessing.get_context("spawn")  # grpc doesn't survive a fork
        self._pipe, theirs = spawn.Pipe()
        self._name = f"{role.__module__}.{role.__name__} on {loop}"
        self._process = spawn.Process(target=_work, args=(theirs, loop, role, arguments), daemon=True)
        with _pinned(core):
            self._process.start()
        theirs.close()

    def ask(self, command: str, *arguments: object) -> Any:
        """What a command answers.

        Raises:
            RuntimeError: it failed, or the process ended or is stuck.
        """
        try:
            self._pipe.send((command, arguments))
            if not self._pipe.poll(_ANSWER_SECONDS):
                raise RuntimeError(f"{self._name} took more than {_ANSWER_SECONDS:g} seconds to answer {command!r}")
            answer, failure = self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"{self._name} ended at {command!r}") from None
        if failure is not None:
            raise RuntimeError(f"{self._name} failed at {command!r}:\n{failure}")
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def cores() -> tuple[int | None, int | None]:
    """A core for servers and another for clients; None where there is no other, or processes can't be pinned."""
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (available[0], available[1]) if len(available) > 1 else (None, None)


@contextmanager
def _pinned(core: int | None) -> Iterator[None]:
    """A process that is started here stays on a core, with every thread that it ever has."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _work(pipe: "Connection[Any, Any]", loop: str, role: Role, arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that closes this one
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, suppress(EOFError, OSError):  # until the pipe is closed
        runner.run(_obey(pipe, role, arguments))


async def _obey(pipe: "Connection[Any, Any]", role: Role, arguments: tuple[object, ...]) -> None:
    async with role(*arguments) as commands:
        while True:
            command, values = await asyncio.to_thread(pipe.recv)
            try:
                answer, failure = await getattr(commands, command)(*values), None
            except Exception:
                answer, failure = None, traceback.format_exc()
            pipe.send((answer, failure))
