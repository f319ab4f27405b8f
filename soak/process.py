"""The server's process, as a soak sees and torments it, and a road to it that can be cut."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, nullcontext, suppress
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import NamedTuple, Self

_ROOT = Path(__file__).parents[1]
_PAGE = os.sysconf("SC_PAGE_SIZE")
_START_SECONDS = 60.0


def started(
    module: str, *arguments: object, stdin: int | None = None, stdout: int | None = None, stderr: int | None = None
) -> subprocess.Popen[str]:
    """A module that runs as a program."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(  # noqa: S603  the program is ours
        command, stdin=stdin, stdout=stdout, stderr=stderr, text=True, cwd=_ROOT
    )


class Usage(NamedTuple):
    """What a process has: bytes of memory, threads, open files."""

    memory: int
    threads: int
    files: int


class ServerProcess:
    """``soak.server`` with its options, started and, when it dies, started again by itself."""

    def __init__(self, *options: object) -> None:
        self._process = started("soak.server", *options, stdout=subprocess.PIPE)
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.address = f"127.0.0.1:{self._next('port')}"
        self.pid = int(self._next("serving"))

    def _read(self) -> None:
        with self._process.stdout or nullcontext(()) as lines:
            for line in lines:
                self._lines.put(line)

    def _next(self, word: str) -> str:
        try:
            said, _, value = self._lines.get(timeout=_START_SECONDS).partition(" ")
        except Empty:
            raise RuntimeError("the server does not start") from None
        if said != word:
            raise RuntimeError(f"the server says {said!r} in place of {word!r}")
        return value.strip()

    def kill(self) -> float:
        """End it by SIGKILL; when, by ``time.perf_counter``."""
        os.kill(self.pid, signal.SIGKILL)
        return time.perf_counter()

    def served_again(self) -> None:
        """Wait until it serves after it was killed."""
        self.pid = int(self._next("serving"))

    def usage(self) -> Usage:
        folder = Path("/proc") / str(self.pid)
        memory = int((folder / "statm").read_text().split()[1]) * _PAGE
        return Usage(memory, len([*(folder / "task").iterdir()]), len([*(folder / "fd").iterdir()]))

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        fields = (Path("/proc") / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@asynccontextmanager
async def road(address: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An address that leads to another, and what cuts it: from then on nothing comes through, and nobody is told."""
    host, port = address.split(":")
    cut = asyncio.Event()
    carriers: set[asyncio.Task[None]] = set()
    over = asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError):
            while data := await reader.read(65536):
                if cut.is_set():
                    break
                writer.write(data)
                await writer.drain()
            if cut.is_set():
                await over.wait()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        carriers.add(asyncio.create_task(carry(reader, back)))
        carriers.add(asyncio.create_task(carry(there, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", cut
    finally:
        over.set()
        server.close()
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)
