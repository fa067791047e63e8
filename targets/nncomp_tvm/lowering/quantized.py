"""Kernels on codes (QLinearConv, QLinearMatMul), said as conversions around the float op: the form that is compiled."""

from __future__ import annotations

from typing import Any

from nncomp.ir import Graph, Op, Value
from nncomp_tvm.lowering.adding import Adding


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
