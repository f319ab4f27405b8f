"""From the figures of all rounds to ratios, for a person and for a program."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from bench.measurements import Comparison, Figure, Measurement, Variant

Figures = dict[Variant, list[Figure]]
"""What one measurement gave, round by round."""

LEGEND: Final = """\
ratio  ours to bare: the median of the rounds. More is better, also of times and sizes: these are divided the other way
       round. Bare is on asyncio. Ours with 1,000 functions is compared with ours that has 3, in place of bare.
95%    the interval that holds this median 95 times of 100 or more, by order statistics of the rounds' ratios; five
       rounds or fewer can't say so much, and it is from their lowest to their highest.
CPU    the server's: microseconds for each call, item or stream, medians; and bare's to ours, the steadier witness.
met    whether the ratio reaches the goal; "~" where the goal lies within the interval."""

_WIDTHS: Final = (9, 9, 7, 14, 9, 8, 7, 7, 6)


class Ratio(NamedTuple):
    median: float
    low: float
    high: float


def ratio(measurement: Measurement, comparison: Comparison, figures: Figures) -> Ratio:
    """Compare two variants round by round: within a round the machine was the same."""
    pairs = zip(figures[comparison.reference], figures[comparison.variant], strict=True)
    ratios = [a.value / b.value if measurement.less_is_better else b.value / a.value for a, b in pairs]
    return Ratio(median(ratios), *median_interval(ratios))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """An interval that holds the median of where the values come from, 95 times of 100 or more.

    It assumes no distribution, only that a value is above that median as often as below, and is from the lowest to the
    highest of five values or fewer.
    """
    ordered = sorted(values)
    rank, outside = 0, 0.0
    while (outside := outside + math.comb(len(ordered), rank) / 2 ** len(ordered)) <= 0.025:
        rank += 1
    first = max(rank - 1, 0)
    return ordered[first], ordered[-1 - first]


def table(measured: Iterable[tuple[Measurement, Figures]]) -> str:
    lines = [_columns("", "bare", "ours", "ratio", "95%", "CPU bare", "ours", "ratio", "goal", "met")]
    for measurement, figures in measured:
        lines += ["", measurement.title]
        lines += [
            _row(comparison, ratio(measurement, comparison, figures), figures) for comparison in measurement.comparisons
        ]
    return "\n".join(lines)


def as_json(measured: Iterable[tuple[Measurement, Figures]]) -> list[dict[str, Any]]:
    return [
        {
            "name": measurement.name,
            "title": measurement.title,
            "rounds": {str(variant): [figure._asdict() for figure in rounds] for variant, rounds in figures.items()},
            "comparisons": [
                {
                    "variant": str(comparison.variant),
                    "reference": str(comparison.reference),
                    "goal": comparison.goal,
                    "ratio": ratio(measurement, comparison, figures)._asdict(),
                }
                for comparison in measurement.comparisons
            ],
        }
        for measurement, figures in measured
    ]


def _row(comparison: Comparison, found: Ratio, figures: Figures) -> str:
    goal, met = "", ""
    if comparison.goal is not None:
        goal = f"{comparison.goal:.2f}"
        met = "yes" if found.median >= comparison.goal else "no"
        met += " ~" if found.low < comparison.goal <= found.high else "  "
    values = [median(figure.value for figure in figures[v]) for v in (comparison.reference, comparison.variant)]
    cpu = [median(figure.server_cpu or 0 for figure in figures[v]) for v in (comparison.reference, comparison.variant)]
    return _columns(
        f"  {comparison.variant}",
        *map(_short, values),
        f"{found.median:.2f}",
        f"{found.low:.2f} to {found.high:.2f}",
        *((f"{cpu[0]:.1f}", f"{cpu[1]:.1f}", f"{cpu[0] / cpu[1]:.2f}") if all(cpu) else ("", "", "")),
        goal,
        met,
    )


def _columns(name: str, *rest: str) -> str:
    cells = (f"{text:>{width}}" for text, width in zip(rest, _WIDTHS, strict=True))
    return f"{name:<34}{''.join(cells)}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
