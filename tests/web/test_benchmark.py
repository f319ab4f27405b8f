"""The benchmark of what is between Python and a browser runs. What it measures is not tested."""

import subprocess
import sys

from conftest import HERE


def test_it_measures():
    command = [sys.executable, "-m", "bench", "web", "--rounds", "1", "--seconds", "0.02"]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    for compared in ("envoy on asyncio / ours", "runtime on asyncio / connect-web", "runtime on asyncio / grpc-web"):
        assert compared in done.stdout
