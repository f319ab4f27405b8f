"""The benchmark runs, and reckons right. What it measures is not tested: a busy machine must not fail a build."""

import json
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from bench.chart import chart
from bench.measurements import BARE, OURS, Comparison, Figure, Measurement
from bench.report import as_json, median_interval, ratio, table

pytestmark = pytest.mark.once


def measurement(*, less_is_better: bool = False) -> tuple[Measurement, dict]:
    comparisons = (Comparison(OURS, BARE, goal=2.0),)
    measured = Measurement("stream", "items <per> second", lambda *_: Figure(0), comparisons, less_is_better)
    return measured, {
        BARE: [Figure(value, 10, 20) for value in (10, 20, 30)],
        OURS: [Figure(value, 1, 2) for value in (20, 60, 120)],
    }


def test_ratios_are_of_the_same_round_and_more_is_better():
    measured, figures = measurement()
    assert ratio(measured, measured.comparisons[0], figures) == (3, 2, 4)
    measured, figures = measurement(less_is_better=True)
    assert ratio(measured, measured.comparisons[0], figures) == (1 / 3, 1 / 4, 1 / 2)


@pytest.mark.parametrize(("count", "first"), [(1, 0), (5, 0), (6, 0), (9, 1), (21, 5)])
def test_the_interval_of_a_median(count, first):
    assert median_interval(range(count)) == (first, count - 1 - first)


def test_what_is_written_can_be_read():
    measured = [measurement()]
    assert "items <per> second" in table(measured)
    assert json.loads(json.dumps(as_json(measured)))[0]["comparisons"][0]["ratio"]["median"] == 3
    bars = ET.fromstring(chart(measured, "3 rounds & more"))
    assert "3.00" in [text.text for text in bars.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("command", ["sync-stream", "first-item", "cancel"])
def test_a_subcommand_measures_and_writes(command, tmp_path):
    files = ["--json", tmp_path / "figures.json", "--chart", tmp_path / "chart.svg"]
    arguments = [sys.executable, "-m", "bench", command, "--rounds", "1", "--seconds", "0.02", *files]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "ours on asyncio / bare on asyncio" in done.stdout
    assert "round 1 of 1" in done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())["measurements"][0]["command"] == command
    ET.parse(tmp_path / "chart.svg")


def test_an_unknown_subcommand_says_which_there_are():
    done = subprocess.run([sys.executable, "-m", "bench", "speed"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "sync-stream" in done.stderr
