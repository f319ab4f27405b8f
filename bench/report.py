"""From the figures of all rounds to ratios, for a person and for a program."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, Final, NamedTuple

from bench.measurements import Comparison, Figure, Measurement, Variant

Figures = dict[Variant, list[Figure]]
"""What one measurement gave, round by round."""

LEGEND: Final = """\
ratio  the second to the first: the median of the rounds. More is better, also of times and sizes: these are divided the
       other way round.
95%    the interval that holds this median 95 times of 100 or more, by order statistics of the rounds' ratios; five
       rounds or fewer can't say so much, and it is from their lowest to their highest.
CPU    the server's and the client's of the second: microseconds for each call, item or stream, medians; and the
       server's of the first to it, the steadier witness.
met    whether the ratio, or the figure itself, is what it has to be; "~" where the goal lies within the interval."""

_WIDTHS: Final = (9, 10, 7, 16, 9, 8, 7, 7, 6)


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
    lines = [_columns("", "first", "second", "ratio", "95%", "server", "client", "ratio", "goal", "met")]
    for measurement, figures in measured:
        lines += ["", measurement.title]
        lines += [
            _row(comparison, ratio(measurement, comparison, figures), figures) for comparison in measurement.comparisons
        ]
    return "\n".join(lines)


def as_json(measured: Iterable[tuple[Measurement, Figures]]) -> list[dict[str, Any]]:
    return [
        {
            "command": measurement.command,
            "title": measurement.title,
            "rounds": {str(variant): [figure._asdict() for figure in rounds] for variant, rounds in figures.items()},
            "comparisons": [
                {
                    "variant": str(comparison.variant),
                    "reference": str(comparison.reference),
                    "goal": comparison.goal,
                    "most": comparison.most,
                    "ratio": ratio(measurement, comparison, figures)._asdict(),
                }
                for comparison in measurement.comparisons
            ],
        }
        for measurement, figures in measured
    ]


def _row(comparison: Comparison, found: Ratio, figures: Figures) -> str:
    first, second = figures[comparison.reference], figures[comparison.variant]
    values = [median(figure.value for figure in variant) for variant in (first, second)]
    goal, met = "", ""
    if comparison.goal is not None:
        goal = f"{comparison.goal:.2f}"
        met = "yes" if found.median >= comparison.goal else "no"
        met += " ~" if found.low < comparison.goal <= found.high else "  "
    if comparison.most is not None:
        goal = f"<= {comparison.most:g}"
        met = "yes  " if values[1] <= comparison.most else "no  "
    before = median(figure.server_cpu or 0 for figure in first)
    server, client = (median(getattr(f, side) or 0 for f in second) for side in ("server_cpu", "client_cpu"))
    cpu = (f"{server:.1f}", f"{client:.1f}", f"{before / server:.2f}") if server else ("", "", "")
    return _columns(
        f"  {comparison.variant} / {comparison.reference}",
        *map(_short, values),
        f"{found.median:.2f}",
        f"{found.low:.2f} to {found.high:.2f}",
        *cpu,
        goal,
        met,
    )


def _columns(name: str, *rest: str) -> str:
    cells = (f"{text:>{width}}" for text, width in zip(rest, _WIDTHS, strict=True))
    return f"{name:<46}{''.join(cells)}".rstrip()


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
