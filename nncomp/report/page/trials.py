"""What a search tried, as points: accuracy against speed, or against how much was given back where none is timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nncomp.report.page.plots import Plot, plot


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
        plot: Where points lie.
        points: Trials that came to something.
        frontier: A line through those that no other beats in speed and SQNR; "" where the axes are others.
    """

    across: str
    up: str
    plot: Plot
    points: tuple[Point, ...]
    frontier: str


def trial_chart(trials: Sequence[Mapping[str, Any]], *, drop: bool) -> TrialChart | None:
    """Return the chart; None when fewer than two trials can be drawn.

    Args:
        trials: As the report has them.
        drop: The budget limits the drop of accuracy, which is what matters then; else SQNR.
    """
    timed = any(trial["ratio"] is not None for trial in trials)
    scored = drop and any(trial["drop"] is not None for trial in trials)
    drawn: list[tuple[float, float, int]] = []
    for number, trial in enumerate(trials):
        x = trial["ratio"] if timed else float(len(trial["settings"]))
        y = (None if trial["drop"] is None else -100 * trial["drop"]) if scored else trial["sqnr_db"]
        if x is not None and y is not None:
            drawn.append((float(x), float(y), number))
    if len(drawn) < 2:
        return None
    found = plot([(x, y) for x, y, _ in drawn])
    points = tuple(
        Point(x, y, number + 1, trials[number]) for (x, y), (_, _, number) in zip(found.points, drawn, strict=True)
    )
    best = [] if scored else sorted({(point.x, point.y) for point in points if point.trial["frontier"]})
    return TrialChart(
        across="times as fast as the original" if timed else "layers given back",
        up="change of accuracy, points" if scored else "SQNR, dB",
        plot=found,
        points=points,
        frontier=" ".join(f"{x:g},{y:g}" for x, y in best),
    )
