"""Server processes for tests of what breaks."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM, Signals

import pytest

PROGRAM = Path(__file__).with_name("slow_service.py")


@dataclass
class ServerProcess:
    """``slow_service`` in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    folder: Path

    def signal(self, number: Signals = SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, within: float) -> int:
        """The exit code, which is there in time."""
        return self.process.wait(within)

    def lines(self) -> list[str]:
        """What it has printed, but for the port."""
        return [line for line in _text(self.folder, "out").splitlines() if not line.startswith("port ")]

    def errors(self) -> str:
        return _text(self.folder, "err")


def running(folder: Path, loop: str, grace: float) -> AbstractContextManager[ServerProcess]:
    """The program, on a loop and with a grace of its own."""
    return _running(folder, [str(PROGRAM), loop, str(grace)], r"^port (\d+)$")


def running_command(folder: Path, loop: str) -> AbstractContextManager[ServerProcess]:
    """The same functions, served by the command line."""
    command = ["-m", "ephaptic_grpc", "serve", "faults.slow_service:slow", "--port", "0", "--loop", loop]
    return _running(folder, command, r"^on 127\.0\.0\.1:(\d+) ")


@contextmanager
def _running(folder: Path, arguments: list[str], listens: str) -> Iterator[ServerProcess]:
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        command = [sys.executable, "-X", "dev", *arguments]
        with subprocess.Popen(command, stdout=out, stderr=err, text=True, cwd=PROGRAM.parents[1]) as process:
            try:
                deadline = time.monotonic() + 20
                while not (found := re.search(listens, _text(folder, "out") + _text(folder, "err"), re.MULTILINE)):
                    assert process.poll() is None, _text(folder, "err")
                    assert time.monotonic() < deadline, "the server process does not listen"
                    time.sleep(0.01)
                yield ServerProcess(process, f"127.0.0.1:{found[1]}", folder)
            finally:
                process.kill()


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text()


@pytest.fixture
def loop_name(anyio_backend: tuple[str, dict[str, bool]]) -> str:
    return "asyncio" if anyio_backend[1]["debug"] else "uvloop"


@pytest.fixture
def start_server(tmp_path: Path, loop_name: str) -> Iterator[Callable[[float], ServerProcess]]:
    """``start_server(grace)``: a server process on the loop of the test."""
    with ExitStack() as stack:
        yield lambda grace: stack.enter_context(running(tmp_path, loop_name, grace))


@pytest.fixture
def start_command(tmp_path: Path, loop_name: str) -> Iterator[Callable[[], ServerProcess]]:
    """``start_command()``: the same, by ``ephaptic-grpc serve``."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running_command(tmp_path, loop_name))
