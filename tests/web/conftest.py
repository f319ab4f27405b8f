"""What the tests of browsers start: servers, Envoys, pages. All for real, on free ports of the loopback."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Envoy and browsers are the same whatever the lowest dependencies are."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.once)


@dataclass
class Served:
    """``ephaptic-grpc serve --web`` in a process of its own: where gRPC is, and where browsers go."""

    process: subprocess.Popen[str]
    grpc: str
    web: str
    said: Path

    def lines(self) -> list[str]:
        """What functions have printed."""
        return self.said.read_text().splitlines()


@contextmanager
def serving(module: str, folder: Path, *arguments: str, cwd: Path = HERE) -> Iterator[Served]:
    """Serve a module for browsers until the block ends, unless it has ended before."""
    command = [sys.executable, "-m", "ephaptic_grpc", "serve", module, "--port", "0", "--web", "0", *arguments]
    said = folder / "said"
    with said.open("w") as out, subprocess.Popen(command, cwd=cwd, stdout=out, stderr=-1, text=True) as process:
        try:
            heard = []
            for line in process.stderr:
                heard.append(line)
                if found := re.match(r"on (\S+) \(\w+\), for browsers on (http://\S+)\. ", line):
                    yield Served(process, found[1], found[2], said)
                    break
            else:
                raise AssertionError("".join(heard))
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert process.wait(15) == 0
        finally:
            process.kill()
