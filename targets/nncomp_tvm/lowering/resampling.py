"""Resize as ONNX defines it: axis by axis, each output a weighted sum of a few inputs whose places are known.

y[.., i, ..] = sum_k w[i, k] x[.., p[i, k], ..], with one tap for ``nearest``, two for ``linear``, four for ``cubic``,
and more with ``antialias``. Places and weights are numpy's; what is emitted is take, multiply and add, which TVM fuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp_tvm.library import Expr, constant, relax
from nncomp_tvm.lowering.calls import Call, NotLoweredError

Array = npt.NDArray[Any]

_CORNERS: Final = frozenset({"align_corners", "tf_crop_and_resize"})
"""Modes that divide by the new size - 1: before it is rounded in ONNX's evaluator, after it in ONNX Runtime."""

_WHOLE: Final = 1e-3  # a scale is a float32


def resize(call: Call) -> Sequence[Expr] | None:
    """Resize from opset 11 on, with sizes or scales that are known, of an input of known size."""
    shape = call.static_shape(0)
    if call.opset < 11 or shape is None:
        return None
    if any(call.given(slot) and call.array(slot) is None for slot in (1, 2, 3)):
        raise NotLoweredError("its sizes are computed at the run")
    attr = call.op.attr
    axes = [int(axis) % len(shape) for axis in attr("axes") or range(len(shape))]
    sizes, scales = _sizes_and_scales(call, [shape[axis] for axis in axes])
    transform = _text(attr("coordinate_transformation_mode", "half_pixel"))
    mode = _text(attr("mode", "nearest"))
    roi = call.array(1)
    crop = transform == "tf_crop_and_resize"
    data, outside = call.inputs[0], []
    for number, axis in enumerate(axes):
        old, new, scale = shape[axis], sizes[number], scales[number]
        if old == new and scale == 1 and not crop:
            continue
        window = (float(roi[number]), float(roi[number + len(axes)])) if crop and roi is not None else (0.0, 1.0)
        if transform in _CORNERS and abs(old * scale - new) > _WHOLE:
            raise NotLoweredError(
                f"{transform} from {old} to {old * scale:g} elements is another thing in ONNX Runtime than in ONNX"
            )
        places = _places((old, new), scale, transform, window)
        if crop:
            outside.append((axis, (places < 0) | (places > old - 1)))
        data = _summed(call, data, axis, *_taps(places, old, scale, mode, call))
    for axis, gone in outside:
        if gone.any():
            data = _filled(call, data, axis, gone)
    return [data]


def _sizes_and_scales(call: Call, old: list[int]) -> tuple[list[int], list[float]]:
    """Return the new size and the scale of each axis that is resized."""
    sizes, scales = call.array(3), call.array(2)
    if sizes is None or sizes.size == 0:
        assert scales is not None
        factors = [float(scale) for scale in scales]
        return [int(np.floor(size * scale)) for size, scale in zip(old, factors, strict=True)], factors
    wanted = [int(size) for size in sizes]
    policy = _text(call.op.attr("keep_aspect_ratio_policy", "stretch"))
    if policy != "stretch":
        ratios = [new / size for new, size in zip(wanted, old, strict=True)]
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        return [int(np.floor(ratio * size + 0.5)) for size in old], [ratio] * len(old)
    return wanted, [new / size for new, size in zip(wanted, old, strict=True)]


def _places(sizes: tuple[int, int], scale: float, transform: str, window: tuple[float, float]) -> Array:
    """Return where each output lies among the inputs (ONNX, Resize, coordinate_transformation_mode).

    Args:
        sizes: Old and new.
        scale: New size over old, before it was rounded.
        transform: The mode.
        window: Begin and end of the part that is taken, as parts of the whole, where the mode takes one.
    """
    old, new = sizes
    out = np.arange(new, dtype=np.float64)
    if transform == "align_corners":
        return out * (old - 1) / (new - 1) if new > 1 else np.zeros_like(out)
    if transform == "asymmetric":
        return out / scale
    if transform == "pytorch_half_pixel":
        return (out + 0.5) / scale - 0.5 if new > 1 else np.zeros_like(out)
    if transform == "half_pixel_symmetric":
        exact = old * scale
        return old / 2 * (1 - new / exact) + (out + 0.5) / scale - 0.5
    if transform == "tf_crop_and_resize":
        begin, end = window
        if new > 1:
            return begin * (old - 1) + out * (end - begin) * (old - 1) / (new - 1)
        return np.full_like(out, 0.5 * (begin + end) * (old - 1))
    return (out + 0.5) / scale - 0.5


def _taps(places: Array, old: int, scale: float, mode: str, call: Call) -> tuple[Array, Array]:
    """Return the inputs that each output reads, and their weights: both (outputs, taps)."""
    if mode == "nearest":
        rounding = _text(call.op.attr("nearest_mode", "round_prefer_floor"))
        return np.clip(_rounded(places, rounding), 0, old - 1)[:, None], np.ones((len(places), 1))
    shrink = min(scale, 1.0) if call.op.attr("antialias", 0) else 1.0
    reach = (1 if mode == "linear" else 2) / shrink
    first = np.floor(places - reach).astype(np.int64) + 1
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)) + (shrink < 1))
    away = (taps - places[:, None]) * shrink
    if mode == "linear":
        weights = np.maximum(0.0, 1.0 - np.abs(away))
    else:
        weights = _cubic(away, float(call.op.attr("cubic_coeff_a", -0.75)))
    inside = (taps >= 0) & (taps < old)
    if call.op.attr("exclude_outside", 0):
        weights = np.where(inside, weights, 0.0)
    total = weights.sum(axis=1, keepdims=True)
    return np.clip(taps, 0, old - 1), weights / np.where(total == 0, 1, total)


def _rounded(places: Array, rounding: str) -> Array:
    if rounding == "floor":
        found = np.floor(places)
    elif rounding == "ceil":
        found = np.ceil(places)
    elif rounding == "round_prefer_ceil":
        found = np.floor(places + 0.5)
    else:
        found = np.ceil(places - 0.5)
    return found.astype(np.int64)


def _cubic(away: Array, a: float) -> Array:
    """Keys' kernel (1981), with its free parameter ``a``."""
    x = np.abs(away)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _summed(call: Call, data: Expr, axis: int, taps: Array, weights: Array) -> Expr:
    dtype = call.dtype(0)
    used = np.flatnonzero(weights.any(axis=0))
    exact = bool((weights[:, used] == 1).all()) and len(used) == 1
    if not exact and dtype.kind != "f":
        raise NotLoweredError(f"it averages {dtype}")
    rank = len(call.static_shape(0) or ())
    along = (-1, *(1,) * (rank - 1 - axis))
    total = None
    for tap in used.tolist():
        term = call.builder.emit(relax.op.take(data, constant(taps[:, tap].copy()), axis=axis, mode="clip"))
        if not exact:
            term = relax.op.multiply(term, constant(weights[:, tap].astype(dtype).reshape(along)))
            term = call.builder.emit(term)
        total = term if total is None else call.builder.emit(relax.op.add(total, term))
    assert total is not None
    return total


def _filled(call: Call, data: Expr, axis: int, gone: Array) -> Expr:
    value = float(call.op.attr("extrapolation_value", 0.0))
    rank = len(call.static_shape(0) or ())
    mask = constant(gone.reshape(-1, *(1,) * (rank - 1 - axis)))
    return call.builder.emit(relax.op.where(mask, constant(np.asarray(value, call.dtype(0))), data))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
