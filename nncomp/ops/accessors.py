"""What an op's attributes and constant inputs mean, read in one place whatever form the opset writes it in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from nncomp.ir import Graph, Op, Value
from nncomp.ops.geometry import ConvGeometry, channels_last, conv_geometry, kernel_shape, pads

__all__ = [
    "ConvGeometry",
    "channel_axis",
    "clip_bounds",
    "conv_geometry",
    "is_training_batchnorm",
    "kernel_shape",
    "pads",
    "perm",
    "reduce_axes",
    "softmax_axis",
    "squeeze_axes",
]

_FLOAT32_MAX: Final = 3.4028234e38
"""Clip before opset 11 writes "no bound" as the largest float; a little below it, so that rounding does not matter."""

_CHANNELS_SECOND: Final = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "ConvInteger",
        "QLinearConv",
        "DeformConv",
        "FusedConv",
        "NhwcFusedConv",
        "NhwcConv",
        "BatchNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "GroupNorm",
        "LRN",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "GlobalMaxPool",
        "GlobalAveragePool",
        "GlobalLpPool",
        "NhwcMaxPool",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "DepthToSpace",
        "SpaceToDepth",
    }
)
_CHANNELS_LAST: Final = frozenset(
    {
        "MatMul",
        "Gemm",
        "MatMulInteger",
        "QLinearMatMul",
        "FusedMatMul",
        "FusedGemm",
        "QGemm",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "MatMulNBits",
    }
)


def reduce_axes(op: Op, graph: Graph) -> tuple[int, ...] | None:
    """Return the axes that a Reduce op, ArgMax or ArgMin reduces: ascending, not negative, attribute or input form.

    Without axes all are reduced, or none under ``noop_with_empty_axes``.

    Returns:
        None when the axes are computed, or when the rank that they need is not known.
    """
    axes, rank = _axes(op, graph), _rank(op.input(0))
    if axes is None:
        return None
    if axes:
        return _normalized(axes, rank)
    if op.attr("noop_with_empty_axes", 0):
        return ()
    return None if rank is None else tuple(range(rank))


def squeeze_axes(op: Op, graph: Graph) -> tuple[int, ...] | None:
    """Return the axes that Squeeze removes from its input, or Unsqueeze adds to its output; ascending, not negative.

    Returns:
        None when the axes are computed, or when sizes or a rank that they need are not known.
    """
    axes, data = _axes(op, graph), op.input(0)
    if axes is None:
        return None
    if op.kind == "Unsqueeze":
        rank = _rank(data)
        return _normalized(axes, None if rank is None else rank + len(axes))
    if axes:
        return _normalized(axes, _rank(data))
    if data is None or data.shape is None or not all(isinstance(dim, int) for dim in data.shape):
        return None
    return tuple(axis for axis, dim in enumerate(data.shape) if dim == 1)


def clip_bounds(op: Op, graph: Graph) -> tuple[float | None, float | None] | None:
    """Return (low, high) of Clip or Relu, None for a side that is open.

    Returns:
        None when a bound is computed, or when the op is another.
    """
    if op.is_a("Relu"):
        return 0.0, None
    if not op.is_a("Clip"):
        return None
    bounds: list[float | None] = []
    for name, slot in (("min", 1), ("max", 2)):
        value = op.input(slot)
        array = graph.array(value)
        if value is not None and array is None:
            return None
        bound = op.attr(name) if array is None else float(array.item())
        bounds.append(None if bound is None or abs(bound) >= _FLOAT32_MAX else bound)
    return bounds[0], bounds[1]


def is_training_batchnorm(op: Op) -> bool:
    """True when a BatchNormalization computes statistics of the batch: ``training_mode``, or outputs that it updates.

    Before opset 14 there is no such attribute, but only the training form writes more than one output.
    """
    return bool(op.attr("training_mode", 0)) or any(value.name for value in op.outputs[1:])


def perm(op: Op, rank: int) -> tuple[int, ...]:
    """Return the permutation of a Transpose: output axis i is input axis ``perm[i]``; by default the axes reversed."""
    given: tuple[int, ...] | None = op.attr("perm")
    return tuple(reversed(range(rank))) if given is None else given


def channel_axis(op: Op) -> int | None:
    """Return the axis of data that an op keeps its channels in: 1, or -1 for products and channels-last forms.

    Returns:
        None for ops that have no notion of channels.
    """
    if op.kind in _CHANNELS_LAST:
        return -1
    if op.kind not in _CHANNELS_SECOND:
        return None
    return -1 if channels_last(op) else 1


def softmax_axis(op: Op, opsets: Mapping[str, int]) -> int | None:
    """Return the one axis that Softmax, LogSoftmax or Hardmax works along; not negative when the rank is known.

    Returns:
        None when it is several: before opset 13 all axes from ``axis`` (by default 1) on are taken as one.
    """
    rank, modern = _rank(op.input(0)), opsets.get("", 1) >= 13
    axis: int = op.attr("axis", -1 if modern else 1)
    if rank is not None and axis < 0:
        axis += rank
    if modern:
        return axis
    return axis if axis == (-1 if rank is None else rank - 1) else None


def _axes(op: Op, graph: Graph) -> tuple[int, ...] | None:
    """Return the axes as they are written, () when they are not given, None when they are computed."""
    if op.kind in ("ArgMax", "ArgMin"):
        return (op.attr("axis", 0),)
    if op.attr("axes") is not None:
        return tuple(op.attr("axes"))
    if op.domain or op.input(1) is None:  # com.microsoft has attributes only; its input 1 is a scale
        return ()
    array = graph.array(op.input(1))
    return None if array is None else tuple(int(axis) for axis in array.reshape(-1))


def _normalized(axes: Iterable[int], rank: int | None) -> tuple[int, ...] | None:
    if rank is None and any(axis < 0 for axis in axes):
        return None
    return tuple(sorted(axis + (rank or 0) if axis < 0 else axis for axis in axes))


def _rank(value: Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)
