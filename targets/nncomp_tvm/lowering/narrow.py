"""Conversions of 8-bit floats, by tables: TVM's own round otherwise than ONNX says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType
from nncomp_tvm.library import Expr, constant, relax, te, tirx
from nncomp_tvm.lowering.calls import Call, NotLoweredError

Array = npt.NDArray[Any]

_BUILT: Final = frozenset({"FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"})


def cast(call: Call) -> Sequence[Expr] | None:
    """Cast and CastLike from or to floats of 8 bits; all others are left to TVM's converter."""
    source, result = call.op.inputs[0], call.op.output
    kinds = [value.tensor_type.dtype for value in (source, result) if value is not None and value.tensor_type]
    if len(kinds) < 2 or not any("FLOAT8" in kind.name for kind in kinds):
        return None
    data, (old, new) = call.inputs[0], kinds
    if old is new:
        return [data]
    if not {kind.name for kind in kinds if "FLOAT8" in kind.name} <= _BUILT:
        raise NotLoweredError("conversions of FLOAT8E8M0 are not built")
    emit = call.builder.emit
    if old.name in _BUILT:
        table = np.arange(256, dtype=np.uint8).view(old.numpy()).astype(np.float32)
        data = call.builder.emit_te(_read, data, constant(table), primfunc_name_hint="from_float8")
    if new.name not in _BUILT:
        return [emit(relax.op.astype(data, str(new.numpy())))]
    limits, codes = _codes(new, saturate=bool(call.op.attr("saturate", 1)))
    data = emit(relax.op.astype(data, "float32"))
    tables = [constant(one) for one in (limits, codes)]
    return [call.builder.emit_te(_writing(str(new.numpy())), data, *tables, primfunc_name_hint="to_float8")]


def _codes(kind: DataType, *, saturate: bool) -> tuple[Array, Array]:
    """Return from which magnitude on a number gets the next code, and the codes: of positive numbers, then NaN.

    A tie goes to the even code: the limit before an odd one is the next float above it. What is beyond the largest
    finite number is that number, or if it does not saturate infinity, or NaN where the type has no infinity.
    """
    dtype: Any = kind.numpy()
    values = np.arange(128, dtype=np.uint8).view(dtype).astype(np.float64)
    finite = values[np.isfinite(values)]
    step = finite[-1] - finite[-2]
    middle = np.append((finite[:-1] + finite[1:]) / 2, finite[-1] + step / 2).astype(np.float32)
    odd = np.arange(1, len(middle) + 1) % 2 == 1
    limits = np.where(odd, np.nextafter(middle, np.float32(np.inf)), middle)
    beyond = dtype.type(np.inf) if np.isinf(np.asarray(np.inf, dtype).astype(np.float32)) else dtype.type(np.nan)
    nan = np.asarray(np.nan, dtype).view(np.uint8)
    last = np.uint8(len(finite) - 1) if saturate else np.asarray(beyond, dtype).view(np.uint8)
    codes = [*range(len(finite)), int(last), int(nan)]
    return limits, np.array(codes, np.uint8)


def _read(data: Any, table: Any) -> Any:
    return te.compute(data.shape, lambda *at: table(tirx.reinterpret("uint8", data(*at)).astype("int32")), name="read")


def _writing(name: str) -> Callable[[Any, Any, Any], Any]:
    """Return a tensor expression of data, limits and codes that gives floats of type ``name``."""

    def write(data: Any, limits: Any, codes: Any) -> Any:
        count = int(limits.shape[0])
        k = te.reduce_axis((0, count), name="k")

        def passed(*at: Any) -> Any:
            return te.sum((te.abs(data(*at)) >= limits(k)).astype("int32"), axis=[k])

        place = te.compute(data.shape, passed, name="place")

        def code(*at: Any) -> Any:
            value, zero = data(*at), tirx.const(0, "uint8")
            nothing = tirx.isnan(value)
            found = codes(tirx.Select(nothing, tirx.const(count + 1, "int32"), place(*at)))
            sign = (tirx.reinterpret("uint32", value) >> tirx.const(24, "uint32")).astype("uint8")
            unsigned = tirx.any(nothing, found == zero) if name.endswith("fnuz") else nothing
            return tirx.reinterpret(name, found | tirx.Select(unsigned, zero, sign & tirx.const(128, "uint8")))

        return te.compute(data.shape, code, name="write")

    return write
