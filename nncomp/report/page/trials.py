"""What a search tried, as points: accuracy against speed, or against how much was given back where none is timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nncomp.report.page.charts import axis

_AREA: Final = (56.0, 14.0, 560.0, 230.0)
"""Left, upper, right and lower edge of the plot."""


@dataclass(frozen=True, slots=True)
class Point:
    """A trial: where it is drawn, and the trial with its number."""

    x: float
    y: float
    number: int
    trial: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrialChart:
    """A scatter plot.

    Attributes:
        across, up: What the axes are.
        points: Trials that came to something.
        frontier: A line through those that no other beats.
        columns, lines: Positions and texts of the axes' numbers.
    """

    across: str
    up: str
    points: tuple[Point, ...]
    frontier: str
    columns: tuple[tuple[float, str], ...]
    lines: tuple[tuple[float, str], ...]


def trial_chart(trials: Sequence[Mapping[str, Any]]) -> TrialChart | None:
    """Return the chart; None when fewer than two trials can be drawn."""
    timed = any(trial["ratio"] is not None for trial in trials)
    scored = any(trial["drop"] is not None for trial in trials)
    points = []
    for number, trial in enumerate(trials, 1):
        x = trial["ratio"] if timed else float(len(trial["settings"]))
        y = (None if trial["drop"] is None else -100 * trial["drop"]) if scored else trial["sqnr_db"]
        if x is not None and y is not None:
            points.append((float(x), float(y), number, trial))
    if len(points) < 2:
        return None
    left, upper, right, lower = _AREA
    low_x, high_x = _padded([point[0] for point in points])
    low_y, high_y = _padded([point[1] for point in points])

    def at_x(value: float) -> float:
        return round(left + (right - left) * (value - low_x) / (high_x - low_x), 1)

    def at_y(value: float) -> float:
        return round(lower - (lower - upper) * (value - low_y) / (high_y - low_y), 1)

    placed = tuple(Point(at_x(x), at_y(y), number, trial) for x, y, number, trial in points)
    best = sorted({(point.x, point.y) for point in placed if point.trial["frontier"]})
    return TrialChart(
        across="times as fast as the original" if timed else "layers given back",
        up="change of accuracy, points" if scored else "SQNR, dB",
        points=placed,
        frontier=" ".join(f"{x:g},{y:g}" for x, y in best),
        columns=tuple((at_x(value), f"{value:g}") for value in axis(low_x, high_x)),
        lines=tuple((at_y(value), f"{value:g}") for value in axis(low_y, high_y)),
    )


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    return low - margin, high + margin
