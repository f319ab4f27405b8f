"""What a soak found: figures beside their goals."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

_WIDTHS: Final = (12, 62, 14, 14, 4)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and its goal.

    Attributes:
        what: is measured.
        value: that was reached.
        goal: at most so much; or at least, where more is better.
        unit: of both; empty where they count something.
        more_is_better: whether the goal is the least that it has to be.
        slack: a short run judges by a goal so many times as wide: on a machine that does other work, times and memory
            prove little in a minute. 1 for what must never happen.
    """

    what: str
    value: float
    goal: float
    unit: str = ""
    more_is_better: bool = False
    slack: float = 1.0

    def met(self, *, short: bool) -> bool:
        slack = self.slack if short else 1.0
        return self.value >= self.goal / slack if self.more_is_better else self.value <= self.goal * slack


Found = dict[str, list[Figure]]
"""The figures of each part."""


def table(found: Found, *, short: bool) -> str:
    lines = [_row("part", "what", "goal", "reached", "ok")]
    for part, figures in found.items():
        for figure in figures:
            sign = ">=" if figure.more_is_better else "<="
            goal = f"{sign} {_shown(figure.goal, figure.unit)}"
            reached = _shown(figure.value, figure.unit)
            lines.append(_row(part, figure.what, goal, reached, "yes" if figure.met(short=short) else "NO"))
    return "\n".join(lines)


def missed(found: Found, *, short: bool) -> int:
    """How many goals were missed."""
    return sum(not figure.met(short=short) for figures in found.values() for figure in figures)


def as_json(found: Found) -> dict[str, Any]:
    return {
        part: [{"what": one.what, "value": one.value, "goal": one.goal, "unit": one.unit} for one in figures]
        for part, figures in found.items()
    }


def _row(*cells: str) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _shown(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"
    return f"{number} {unit}".rstrip()


def percentile(values: Iterable[float], share: float) -> float:
    """The value that a share of all values is at most, such as 0.99."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def slope(points: list[tuple[float, float]]) -> float:
    """By how much y grows with x, by least squares."""
    count = len(points)
    x_mean, y_mean = (sum(column) / count for column in zip(*points, strict=True))
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread if spread else 0.0
