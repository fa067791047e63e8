"""Linear: Conv, ConvTranspose, Gemm and MatMul as one thing, which takes an affine map of its result or of its input.

Weights are seen as (group, out / group, in / group, *kernel), whatever the op stores:
Conv (out, in/g, *k) · ConvTranspose (in, out/g, *k) · Gemm (in, out), or (out, in) with transB · MatMul (in, out).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from nncomp.ir import DataType, Op, Value
from nncomp.ops import pads
from nncomp.rewrite import Match, OpPattern, Pattern, any_value, op, optional
from nncomp_fusion.requirements import (
    Array,
    Exact,
    require_affordable_copy,
    require_constant,
    require_shape,
    require_weights,
    rounded,
)

WITH_BIAS: Final = "Conv|ConvTranspose|Gemm"
ANY: Final = "Conv|ConvTranspose|Gemm|MatMul"


def linear(kinds: str, data: Pattern | None = None) -> OpPattern:
    """Match a linear op, to be read by :func:`read_linear`."""
    return op(kinds, data or any_value("x"), any_value("w"), optional(any_value("b")), bind="linear")


def biased_matmul() -> OpPattern:
    """Match MatMul and the Add behind it, to be read by :func:`read_linear`."""
    return op("Add", op("MatMul", any_value("x"), any_value("w"), bind="linear"), any_value("b"), commutative=True)


@dataclass(frozen=True, slots=True)
class Linear:
    """y = x * W + b.

    Attributes:
        op: Conv, ConvTranspose, Gemm or MatMul.
        weight: (group, out / group, in / group, *kernel), without Gemm's ``alpha``.
        dtype: what the weight is stored in.
        rank: of x and y, None when unknown (MatMul's only).
        bias: a MatMul's, from the Add behind it; other ops have theirs in slot 2.
    """

    op: Op
    weight: Exact
    dtype: DataType
    rank: int | None
    bias: Value | None

    @property
    def out_channels(self) -> int:
        """Channels of y."""
        return int(self.weight.shape[0] * self.weight.shape[1])

    @property
    def in_channels(self) -> int:
        """Channels of x."""
        return int(self.weight.shape[0] * self.weight.shape[2])

    @property
    def axis(self) -> int:
        """Axis of the channels, in x and in y."""
        return -1 if self.op.is_a("MatMul") else 1


def read_linear(m: Match) -> Linear:
    """Return the linear op bound by :func:`linear` or :func:`biased_matmul`, or decline."""
    found = m.op("linear")
    stored, dtype = require_weights(m, found.input(1), f"{found.kind}'s weight")
    group = found.attr("group", 1)
    if not stored.size:
        raise m.reject(f"{found.kind}'s weight is empty")
    if found.kind in ("Conv", "ConvTranspose"):
        if stored.ndim < 3 or stored.shape[0] % group:
            raise m.reject(f"{found.kind}'s weight has shape {list(stored.shape)}, which does not fit {group} groups")
        parts = stored.reshape(group, stored.shape[0] // group, *stored.shape[1:])
        weight = parts.swapaxes(1, 2) if found.is_a("ConvTranspose") else parts
        return Linear(found, weight, dtype, stored.ndim, m.get("b"))
    if stored.ndim != 2:
        raise m.reject(f"{found.kind}'s weight has rank {stored.ndim}, expected 2")
    weight = (stored if found.attr("transB", 0) else stored.T)[np.newaxis]
    shape = found.output.shape
    rank = 2 if found.is_a("Gemm") else None if shape is None else len(shape)
    return Linear(found, weight, dtype, rank, m.get("b"))


def require_input_channels(m: Match, found: Linear) -> None:
    """Decline where the axis of x that W is summed over is not that of x's channels."""
    if found.op.attr("transA", 0):
        raise m.reject("Gemm transposes its input, so its channels are rows")


def per_channel(m: Match, constant: Array, rank: int | None, axis: int, channels: int) -> Exact:
    """Return a constant operand as one number a channel, or decline if it is anything else.

    Args:
        m: Whose rule declines.
        constant: What broadcasts against the tensor.
        rank: Of the tensor; None when unknown.
        axis: Of the tensor's channels.
        channels: Size of that axis.

    Returns:
        (channels,)
    """
    shape = constant.shape
    known = max(1, len(shape)) if rank is None else rank
    if len(shape) > (1 if rank is None else rank):
        raise m.reject(f"the constant has shape {list(shape)}, the tensor rank {'unknown' if rank is None else rank}")
    full = [1] * (known - len(shape)) + list(shape)
    size = full.pop(axis)
    if any(other != 1 for other in full) or size not in (1, channels):
        raise m.reject(f"the constant has shape {list(shape)}, expected one number or one for each channel")
    return np.broadcast_to(constant.astype(np.float64).reshape(-1), (channels,))


def fold_behind(m: Match, found: Linear, scale: Exact, shift: Exact) -> Value:
    """Return k (x W + b) + t as x (k W) + (k b + t).

    Args:
        m: Whose rule folds.
        found: y = x W + b.
        scale: k, (out,).
        shift: t, (out,).
    """
    weight = bias = None
    if (scale != 1).any():
        k = scale.reshape(*found.weight.shape[:2], *[1] * (found.weight.ndim - 2))
        weight = found.weight * k
    if found.bias is not None or shift.any():
        bias = scale * _bias(m, found) + shift
    return _build(m, found, m["x"], weight, bias)


def fold_before(m: Match, found: Linear, scale: Exact, shift: Exact) -> Value:
    """Return (k x + t) W + b as x (k W) + (t W + b).

    A shift passes only where each output sees it whole: not where zeros pad x, nor through a ConvTranspose.

    Args:
        m: Whose rule folds.
        found: y = x W + b.
        scale: k, (in,).
        shift: t, (in,).
    """
    shape = (found.weight.shape[0], 1, found.weight.shape[2], *[1] * (found.weight.ndim - 3))
    weight = found.weight * scale.reshape(shape) if (scale != 1).any() else None
    bias = None
    if shift.any():
        _require_no_border(m, found)
        seen = (found.weight * shift.reshape(shape)).sum(axis=tuple(range(2, found.weight.ndim))).reshape(-1)
        bias = found.op.attr("alpha", 1.0) * seen + _bias(m, found)
    return _build(m, found, m["x"], weight, bias)


def require_unexpanded(m: Match, found: Linear, constant: Array) -> None:
    """Decline unless ``constant`` leaves the shape of x, the operand that it meets before ``found``, as it is."""
    shape = require_shape(m, m["x"])
    if found.rank is not None and len(shape) != found.rank:
        raise m.reject(f"its input has rank {len(shape)}, {found.op.kind} reads rank {found.rank}")
    if constant.size > 1 and shape[found.axis] != found.in_channels:
        raise m.reject(f"its input has {shape[found.axis] or 'unknown'} channels, the constant {constant.size}")


def _bias(m: Match, found: Linear) -> Exact:
    """Return the bias that is added in fact, (out,); Gemm's ``beta`` is in it."""
    if found.bias is None:
        return np.zeros(found.out_channels)
    constant = require_constant(m, found.bias, f"{found.op.kind}'s bias")
    rank = 1 if found.op.kind in ("Conv", "ConvTranspose") else found.rank
    beta = float(found.op.attr("beta", 1.0))
    return beta * per_channel(m, constant, rank, -1, found.out_channels)


def _require_no_border(m: Match, found: Linear) -> None:
    if found.op.is_a("ConvTranspose"):
        raise m.reject("ConvTranspose spreads a constant unevenly")
    if not found.op.is_a("Conv"):
        return
    border = pads(found.op, found.weight.ndim - 1)
    if border is None:
        raise m.reject("Conv's padding depends on sizes that are not known")
    if any(border):
        raise m.reject("Conv pads with zeros, which the constant is not added to")


def _build(m: Match, found: Linear, data: Value, weight: Exact | None, bias: Exact | None) -> Value:
    old = found.op
    stored = found.dtype
    new_weight, new_bias = old.inputs[1], found.bias
    if weight is not None and new_weight is not None:
        require_affordable_copy(m, new_weight)
        weight_array = rounded(m, _as_stored(old, weight), stored, "weight")
    bias_array = None if bias is None else rounded(m, bias, stored, "bias")
    if weight is not None:
        new_weight = m.constant("w", weight_array)
    if bias_array is not None:
        name = "b" if found.bias is not None else f"{m['w'].name}_bias"
        new_bias = m.constant(name, bias_array)
    if not old.is_a("MatMul"):
        attrs = {key: value for key, value in old.attrs.items() if key != "beta" or bias is None}
        return m.add(old.kind, [data, new_weight, new_bias], attrs=attrs, like=old)
    product = m.add("MatMul", [data, new_weight], like=old)
    if new_bias is None:
        return product
    m.graph.set_type(product, old.output.type)
    return m.add("Add", [product, new_bias])


def _as_stored(old: Op, weight: Exact) -> Exact:
    if old.is_a("MatMul") or (old.is_a("Gemm") and not old.attr("transB", 0)):
        return np.transpose(weight[0])
    parts = weight.swapaxes(1, 2) if old.is_a("ConvTranspose") else weight
    return np.reshape(parts, (-1, *parts.shape[2:]))
