"""Charts as numbers to draw: positions in a drawing of fixed size, rounded, so that templates hold no arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

WIDTH: Final = 240
HEIGHT: Final = 64
"""Of a histogram's drawing."""


@dataclass(frozen=True, slots=True)
class HistogramChart:
    """A histogram.

    Attributes:
        path: Of the bars, closed at the bottom line.
        covered: Left and right of the range that has codes; None when nothing is quantized.
        ticks: (position, text, anchor) of the numbers below: smallest, zero, largest.
    """

    path: str
    covered: tuple[float, float] | None
    ticks: tuple[tuple[float, str, str], ...]


def histogram(spread: Mapping[str, Any]) -> HistogramChart:
    """Return the chart of a spread; heights are logarithms, so that what is rare is seen."""
    low, high, covered = float(spread["low"]), float(spread["high"]), spread["covered"]
    left, right = (min(low, covered[0]), max(high, covered[1])) if covered else (low, high)
    span, width = float(right - left), float(high - low)
    if covered and width and span > 3 * width:  # a range far wider than the numbers would squeeze them together
        left, right = max(left, low - width), min(right, high + width)
        span = right - left
    if not span:
        left, span = left - 0.5, 1.0

    def x(number: float) -> float:
        return round(min(max((number - left) / span, 0.0), 1.0) * WIDTH, 1)

    counts = spread["counts"]
    tallest = math.log1p(max(counts)) or 1.0
    step = (width or 1.0) / len(counts)
    first = low if width else low - 0.5
    parts = [f"M{x(first):g} {HEIGHT}"]
    for number, count in enumerate(counts):
        height = round(HEIGHT * (1 - 0.94 * math.log1p(count) / tallest), 1)
        parts.append(f"V{height:g}H{x(first + step * (number + 1)):g}")
    zero = [(x(0.0), "0", "middle")] if left < 0 < left + span and 0.12 < (0 - left) / span < 0.88 else []
    ticks = [(0.0, number_text(left), "start"), *zero, (float(WIDTH), number_text(left + span), "end")]
    return HistogramChart(
        "".join(parts) + f"V{HEIGHT}Z", (x(covered[0]), x(covered[1])) if covered else None, tuple(ticks)
    )


def number_text(value: float) -> str:
    """Return a number with three digits."""
    return "0" if abs(value) < 1e-12 else f"{value:.3g}"


def sparkline(values: Sequence[float], cut: int, width: int = 120, height: int = 28) -> dict[str, Any]:
    """Return falling values as a line, and where those up to ``cut`` end."""
    top = max(values, default=0.0) or 1.0
    step = width / max(len(values) - 1, 1)
    points = [f"{number * step:.1f},{height * (1 - value / top):.1f}" for number, value in enumerate(values)]
    return {"points": " ".join(points), "cut": round(min(cut, len(values)) * step, 1), "width": width, "height": height}


def stacked(parts: Mapping[str, float], total: float | None = None) -> list[dict[str, Any]]:
    """Return shares of a whole as (name, value, left and width in percent), in the order given."""
    whole = total or sum(parts.values()) or 1.0
    found, left = [], 0.0
    for number, (name, value) in enumerate(parts.items()):
        share = 100 * value / whole
        found.append({
            "name": name, "value": value, "left": round(left, 2), "width": round(share, 2), "share": value / whole,
            "number": number % 6,
        })  # fmt: skip
        left += share
    return found


def axis(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between ``low`` and ``high``, at most ``most`` + 1 of them."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    return [round(step * number, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]
