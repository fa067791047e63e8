"""Kernels on codes, said as conversions around the float op, and conversions that TVM lacks, said as arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np

from nncomp.ir import DataType, Graph, Op, Value
from nncomp_tvm.lowering.adding import Adding, dtype_of, static_shape


def without_quantized_kernels(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """QLinearX(a, b) = QuantizeLinear(X(DequantizeLinear(a), DequantizeLinear(b)))."""
    add = Adding(graph)
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = op.inputs[:8]
    if op.kind == "QLinearConv":
        left = add("DequantizeLinear", a, a_scale, a_zero)
        right = _dequantized(add, b, b_scale, b_zero, axis=0)
        operands = [left, right]
        if op.input(8) is not None:
            scale = add("Mul", a_scale, b_scale)
            operands.append(_dequantized(add, op.inputs[8], scale, None, axis=0))
        attrs: dict[str, Any] = dict(op.attrs)
        result = add("Conv", *operands, **attrs)
    else:
        left = _dequantized(add, a, a_scale, a_zero, axis=-2)
        right = _dequantized(add, b, b_scale, b_zero, axis=-1)
        result = add("MatMul", left, right)
    return (add("QuantizeLinear", result, y_scale, y_zero),)


def _dequantized(add: Adding, codes: Value | None, scale: Any, zero: Value | None, *, axis: int) -> Value:
    found: Value = add("DequantizeLinear", codes, scale, zero, axis=axis)
    return found


def without_codes(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """QuantizeLinear and DequantizeLinear whose scale is one of a block, or whose codes are 8-bit floats.

    Codes y = saturate(round(x / scale) + zero), and back (y - zero) scale; 8-bit floats are rounded as a Cast does it.
    """
    data, scale, zero = op.inputs[0], op.inputs[1], op.input(2)
    shape, result = static_shape(data), op.output.tensor_type
    if data is None or scale is None or shape is None or result is None or data.tensor_type is None:
        return None
    add, axis = Adding(graph), int(op.attr("axis", 1))
    back = op.kind == "DequantizeLinear"
    codes = data.tensor_type.dtype if back else result.dtype
    size = int(op.attr("block_size", 0))
    if not size and "FLOAT8" not in codes.name:
        return None

    def spread(one: Value) -> Value:
        sizes = static_shape(one) or ()
        if size:
            found: Value = add("Gather", one, add.constant(np.arange(shape[axis]) // size), axis=axis)
        elif len(sizes) == 1 and sizes != (1,):
            found = add("Reshape", one, add.constant([-1 if d == axis % len(shape) else 1 for d in range(len(shape))]))
        else:
            found = one
        return found

    wide = dtype_of(scale)
    kind = DataType.from_numpy(wide).value
    if back:
        real = add("Cast", data, to=kind)
        if zero is not None and "FLOAT8" not in codes.name:
            real = add("Sub", real, add("Cast", spread(zero), to=kind))
        found = add("Mul", real, spread(scale))
        return (found if result.dtype.value == kind else add("Cast", found, to=result.dtype.value),)
    if dtype_of(data) != wide:
        data = add("Cast", data, to=kind)
    part = add("Div", data, spread(scale))
    if "FLOAT8" in codes.name:
        return (add("Cast", part, to=codes.value, saturate=int(op.attr("saturate", 1))),)
    if codes.numpy().kind not in "iu":
        return None
    part = add("Round", part)
    if zero is not None:
        part = add("Add", part, add("Cast", spread(zero), to=kind))
    range_ = np.iinfo(codes.numpy())
    bounds = [add.constant(one, wide) for one in (range_.min, range_.max)]
    return (add("Cast", add("Clip", part, *bounds), to=codes.value),)
