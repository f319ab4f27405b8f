"""Ratios as a bar chart: SVG, on a logarithmic scale, from 1 (as fast as the other) to the right and to the left."""

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import Final

from bench.measurements import Comparison, Measurement
from bench.report import Figures, Ratio, ratio

_WIDTH: Final = 960
_LEFT: Final = 330
_RIGHT: Final = 70
_ROW: Final = 20
_STYLE: Final = """\
text { font: 12px system-ui, sans-serif; fill: #222 }
.title { font-weight: 600 }
.ours { fill: #2f6fde } .slower { fill: #c2662d } .axis { stroke: #ddd } .one { stroke: #222 }
.goal { stroke: #111; stroke-dasharray: 2 2 } .interval { stroke: #111; stroke-width: 1.5 }"""


def chart(measured: Iterable[tuple[Measurement, Figures]], about: str) -> str:
    """An SVG file.

    Args:
        measured: what to show: a bar for each comparison, with its interval and its goal.
        about: a line that says how it was measured.
    """
    rows: list[str | tuple[Comparison, Ratio]] = []
    for measurement, figures in measured:
        rows.append(measurement.title)
        rows += [(comparison, ratio(measurement, comparison, figures)) for comparison in measurement.comparisons]
    ratios = [row[1] for row in rows if not isinstance(row, str)]
    low = min(0.5, *(found.low for found in ratios))
    high = max(2.0, *(found.high for found in ratios))

    def x(value: float) -> float:
        share = (math.log(max(value, low)) - math.log(low)) / (math.log(high) - math.log(low))
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    bottom = 50 + _ROW * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 30}" width="{_WIDTH}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{bottom + 30}" fill="#fff"/>',
        '<text class="title" x="10" y="20">How many times as fast, on a logarithmic scale</text>',
        f'<text x="10" y="36">{escape(about)}</text>',
    ]
    for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200):
        if low <= tick <= high:
            kind = "one" if tick == 1 else "axis"
            parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="46" y2="{bottom}"/>')
            parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    for number, row in enumerate(rows):
        y = 50 + _ROW * number
        if isinstance(row, str):
            parts.append(f'<text class="title" x="10" y="{y + 15}">{escape(row)}</text>')
        else:
            parts += _bar(*row, y, x)
    return "\n".join([*parts, "</svg>", ""])


def _bar(comparison: Comparison, found: Ratio, y: int, x: Callable[[float], float]) -> list[str]:
    left, right = sorted((x(1), x(found.median)))
    middle = y + _ROW / 2
    kind = "ours" if found.median >= 1 else "slower"
    label = f"{comparison.variant} / {comparison.reference}"
    bar = [
        f'<text x="{_LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(label)}</text>',
        f'<rect class="{kind}" x="{left:.1f}" y="{y + 4}" width="{max(right - left, 1):.1f}" height="{_ROW - 8}"/>',
        f'<line class="interval" x1="{x(found.low):.1f}" x2="{x(found.high):.1f}" y1="{middle}" y2="{middle}"/>',
        f'<text x="{max(x(found.high), right) + 5:.1f}" y="{y + 15}">{found.median:.2f}</text>',
    ]
    if comparison.goal is not None:
        goal = f"{x(comparison.goal):.1f}"
        bar.append(f'<line class="goal" x1="{goal}" x2="{goal}" y1="{y + 1}" y2="{y + _ROW - 1}"/>')
    return bar
