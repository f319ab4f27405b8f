"""A process on a core of its own, which does what it is told over a pipe."""

import asyncio
import importlib
import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {"asyncio": asyncio.new_event_loop}
with suppress(ImportError):  # there are platforms without a wheel
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop

_STATM: Final = Path("/proc/self/statm")
MEMORY_IS_KNOWN: Final = _STATM.exists()

_ANSWER_SECONDS: Final = 60.0


class Commands:
    """What a worker can be told: the methods of this class and of those below it."""

    async def usage(self) -> tuple[float, int]:
        """Seconds of CPU until now, in all threads, and bytes of memory."""
        pages = int(_STATM.read_text().split()[1]) if MEMORY_IS_KNOWN else 0
        return time.process_time(), pages * mmap.PAGESIZE


class Served(Commands):
    """What a server can be told."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def address(self) -> str:
        return self._address


Role = Callable[..., AbstractAsyncContextManager[Commands]]
"""What a worker is, by arguments that are text; entered when its process starts."""


class Worker:
    """A process that plays a role. It ends when it is closed, and when the process that started it ends, however.

    Args:
        python: the interpreter, of an environment that has what the role needs.
        core: where it runs; None for anywhere.
        loop: a name in ``LOOPS``.
        role: where to find a ``Role``, such as ``bench.ours:server``.
        arguments: of the role, as text.
    """

    def __init__(self, python: str, core: int | None, loop: str, role: str, *arguments: object) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._name = f"{role} on {loop}"
        command = [python, "-m", "bench.worker", str(theirs.fileno()), loop, role, *map(str, arguments)]
        with _pinned(core):
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603  the program is ours
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
        self._process.wait()
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


def _work(descriptor: str, loop: str, role: str, *arguments: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that closes this one
    module, _, name = role.partition(":")
    play: Role = getattr(importlib.import_module(module), name)
    pipe: Connection[Any, Any] = Connection(int(descriptor))
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner, suppress(EOFError, OSError):  # until the pipe is closed
        runner.run(_obey(pipe, play, arguments))


async def _obey(pipe: "Connection[Any, Any]", role: Role, arguments: tuple[str, ...]) -> None:
    async with role(*arguments) as commands:
        while True:
            command, values = await asyncio.to_thread(pipe.recv)
            try:
                answer, failure = await getattr(commands, command)(*values), None
            except Exception:
                answer, failure = None, traceback.format_exc()
            pipe.send((answer, failure))


if __name__ == "__main__":
    _work(*sys.argv[1:])
