"""A short soak: the same parts that scripts/soak runs for a quarter of an hour, with less of everything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from soak.report import Figure, missed, slope, table

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(420)
def test_a_short_soak_misses_no_goal(tmp_path):
    """20 SIGKILLs of the server, 1,000 streams, bursts of 5,000 calls, mixed load, a slow reader, and more."""
    command = [sys.executable, "-m", "soak", "--short", "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    found = json.loads((tmp_path / "figures.json").read_text())
    assert [*found] == ["kills", "vanish", "deadlines", "streams", "burst", "bounds", "mixed", "slow-reader"]


def test_a_missed_goal_is_seen():
    figures = [
        Figure("lost", 1, 0),
        Figure("late", 15, 10, "ms", slack=2),
        Figure("throughput", 0.5, 0.9, more_is_better=True),
        Figure("fine", 1, 2),
    ]
    assert missed({"part": figures}, short=False) == 3
    assert missed({"part": figures}, short=True) == 2
    assert table({"part": figures}, short=True).count("NO") == 2
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2


def test_an_unknown_part_says_which_there_are():
    done = subprocess.run([sys.executable, "-m", "soak", "speed"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "slow-reader" in done.stderr
