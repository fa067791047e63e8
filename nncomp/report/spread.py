"""How numbers are spread: a histogram of few bins, with the range that integers cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

BINS: Final = 48
_MOST: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Spread:
    """Counts of equal bins, and the range that integers cover.

    Attributes:
        low, high: Smallest and largest number that was looked at.
        counts: Of equal bins between them; at most 65,536 elements are looked at, every n-th where there are more.
        covered: Smallest and largest number that has a code; None where nothing is quantized. With a scale a channel,
            the range of the channel that has the widest.
        outside: Share of the numbers that were looked at and lie outside of it.
    """

    low: float
    high: float
    counts: tuple[int, ...]
    covered: tuple[float, float] | None = None
    outside: float | None = None


def spread_of(array: Array, covered: tuple[float, float] | None = None) -> Spread | None:
    """Return how the finite elements of ``array`` are spread, None when there are none."""
    part = sampled(array).astype(np.float64)
    numbers = part[np.isfinite(part)]
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    counts, _ = np.histogram(numbers, bins=BINS, range=(low, high) if high > low else (low - 0.5, low + 0.5))
    outside = None
    if covered is not None:  # half a step beyond the last code is rounded, not cut off
        step = (covered[1] - covered[0]) / 255
        outside = float(np.mean((numbers < covered[0] - step) | (numbers > covered[1] + step)))
    return Spread(low, high, tuple(int(count) for count in counts), covered, outside)


def sampled(array: Array, most: int = _MOST) -> Array:
    """Return at most ``most`` elements, every n-th of all, n odd so that no axis of even length is read in part."""
    flat = array.reshape(-1)
    step = -(-flat.size // most)
    return flat[:: step | 1] if step > 1 else flat
