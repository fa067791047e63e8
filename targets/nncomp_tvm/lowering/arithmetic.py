"""Arithmetic at its edges: remainders of infinities and zeros, shifts by more bits than there are, order of uint64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nncomp_tvm.library import Expr, constant, relax, te, tirx, topi
from nncomp_tvm.lowering.calls import Call


def modulo(call: Call) -> Sequence[Expr] | None:
    """Mod of floats: the remainder of C's fmod, moved to the sign of the divisor unless ``fmod`` is set.

    It is computed from the remainder, for a - floor(a / b) b is not one where a / b is rounded.
    """
    dtype = call.dtype(0)
    if dtype.kind != "f" and dtype.name != "bfloat16":
        return None
    wide = "float64" if dtype == np.float64 else "float32"
    truncated = bool(call.op.attr("fmod", 0))

    def remainder(a: Any, b: Any) -> Any:
        rest = tirx.call_pure_extern(wide, "fmod" if wide == "float64" else "fmodf", a, b)
        if truncated:
            return rest
        zero = tirx.const(0, wide)
        other = tirx.any(tirx.all(rest < zero, b > zero), tirx.all(rest > zero, b < zero))
        signed_zero = tirx.Select(b < zero, tirx.const(-0.0, wide), zero)
        return tirx.Select(rest == zero, signed_zero, tirx.Select(other, rest + b, rest))

    operands = [call.builder.emit(relax.op.astype(one, wide)) for one in call.inputs[:2]]
    result = call.builder.emit_te(_elementwise(remainder), *operands, primfunc_name_hint="remainder")
    return [call.builder.emit(relax.op.astype(result, str(dtype)))]


def bit_shift(call: Call) -> Sequence[Expr] | None:
    """BitShift: by more bits than there are, or by a negative number, only copies of the sign are left."""
    dtype, right = call.dtype(0), call.op.attr("direction") == "RIGHT"

    def shifted(a: Any, b: Any) -> Any:
        zero = tirx.const(0, str(dtype))
        bits = (dtype.itemsize * 8).bit_length() - 1
        inside = (b >> tirx.const(bits, str(dtype))) == zero  # neither negative nor too large
        by = tirx.Select(inside, b, zero)
        if right:
            rest = tirx.Select(a < zero, tirx.const(-1, str(dtype)), zero) if dtype.kind == "i" else zero
            return tirx.Select(inside, a >> by, rest)
        return tirx.Select(inside, a << by, zero)

    return [call.builder.emit_te(_elementwise(shifted), *call.inputs[:2], primfunc_name_hint="shift")]


def top_k(call: Call) -> Sequence[Expr] | None:
    """TopK of uint64, which TVM cannot sort: as int64 with the highest bit turned, which keeps the order."""
    if call.dtype(0) != np.uint64:
        return None
    emit, count = call.builder.emit, call.array(1)
    if count is None or not call.op.attr("sorted", 1):
        return None
    top = constant(np.array(1 << 63, np.uint64))

    def turned(data: Expr, dtype: str) -> Expr:
        return emit(relax.op.astype(data, dtype))

    signed = turned(emit(relax.op.bitwise_xor(call.inputs[0], top)), "int64")
    axis, largest = int(call.op.attr("axis", -1)), bool(call.op.attr("largest", 1))
    found = emit(relax.op.topk(signed, int(count.ravel()[0]), axis, "both", largest, "int64"))
    values, places = (emit(relax.TupleGetItem(found, number)) for number in (0, 1))
    return [emit(relax.op.bitwise_xor(turned(values, "uint64"), top)), places]


def _elementwise(function: Any) -> Any:
    """Return a tensor expression of two tensors that are broadcast to each other."""

    def write(a: Any, b: Any) -> Any:
        wide = topi.add(a, b).shape
        one, other = topi.broadcast_to(a, wide), topi.broadcast_to(b, wide)
        return te.compute(wide, lambda *at: function(one(*at), other(*at)), name="elementwise")

    return write
