"""What `serve --grpc-experiments` chooses changes how gRPC polls. TLS, cancellation and drains must be as without."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENTS = "-event_engine_listener,-event_engine_client"


@pytest.mark.once
@pytest.mark.parametrize(
    ("file", "chosen"),
    [
        ("tests/test_server.py", "credentials or strangers"),
        ("tests/faults/test_cancellation.py", "uvloop and (goes_away or killed) and parked"),
        ("tests/faults/test_drain.py", "uvloop and (is_cancelled or left_behind or sleeps_on)"),
        ("tests/wire/test_batches.py", "uvloop"),
    ],
)
def test_it_holds_with_experiments(file, chosen):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file, "-k", chosen]
    environment = {**os.environ, "GRPC_EXPERIMENTS": EXPERIMENTS}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
