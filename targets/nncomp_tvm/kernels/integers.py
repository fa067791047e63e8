"""Bring quantized graphs into the form that kernels take: u8 activations, and conversions right beside who reads them.

What only moves elements (reshape, transpose, concatenation of one scale) moves integers instead of real numbers; a
conversion there and back is none; signed activations become unsigned ones, 128 higher, with a zero point 128 higher,
which stand for the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from nncomp_tvm.kernels.graph import Walk, array_of, dtype_of, name_of, shape_of
from nncomp_tvm.library import Constant, relax


def normalised(module: Any) -> Any:
    """Return the module with conversions of integers where kernels look for them."""
    return _Integers(module).walk.run()


class _Integers:
    def __init__(self, module: Any) -> None:
        self.walk = Walk(module, self._rewrite)
        self.raised: dict[Any, Any] = {}  # int8 variable -> the same, 128 higher, as uint8

    def definition(self, value: Any) -> Any:
        """Return the call that a new variable is bound to, if it is."""
        return self.walk.builder.lookup_binding(value) if isinstance(value, relax.Var) else None

    def dequantized(self, value: Any, *, whole: bool) -> Any:
        """Return the dequantization that ``value`` is, one of a single scale if ``whole``."""
        call = self.definition(value)
        if name_of(call) != "dequantize":
            return None
        scale = array_of(call.args[1])
        single = scale is not None and scale.size == 1
        return call if single or not whole else None

    def unsigned(self, value: Any) -> Any:
        """Return int8 activations, 128 higher, as uint8."""
        if value not in self.raised:
            wide = self.walk.emit(relax.op.astype(value, "int16"))
            raised = self.walk.emit(relax.op.add(wide, relax.const(np.int16(128))))
            self.raised[value] = self.walk.emit(relax.op.astype(raised, "uint8"))
        return self.raised[value]

    def _rewrite(self, walk: Walk, item: Any) -> Any:
        _, call = item
        handler = _HANDLERS.get(name_of(call))
        result = handler(self, call) if handler else None
        return call if result is None else result


def _moved(integers: _Integers, call: Any) -> Any:
    """move(dequantize(x)) = dequantize(move(x))."""
    axes = [int(axis) for axis in call.attrs.axes] if name_of(call) == "permute_dims" and call.attrs.axes else None
    source = integers.dequantized(call.args[0], whole=axes is None)
    if source is None:
        return None
    axis = axes.index(source.attrs.axis % len(axes)) if axes is not None else 0
    stored = integers.walk.emit(relax.Call(call.op, [source.args[0], *call.args[1:]], call.attrs, call.ty_args))
    return relax.op.dequantize(stored, source.args[1], source.args[2], axis, source.attrs.out_dtype)


def _concatenated(integers: _Integers, call: Any) -> Any:
    """Join tensors of one scale as integers."""
    if not isinstance(call.args[0], relax.Tuple):
        return None
    parts = [integers.dequantized(field, whole=True) for field in call.args[0].fields]
    if any(part is None or not _same_scale(part, parts[0]) for part in parts):
        return None
    stored = integers.walk.emit(relax.op.concat([part.args[0] for part in parts], call.attrs.axis))
    return relax.op.dequantize(stored, parts[0].args[1], parts[0].args[2], 0, parts[0].attrs.out_dtype)


def _same_scale(left: Any, right: Any) -> bool:
    """Whether two conversions have equal constants and types."""
    pairs = [(array_of(a), array_of(b)) for a, b in zip(left.args[1:], right.args[1:], strict=True)]
    known = all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)
    return known and dtype_of(left.args[2]) == dtype_of(right.args[2])


def _quantized(integers: _Integers, call: Any) -> Any:
    """quantize(dequantize(x)) = x for one scale; int8 activations exist as uint8, too."""
    source = integers.dequantized(call.args[0], whole=True)
    if source is not None and _same_scale(source, call) and dtype_of(source.args[0]) == str(call.attrs.out_dtype):
        return source.args[0]
    zero = array_of(call.args[2])
    if str(call.attrs.out_dtype) != "int8" or zero is None or shape_of(call.args[0]) is None:
        return None
    raised = relax.const((zero.astype(np.int16) + 128).astype(np.uint8))
    stored = integers.walk.emit(relax.op.quantize(call.args[0], call.args[1], raised, call.attrs.axis, "uint8"))
    signed = integers.walk.emit(call)
    integers.raised[signed] = stored
    return signed


def _activation(integers: _Integers, call: Any) -> Any:
    """dequantize(x, s, z) = dequantize(x + 128, s, z + 128) for int8 activations; int8 weights stay."""
    x, scale, zero = call.args[0], array_of(call.args[1]), array_of(call.args[2])
    if isinstance(x, Constant) or dtype_of(x) != "int8" or zero is None or scale is None or scale.size != 1:
        return None
    raised = relax.const((zero.astype(np.int16) + 128).astype(np.uint8))
    return relax.op.dequantize(integers.unsigned(x), call.args[1], raised, call.attrs.axis, call.attrs.out_dtype)


_HANDLERS: Final[Mapping[str, Callable[[_Integers, Any], Any]]] = MappingProxyType(
    {
        **dict.fromkeys(("permute_dims", "reshape", "squeeze", "expand_dims", "flatten"), _moved),
        "concat": _concatenated,
        "quantize": _quantized,
        "dequantize": _activation,
    }
)
