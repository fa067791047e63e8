"""Scale and zero point from what was seen: of activations from ranges and histograms, of weights from their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.statistics import BINS, Histogram, Range

FloatArray = npt.NDArray[np.float32]
LEVELS: Final = 255
"""Steps of an 8-bit activation: u8 codes 0 to 255."""

_TINY: Final = 1e-30
_SHRUNK: Final = np.linspace(1.0, 0.4, 40)


class Method(StrEnum):
    """How an activation's range is chosen."""

    MINMAX = "minmax"
    PERCENTILE = "percentile"
    MSE = "mse"
    ENTROPY = "entropy"


@dataclass(frozen=True, slots=True)
class QuantParams:
    """x is about scale * (q - zero_point), per tensor, q any code of the zero point's type."""

    scale: np.float32
    zero_point: np.integer[Any]

    @property
    def lowest(self) -> int:
        """Smallest code."""
        return int(np.iinfo(self.zero_point.dtype).min)

    @property
    def highest(self) -> int:
        """Largest code."""
        return int(np.iinfo(self.zero_point.dtype).max)

    @property
    def low(self) -> float:
        """Smallest number that has a code."""
        return float(self.scale) * (self.lowest - int(self.zero_point))

    @property
    def high(self) -> float:
        """Largest number that has a code."""
        return float(self.scale) * (self.highest - int(self.zero_point))

    def codes(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the codes of ``array``, in the zero point's type."""
        codes = np.rint(array / self.scale) + int(self.zero_point)
        return np.asarray(np.clip(codes, self.lowest, self.highest), self.zero_point.dtype)


def activation_params(low: float, high: float, dtype: npt.DTypeLike = np.uint8) -> QuantParams:
    """Return parameters that cover [low, high] and represent zero exactly.

    scale = (high - low) / 255, zero_point = round(-low / scale), after widening the range to hold 0
    (ONNX DynamicQuantizeLinear). A range of nothing but zero gets scale 1. With 16 bits, 65535 for 255; with signed
    codes, the zero point is less by half of that.
    """
    dtype = np.dtype(dtype)
    code: Any = dtype.type
    first, last = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    steps = last - first
    low, high = min(low, 0.0), max(high, 0.0)
    if not high - low > _TINY:
        return QuantParams(np.float32(1), code(0))
    scale = np.float32(min((high - low) / steps, float(np.finfo(np.float32).max) / steps))
    zero = int(np.clip(np.rint(-low / float(scale)), 0, steps)) + first
    return QuantParams(scale, code(zero))


def within(params: QuantParams, low: float | None, high: float | None) -> QuantParams:
    """Return parameters whose codes all lie in [low, high], so that a quantizer clips there by itself.

    Rounding the zero point moves a range by up to half a step, and a clipping activation whose bounds the codes
    overstep does not vanish. The zero point stays, the scale shrinks.

    Args:
        params: What calibration chose.
        low: Bound at or below 0; None where there is none.
        high: Bound at or above 0; None where there is none.
    """
    zero = int(params.zero_point)
    scale = params.scale
    for bound, steps in ((low, params.lowest - zero), (high, params.highest - zero)):
        if bound is None or not steps or abs(bound) / (params.highest - params.lowest) <= _TINY:
            continue
        if float(scale) * abs(steps) > abs(bound):
            scale = np.float32(bound / steps)
            if float(scale) * abs(steps) > abs(bound):
                scale = np.nextafter(scale, np.float32(0))
    return QuantParams(scale, params.zero_point)


def chosen_range(
    seen: Range | Histogram, method: Method, percentile: float = 99.999, *, levels: int = LEVELS
) -> tuple[float, float]:
    """Return the range to quantize, inside the range that was seen.

    Args:
        seen: What calibration remembered.
        method: ``minmax`` takes all of it; ``percentile`` leaves out (100 - p) % of the mass at each end that needs it;
            ``mse`` minimises the expected squared error of rounding and clipping; ``entropy`` minimises the
            Kullback-Leibler divergence between the values and their quantized form (Migacz, "8-bit inference with
            TensorRT", GTC 2017).
        percentile: For ``percentile``.
        levels: Steps of an activation.
    """
    if isinstance(seen, Range):
        return (seen.low, seen.high) if seen.count else (0.0, 0.0)
    full = seen.range
    if not full.count or seen.exponent is None or method is Method.MINMAX:
        return (full.low, full.high) if full.count else (0.0, 0.0)
    if method is Method.PERCENTILE:
        return _percentile_range(seen, percentile)
    if method is Method.MSE:
        return _mse_range(seen, levels)
    return _entropy_range(seen, levels)


def tail(seen: Range | Histogram, params: QuantParams, share: float = 0.99) -> float:
    """Return how many times further than ``share`` of the values the range reaches; 0 where no histogram tells.

    Zeros do not count, as for :func:`chosen_range`.
    """
    if isinstance(seen, Range) or seen.exponent is None:
        return 0.0
    counts = seen.counts.copy()
    counts[BINS // 2] = 0
    distance = np.abs(seen.centers())
    order = np.argsort(distance, kind="stable")
    mass = np.cumsum(counts[order])
    if not mass[-1]:
        return 0.0
    return max(-params.low, params.high) / float(distance[order][np.searchsorted(mass, share * mass[-1])])


def _percentile_range(seen: Histogram, percentile: float) -> tuple[float, float]:
    if seen.counts[BINS // 2] == seen.counts.sum():  # only zeros were looked at: they say nothing of the rest
        return seen.range.low, seen.range.high
    mass = np.cumsum(seen.counts) / seen.counts.sum()
    centers = seen.centers()
    tail = 1 - percentile / 100
    low = centers[int(np.searchsorted(mass, tail))] - seen.bin_width / 2
    high = centers[min(int(np.searchsorted(mass, 1 - tail)), BINS - 1)] + seen.bin_width / 2
    return max(low, seen.range.low), min(high, seen.range.high)


def _candidates(seen: Histogram, steps: int = 48) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return ranges to try: the seen one, shrunk at either end and at both."""
    factors = np.linspace(1.0, 0.25, steps)
    low, high = min(seen.range.low, 0.0), max(seen.range.high, 0.0)
    if low >= 0.0 or high <= 0.0:
        return low * factors, high * factors
    coarse = np.linspace(1.0, 0.25, 16)
    lows, highs = np.meshgrid(low * coarse, high * coarse)
    return lows.ravel(), highs.ravel()


def _mse_range(seen: Histogram, levels: int) -> tuple[float, float]:
    lows, highs = _candidates(seen)
    occupied = seen.counts > 0
    occupied[BINS // 2] = False  # zeros have a code of their own and are never rounded; a Relu makes most of them
    x = seen.centers()[occupied]
    counts = seen.counts[occupied].astype(np.float64)
    best, chosen = np.inf, (seen.range.low, seen.range.high)
    for low, high in zip(lows, highs, strict=True):
        step = (high - low) / levels
        if step <= 0:
            continue
        outside = x - np.clip(x, low, high)
        error = float(counts @ np.square(outside)) + step * step / 12 * float(counts[outside == 0].sum())
        if error < best:
            best, chosen = error, (float(low), float(high))
    return chosen


def _entropy_range(seen: Histogram, levels: int) -> tuple[float, float]:
    lows, highs = _candidates(seen)
    centers = seen.centers()
    counts = seen.counts.astype(np.float64)
    counts[BINS // 2] = 0  # zeros, as above
    best, chosen = np.inf, (seen.range.low, seen.range.high)
    if not counts.any():
        return chosen
    for low, high in zip(lows, highs, strict=True):
        if high <= low:
            continue
        code = np.clip(np.rint((centers - low) / (high - low) * levels), 0, levels).astype(np.int64)
        inside = (centers >= low) & (centers <= high)
        clipped = np.where(inside, counts, 0.0)
        clipped[np.argmax(inside)] += counts[centers < low].sum()
        clipped[BINS - 1 - int(np.argmax(inside[::-1]))] += counts[centers > high].sum()
        occupied = inside & (counts > 0)
        mass = np.bincount(code[inside], np.where(inside, counts, 0.0)[inside], levels + 1)
        width = np.bincount(code[occupied], minlength=levels + 1)
        spread = np.zeros_like(counts)
        spread[occupied] = (mass / np.maximum(width, 1))[code[occupied]]
        p, q = clipped / clipped.sum(), spread / max(spread.sum(), _TINY)
        filled = p > 0
        divergence = float(np.sum(p[filled] * np.log(p[filled] / np.maximum(q[filled], 1e-12))))
        if divergence < best:
            best, chosen = divergence, (float(low), float(high))
    return chosen


def quantize_weight(
    weight: npt.NDArray[Any], axis: int | None, *, bits: int = 8, scale: FloatArray | None = None
) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Quantize symmetrically, one scale per slice along ``axis``, or one in all when ``axis`` is None.

    q = clip(round(w / s), -m, m),  s = max|w| / m,  m = 2^(bits-1) - 1
    (ONNX QuantizeLinear with zero point 0; restricted range, so -128 is never used).

    Args:
        weight: (..., C, ...), float; C is the size of ``axis``.
        axis: Axis that keeps its own scale.
        bits: 2 to 8.
        scale: Scales to use instead, float32, shape (C,) or ().

    Returns:
        q, int8, shape of ``weight``;  s, float32, shape (C,) or (). A slice of zeros gets s = 1.
    """
    limit = 2 ** (bits - 1) - 1
    if scale is None:
        scale = symmetric_scale(weight, axis, bits=bits)
    spread = scale if axis is None else _along(scale, axis, weight.ndim)
    codes = np.rint(weight / spread)
    np.clip(codes, -limit, limit, out=codes)
    return codes.astype(np.int8), scale


def chunks(read: Callable[[], npt.NDArray[Any]], size: int = 1 << 20) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first row, copy of rows) of about ``size`` elements each, so that what is computed from them stays small.

    Args:
        read: Gives the (N, K) array. It is asked for each chunk anew: an array mapped from a file, which nobody holds
            in between, costs the memory of a chunk.
        size: Elements.
    """
    count, width = read().shape
    step = max(size // max(width, 1), 1)
    for start in range(0, count, step):
        yield start, np.array(read()[start : start + step], np.float32)


def symmetric_scale(weight: npt.NDArray[Any], axis: int | None, *, bits: int = 8) -> FloatArray:
    """Return max|w| / (2^(bits-1) - 1) per slice along ``axis``, float32; 1 for a slice that float32 cannot scale."""
    scale = _peak(weight, axis) / np.float32(2 ** (bits - 1) - 1)
    return np.where(scale > np.finfo(np.float32).tiny, scale, np.float32(1)).astype(np.float32)


def narrow_scale(weight: npt.NDArray[Any], axis: int | None, *, bits: int = 4) -> FloatArray:
    """Return symmetric scales that minimise the squared error of few levels: each slice is clipped where that pays.

    The best of :data:`_SHRUNK` for each slice along ``axis``, float32, shape (C,) or ().
    """
    widest = symmetric_scale(weight, axis, bits=bits)
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    best, least = widest, np.full(widest.shape, np.inf)
    for share in _SHRUNK:
        scale = np.asarray(widest * np.float32(share), np.float32)
        codes, _ = quantize_weight(weight, axis, bits=bits, scale=scale)
        rounded = codes * (scale if axis is None else _along(scale, axis, weight.ndim))
        error = np.square(weight - rounded, dtype=np.float64).sum(axis=others)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return np.asarray(best, np.float32)


def without_weight(weight: npt.NDArray[Any], axis: int | None) -> npt.NDArray[np.bool_]:
    """Tell which slices along ``axis`` are zero, or so small that INT8 makes zeros of them; shape (C,) or ()."""
    return np.asarray(_peak(weight, axis) / np.float32(127) <= np.finfo(np.float32).tiny)


def _peak(weight: npt.NDArray[Any], axis: int | None) -> FloatArray:
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis % weight.ndim)
    return np.asarray(np.abs(weight).max(axis=others, initial=0.0), np.float32)


def pair_safe_scale(weight: npt.NDArray[Any], axis: int, *, bits: int = 8, per_channel: bool = True) -> FloatArray:
    """Return symmetric scales at which no 16-bit pair sum can saturate, one a slice along ``axis``.

    x86 CPUs without VNNI multiply u8 by s8 two at a time and add each pair in 16 bits (``vpmaddubsw``), which saturates
    when 255 (a + b) leaves int16: two of one sign must satisfy |a| + |b| <= 128. Widening a row's scale just enough for
    its worst pair costs far less than giving up a bit of every weight ("reduce range").

    Kernels flatten a row channels-last (kernel position, then input channel) and pair elements 0 and 1, 2 and 3, ...

    Args:
        weight: (C, K), (K, C) or (C, I, ...), float; C is the size of ``axis``.
        axis: Output channels.
        bits: 2 to 8.
        per_channel: Give each slice its own scale; else one for all.

    Returns:
        float32, shape (C,) or ().
    """
    scale = symmetric_scale(weight, axis if per_channel else None, bits=bits)
    rows = np.moveaxis(weight, axis, 0)
    if rows.ndim > 2:
        rows = np.moveaxis(rows, 1, -1)
    rows = rows.reshape(rows.shape[0], -1)
    even = rows.shape[1] // 2 * 2
    left, right = rows[:, 0:even:2], rows[:, 1:even:2]
    half = np.where((left > 0) == (right > 0), np.abs(left / 2 + right / 2), 0)  # the sum itself may overflow
    worst = half.max(axis=1 if per_channel else None, initial=0)
    # Both codes may round up: 127 leaves room for that.
    return np.maximum(scale, np.asarray(worst / 63.5, np.float32))


def _along(scale: FloatArray, axis: int, ndim: int) -> FloatArray:
    shape = [1] * ndim
    shape[axis % ndim] = scale.size
    return np.asarray(scale.reshape(shape), np.float32)
