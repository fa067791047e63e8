"""Scatter plots: where points lie, and round numbers at the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nncomp.report.page.charts import axis

_AREA: Final = (56.0, 14.0, 560.0, 230.0)
"""Left, upper, right and lower edge."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot of 580 by 280.

    Attributes:
        points: In the order given.
        columns, lines: Positions and texts of the axes' numbers.
    """

    points: tuple[tuple[float, float], ...]
    columns: tuple[tuple[float, str], ...]
    lines: tuple[tuple[float, str], ...]


def plot(points: Sequence[tuple[float, float]]) -> Plot:
    """Return a plot of points, of which there is one at least."""
    left, upper, right, lower = _AREA
    low_x, high_x = _padded([x for x, _ in points])
    low_y, high_y = _padded([y for _, y in points])

    def at_x(value: float) -> float:
        return round(left + (right - left) * (value - low_x) / (high_x - low_x), 1)

    def at_y(value: float) -> float:
        return round(lower - (lower - upper) * (value - low_y) / (high_y - low_y), 1)

    return Plot(
        tuple((at_x(x), at_y(y)) for x, y in points),
        tuple((at_x(value), f"{value:g}") for value in axis(low_x, high_x)),
        tuple((at_y(value), f"{value:g}") for value in axis(low_y, high_y)),
    )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin
