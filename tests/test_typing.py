"""What type checkers see, as they see it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.once
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_bound_function_keeps_its_parameters_and_result(checker):
    if importlib.util.find_spec(checker) is None:
        assert not os.environ.get("CI"), f"{checker} is not installed: it is in the dependency group 'check'"
        pytest.skip(f"{checker} is not installed")
    command = {
        "mypy": ["mypy", "--strict", "tests/typing"],
        "pyright": ["pyright", "--pythonpath", sys.executable, "tests/typing"],
    }[checker]
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
