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
    require_float_constant,
    require_precise,
    require_shape,
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
    """y = x W + b.

    Attributes:
        op: Conv, ConvTranspose, Gemm or MatMul.
        dtype: what W is stored in.
        group: 1 for all but convolutions.
        in_channels, out_channels: of x and y.
        rank: of x and y, None when unknown (MatMul's only).
        bias: b; a MatMul's comes from the Add behind it.
    """

    op: Op
    dtype: DataType
    group: int
    in_channels: int
    out_channels: int
    rank: int | None
    bias: Value | None

    @property
    def axis(self) -> int:
        """Axis of the channels, in x and in y."""
        return -1 if self.op.is_a("MatMul") else 1


def read_linear(m: Match) -> Linear:
    """Return the linear op bound by :func:`linear` or :func:`biased_matmul`, or decline. Reads no numbers yet."""
    found = m.op("linear")
    shape, dtype = require_float_constant(m, found.input(1), f"{found.kind}'s weight")
    if 0 in shape:
        raise m.reject(f"{found.kind}'s weight is empty")
    if found.kind in ("Conv", "ConvTranspose"):
        group = found.attr("group", 1)
        if len(shape) < 3 or shape[0] % group:
            raise m.reject(f"{found.kind}'s weight has shape {list(shape)}, which does not fit {group} groups")
        inner, outer = (0, 1) if found.is_a("ConvTranspose") else (1, 0)
        into, out = (shape[axis] * (group if axis else 1) for axis in (inner, outer))
        return Linear(found, dtype, group, into, out, len(shape), m.get("b"))
    if len(shape) != 2:
        raise m.reject(f"{found.kind}'s weight has rank {len(shape)}, expected 2")
    into, out = reversed(shape) if found.attr("transB", 0) else shape
    result = found.output.shape
    rank = 2 if found.is_a("Gemm") else None if result is None else len(result)
    return Linear(found, dtype, 1, into, out, rank, m.get("b"))


def require_input_channels(m: Match, found: Linear) -> None:
    """Decline where the axis of x that W is summed over is not that of x's channels."""
    if found.op.attr("transA", 0):
        raise m.reject("Gemm transposes its input, so its channels are rows")


def require_unexpanded(m: Match, found: Linear, constant: Array) -> None:
    """Decline unless ``constant`` leaves the shape of x, the operand that it meets before ``found``, as it is."""
    shape = require_shape(m, m["x"])
    if found.rank is not None and len(shape) != found.rank:
        raise m.reject(f"its input has rank {len(shape)}, {found.op.kind} reads rank {found.rank}")
    if constant.size > 1 and shape[found.axis] != found.in_channels:
        raise m.reject(f"its input has {shape[found.axis] or 'unknown'} channels, the constant {constant.size}")


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
    if len(shape) > (1 if rank is None else rank):
        raise m.reject(f"the constant has shape {list(shape)}, the tensor rank {'unknown' if rank is None else rank}")
    full = [1] * ((rank or 1) - len(shape)) + list(shape)
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
    scaled = (scale != 1).any()
    weight = _scaled_weight(m, found, scale.reshape(found.group, -1, 1)) if scaled else None
    bias = scale * _bias(m, found) + shift if found.bias is not None or shift.any() else None
    return _build(m, found, weight, bias)


def fold_before(m: Match, found: Linear, scale: Exact, shift: Exact) -> Value:
    """Return (k x + t) W + b as x (k W) + (t W + b).

    A shift passes only where each output sees it whole: not where zeros pad x, nor through a ConvTranspose.

    Args:
        m: Whose rule folds.
        found: y = x W + b.
        scale: k, (in,).
        shift: t, (in,).
    """
    weight = _scaled_weight(m, found, scale.reshape(found.group, 1, -1)) if (scale != 1).any() else None
    bias = None
    if shift.any():
        _require_no_border(m, found)
        seen = np.einsum("goi...,gi->go...", _weight(m, found), shift.reshape(found.group, -1))
        total = seen.reshape(found.out_channels, -1).sum(axis=1)
        bias = found.op.attr("alpha", 1.0) * total + _bias(m, found)
    return _build(m, found, weight, bias)


def _weight(m: Match, found: Linear) -> Exact:
    """Return W, (group, out / group, in / group, *kernel), without Gemm's ``alpha``."""
    stored = require_constant(m, found.op.input(1), "the weight").astype(np.float64)
    if found.op.is_a("ConvTranspose"):
        return stored.reshape(found.group, -1, *stored.shape[1:]).swapaxes(1, 2)
    if found.op.is_a("Conv"):
        return stored.reshape(found.group, -1, *stored.shape[1:])
    return np.expand_dims(stored if found.op.attr("transB", 0) else stored.T, 0)


def _scaled_weight(m: Match, found: Linear, factors: Exact) -> Array:
    """Return W times ``factors``, (group, out / group or 1, in / group or 1), as the op stores it."""
    require_affordable_copy(m, m["w"])
    weight = _weight(m, found)
    weight = weight * factors.reshape(*factors.shape, *[1] * (weight.ndim - 3))
    if found.op.kind in ("MatMul", "Gemm"):
        exact = weight[0] if found.op.attr("transB", 0) else weight[0].T
    else:
        parts = weight.swapaxes(1, 2) if found.op.is_a("ConvTranspose") else weight
        exact = parts.reshape(-1, *parts.shape[2:])
    stored = rounded(m, exact, found.dtype, "weight")
    require_precise(m, exact, stored, found.dtype)
    return stored


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
    border = pads(found.op, found.rank or 0)
    if border is None:
        raise m.reject("Conv's padding depends on sizes that are not known")
    if any(border):
        raise m.reject("Conv pads with zeros, which the constant is not added to")


def _build(m: Match, found: Linear, weight: Array | None, bias: Exact | None) -> Value:
    """Add the op again, on x, with a new weight and bias where there is one."""
    old, new_bias = found.op, found.bias
    stored = None if bias is None else rounded(m, bias, found.dtype, "bias")
    new_weight = m["w"] if weight is None else m.constant("w", weight)
    if stored is not None:
        new_bias = m.constant("b" if found.bias is not None else f"{m['w'].name}_bias", stored)
    if not old.is_a("MatMul"):
        attrs = {key: value for key, value in old.attrs.items() if key != "beta" or bias is None}
        return m.add(old.kind, [m["x"], new_weight, new_bias], attrs=attrs, like=old)
    product = m.add("MatMul", [m["x"], new_weight], like=old)
    if new_bias is None:
        return product
    m.graph.set_type(product, old.output.type)
    return m.add("Add", [product, new_bias])
