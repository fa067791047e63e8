"""What is remembered of a tensor while samples stream by: small, and exactly mergeable.

Counts are integers and bin edges are powers of two times integers, so the result does not depend on batch size, order,
or on how samples were split among workers: merging is exact, not approximate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Counts = npt.NDArray[np.int64]

_SMALLEST_PEAK: Final = 2.0**-100  # keeps the scale of a tensor of zeros inside float32

BINS: Final = 4096
"""Bins over [-limit, limit); ``limit`` is a power of two."""


@dataclass
class Range:
    """Smallest and largest finite value seen, and how many.

    Attributes:
        low, high: inf and -inf while nothing was seen.
        count: finite elements.
        bad: NaN or infinite elements, which count for nothing else.
    """

    low: float = float("inf")
    high: float = float("-inf")
    count: int = 0
    bad: int = 0

    def update(self, array: Array) -> None:
        """Add one sample's tensor."""
        if array.size == 0:
            return
        low, high = float(array.min()) + 0.0, float(array.max()) + 0.0  # -0.0 becomes 0.0: no order among equals
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = array[np.isfinite(array)]
            self.bad += array.size - finite.size
            if finite.size:
                self.update(finite)
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += array.size

    def merge(self, other: Range) -> None:
        """Add what ``other`` saw."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.count += other.count
        self.bad += other.bad


@dataclass
class Histogram:
    """Counts over ``BINS`` equal bins of [-limit, limit), where limit = 2^exponent grows by doubling.

    Doubling merges neighbouring bins, whose edges nest exactly: the final counts are those of a histogram that had the
    final limit from the start.

    Attributes:
        range: exact range beside the bins.
        per_sample: elements of one sample's tensor that are binned at the most; larger tensors are read with a fixed
            stride. The range is always of all elements.
    """

    per_sample: int = 1 << 13
    range: Range = field(default_factory=Range)
    exponent: int | None = None
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def update(self, array: Array) -> None:
        """Add one sample's tensor."""
        self.range.update(array)
        # The first axis is the batch, as a rule: each sample is read alike, so that batches do not matter.
        rows = array.reshape(array.shape[0] if array.ndim > 1 else 1, -1) if array.size else array.reshape(1, 0)
        with np.errstate(over="ignore"):  # a double may be infinite as float32: it counts in the range only
            part = rows[:, :: _stride(rows.shape[1], self.per_sample)].astype(np.float32).reshape(-1)
        if not np.isfinite(part).all():
            part = part[np.isfinite(part)]
        if part.size == 0:
            return
        peak = max(-float(part.min()), float(part.max()), _SMALLEST_PEAK)
        self._grow(math.frexp(peak)[1])  # the exact e with 2^(e-1) <= peak < 2^e
        assert self.exponent is not None
        # Scaling by a power of two is exact, so an element's bin never depends on when it came.
        scaled = part * np.float32(math.ldexp(BINS / 2, -self.exponent))
        index = np.floor(scaled).astype(np.intp)
        index -= (part < 0) & (index == 0)  # scaled so small that it became -0.0
        self.counts += np.bincount(index + BINS // 2, minlength=BINS)

    def merge(self, other: Histogram) -> None:
        """Add what ``other`` saw; exact."""
        self.range.merge(other.range)
        if other.exponent is None:
            return
        self._grow(other.exponent)
        assert self.exponent is not None
        self.counts += _coarser(other.counts, self.exponent - other.exponent)

    def centers(self) -> npt.NDArray[np.float64]:
        """Return the middle of each bin."""
        limit = 2.0 ** (self.exponent if self.exponent is not None else 0)
        return (np.arange(BINS, dtype=np.float64) + 0.5) * (2 * limit / BINS) - limit

    @property
    def bin_width(self) -> float:
        """Width of a bin."""
        return 2 * 2.0 ** (self.exponent if self.exponent is not None else 0) / BINS

    def _grow(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        elif exponent > self.exponent:
            self.counts = _coarser(self.counts, exponent - self.exponent)
            self.exponent = exponent


def _stride(size: int, limit: int) -> int:
    """Return the smallest stride that reads at most ``limit`` of ``size`` elements and has no factor in common with it.

    Such a stride visits all rows, columns and channels alike; one of 98 over maps that are 14 wide would read a single
    column.
    """
    stride = max(-(-size // limit), 1)
    while math.gcd(stride, size) > 1:
        stride += 1
    return stride


def _coarser(counts: Counts, doublings: int) -> Counts:
    """Return the counts over a range 2^doublings times as wide; the middle stays the middle."""
    for _ in range(min(doublings, BINS.bit_length())):
        halved = counts.reshape(-1, 2).sum(axis=1)
        counts = np.concatenate([np.zeros(BINS // 4, np.int64), halved, np.zeros(BINS // 4, np.int64)])
    return counts
