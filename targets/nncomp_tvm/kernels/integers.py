"""Bring quantized graphs into the form that kernels take: u8 activations, and conversions right beside who reads them.

What only moves elements (reshape, transpose, concatenation of one scale) moves integers instead of real numbers; a
conversion there and back is none; signed activations become unsigned ones, 128 higher, with a zero point 128 higher,
which stand for the same numbers. Products for which there is no kernel of bytes are of whole numbers in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors import Device
from nncomp_tvm.kernels.extents import known
from nncomp_tvm.kernels.graph import Walk, array_of, dtype_of, name_of, shape_of
from nncomp_tvm.kernels.packing import signed_bytes
from nncomp_tvm.library import Constant, relax


def normalised(module: Any, device: Device) -> Any:
    """Return the module with conversions of integers where the kernels of a device look for them."""
    return _Integers(module, device).walk.run()


class _Integers:
    def __init__(self, module: Any, device: Device) -> None:
        self.walk, self.device = Walk(module, self._rewrite), device
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


def _convolution(integers: _Integers, call: Any) -> Any:
    """A convolution for which there are no kernels of bytes, such as one of three channels: of whole numbers."""
    weights = shape_of(call.args[1])
    if call.attrs.data_layout != "NCHW" or call.attrs.kernel_layout != "OIHW" or weights is None or not known(weights):
        return None
    outer, inner, *kernel = weights
    depthwise = inner == 1 and outer == int(call.attrs.groups)
    shape = (-1, *(1 for _ in kernel))
    return _whole(integers, call, axis=0, shape=shape, as_bytes=depthwise or integers.device.multiplies_bytes(inner))


def _product(integers: _Integers, call: Any) -> Any:
    left, right = shape_of(call.args[0]), shape_of(call.args[1])
    if left is None or right is None or min(len(left), len(right)) < 2 or not known(right):
        return None
    as_bytes = len(right) == 2 and integers.device.multiplies_bytes(right[0])
    return _whole(integers, call, axis=1, shape=(-1,), as_bytes=as_bytes, depth=right[-2])


def _whole(integers: _Integers, call: Any, *, axis: int, shape: tuple[int, ...], as_bytes: bool, depth: int = 0) -> Any:
    """op(dequantize(x), dequantize(w)) = op(x - z, w - z') s s', with whole numbers that float32 holds exactly.

    Args:
        axis: The one of the weights along which their scale may vary.
        shape: Of such a scale as a factor of the result.
        as_bytes: Whether signed bytes as weights are left to kernels of bytes.
        depth: How many products a sum has, where both are activations.
    """
    left, right = (integers.dequantized(call.args[i], whole=i == 0) for i in (0, 1))
    x, w = _Parts.of(left), _Parts.of(right)
    if x is None or w is None:
        return None
    if w.stored is None:
        if w.scale.size > 1 or not depth:
            return None
        other, largest = _unscaled(integers, right), 255 * depth
    else:
        if (depth and w.stored.ndim != 2) or (as_bytes and signed_bytes(w.stored, w.zero) is not None):
            return None
        if w.scale.size > 1 and right.attrs.axis % w.stored.ndim != axis:
            return None
        weights = w.stored.astype(np.float32) - np.float32(w.zero)
        along = tuple(d for d in range(weights.ndim) if d != axis)
        other, largest = relax.const(weights), int(np.abs(weights).sum(axis=along).max(initial=0))
    if 255 * largest >= 1 << 24:
        return None
    total = integers.walk.emit(relax.Call(call.op, [_unscaled(integers, left), other], call.attrs, call.ty_args))
    factor = x.scale * w.scale
    return relax.op.multiply(total, relax.const(factor.reshape(shape if factor.size > 1 else (1,))))


@dataclass(frozen=True)
class _Parts:
    """Of a dequantization of bytes: its numbers, if they are known, its scale and its one zero point."""

    stored: NDArray[Any] | None
    scale: NDArray[np.float32]
    zero: int

    @classmethod
    def of(cls, call: Any) -> _Parts | None:
        """Return them; None where they are others, or there is no dequantization."""
        if call is None:
            return None
        scale, zero = array_of(call.args[1]), array_of(call.args[2])
        known = scale is not None and scale.dtype == np.float32 and zero is not None and np.unique(zero).size == 1
        if not known or scale is None or zero is None or dtype_of(call.args[0]) not in ("int8", "uint8"):
            return None
        return cls(array_of(call.args[0]), scale.reshape(-1), int(zero.reshape(-1)[0]))


def _unscaled(integers: _Integers, call: Any) -> Any:
    """Return what is dequantized without its scale: whole numbers as float32."""
    one = relax.const(np.float32(1.0))
    return integers.walk.emit(relax.op.dequantize(call.args[0], one, call.args[2], call.attrs.axis, "float32"))


_HANDLERS: Final[Mapping[str, Callable[[_Integers, Any], Any]]] = MappingProxyType(
    {
        **dict.fromkeys(("permute_dims", "reshape", "squeeze", "expand_dims", "flatten"), _moved),
        "nn.conv2d": _convolution,
        "matmul": _product,
        "concat": _concatenated,
        "quantize": _quantized,
        "dequantize": _activation,
    }
)
