"""Arithmetic on shapes, followed as far as the numbers are known: a dimension that is free leaves a hole, not an end.

Exporters compute the targets of Reshape, the amounts of Pad and the bounds of Slice from Shape. What comes of sizes
that are fixed is as good as a constant.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import Dim, Graph, Op, Value
from nncomp.ops.accessors import squeeze_axes

_MOST: Final = 1024
"""Tensors with more elements are data, not shapes."""

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A small tensor; where ``known`` is False, ``data`` holds a symbol's :func:`code`, or nothing of meaning."""

    data: Array
    known: npt.NDArray[np.bool_]

    @property
    def complete(self) -> bool:
        """True when every element is known."""
        return bool(self.known.all())


def code(dim: Dim) -> int:
    """Return a number that stands for a symbolic dimension while it is moved about; 0 for one without a name."""
    return -(2**40) - zlib.crc32(dim.encode()) if isinstance(dim, str) else 0


def follow(graph: Graph, op: Op, found: Mapping[Value, Numbers]) -> Numbers | None:
    """Return what is known of an op's first output; None when nothing is, or it is large."""
    if op.domain or not op.outputs:
        return None
    if op.kind == "Shape":
        return _shape(op)
    given = [_given(graph, value, found) for value in op.inputs]
    if not given or given[0] is None:
        return None
    try:
        result = _evaluated(op, graph, given)
    except (ValueError, IndexError, TypeError, ZeroDivisionError, OverflowError):
        return None  # the op contradicts itself; whoever runs it says so
    return (
        None if result is None or result.data.size > _MOST or not (result.known | (result.data != 0)).any() else result
    )


def _given(graph: Graph, value: Value | None, found: Mapping[Value, Numbers]) -> Numbers | None:
    if value is None:
        return None
    if value in found:
        return found[value]
    constant = graph.constant(value)
    if constant is None:
        return _hole(value)
    if constant.size > _MOST:
        return None
    array = constant.numpy()
    return Numbers(array, np.ones(array.shape, bool)) if array.dtype.kind in "iubf" else None


def _hole(value: Value) -> Numbers | None:
    """Return a tensor of which only the size is known."""
    shape = None if value.tensor_type is None else value.tensor_type.static_shape
    if shape is None or value.tensor_type is None or int(np.prod(shape)) > _MOST:
        return None
    return Numbers(np.zeros(shape, value.tensor_type.dtype.numpy()), np.zeros(shape, bool))


def _shape(op: Op) -> Numbers | None:
    dims = None if op.inputs[0] is None else op.inputs[0].shape
    if dims is None:
        return None
    dims = dims[op.attr("start", 0) : op.attr("end", len(dims))]
    sizes = [dim if isinstance(dim, int) else code(dim) for dim in dims]
    return Numbers(np.array(sizes, np.int64), np.array([isinstance(dim, int) for dim in dims], bool))


def _evaluated(op: Op, graph: Graph, given: list[Numbers | None]) -> Numbers | None:
    first = given[0]
    assert first is not None
    if op.kind in _MOVES:
        move = _MOVES[op.kind](op, graph, given)
        return None if move is None else Numbers(move(first.data), move(first.known))
    if op.kind == "Concat":
        parts = [part for part in given if part is not None]
        axis = op.attr("axis", 0)
        if len(parts) < len(given):
            return None
        return Numbers(
            np.concatenate([part.data for part in parts], axis), np.concatenate([part.known for part in parts], axis)
        )
    if op.kind in _ARITHMETIC:
        rest = [one for one in given if one is not None]
        if len(rest) < len(given):
            return None
        with np.errstate(all="ignore"):
            data = _ARITHMETIC[op.kind](*(one.data for one in rest))
        known = np.logical_and.reduce(np.broadcast_arrays(*(one.known for one in rest)))
        return Numbers(np.where(known, data, np.zeros((), data.dtype)), known)
    return _made(op, given)


def _made(op: Op, given: list[Numbers | None]) -> Numbers | None:
    """Return what only makes sense when every operand is complete."""
    made: npt.NDArray[Any] | None = None
    arrays = [one.data for one in given if one is not None and one.complete]
    if len(arrays) < len(given):
        return None
    if op.kind == "ConstantOfShape":
        filling = op.attr("value")
        number = np.zeros(1, np.float32) if filling is None else filling.numpy()
        made = np.full([int(size) for size in arrays[0]], number[0], number.dtype) if _is_small(arrays[0]) else None
    elif op.kind == "Range" and len(arrays) == 3:
        start, limit, delta = (float(array.item()) for array in arrays)
        short = abs(limit - start) <= _MOST * abs(delta)
        made = np.arange(start, limit, delta).astype(arrays[0].dtype) if short else None
    elif op.kind == "ReduceProd" and arrays[0].ndim == 1:
        made = np.asarray(arrays[0].prod(keepdims=bool(op.attr("keepdims", 1))), arrays[0].dtype)
    elif op.kind == "Expand":
        made = np.broadcast_to(arrays[0], np.broadcast_shapes(arrays[0].shape, tuple(arrays[1].tolist())))
    else:
        made = None
    return None if made is None else Numbers(made, np.ones(made.shape, bool))


def _is_small(shape: Array) -> bool:
    return int(np.prod(shape.astype(np.float64))) <= _MOST


def _divided(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.asarray(a / b)
    divisor = np.where(b == 0, 1, b)
    return np.asarray(np.sign(a) * np.sign(divisor) * (np.abs(a) // np.abs(divisor)), a.dtype)  # ONNX rounds to zero


_ARITHMETIC: Final[dict[str, Callable[..., Array]]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divided,
    "Min": lambda *all_: np.minimum.reduce(np.broadcast_arrays(*all_)),
    "Max": lambda *all_: np.maximum.reduce(np.broadcast_arrays(*all_)),
    "Mod": lambda a, b: np.asarray(np.mod(a, np.where(b == 0, 1, b)), a.dtype),
    "Neg": np.negative,
    "Abs": np.abs,
    "Sqrt": np.sqrt,
    "And": np.logical_and,
    "Or": np.logical_or,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Equal": np.equal,
    "Greater": np.greater,
    "Less": np.less,
    "Not": np.logical_not,
    "Where": np.where,
}

_Move: TypeAlias = Callable[[Array], Array]


def _cast(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    kinds = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}
    target = kinds.get(op.attr("to", 0))
    return None if target is None else lambda array: array if array.dtype == bool else array.astype(target)


def _gathered(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    places = given[1]
    return None if places is None or not places.complete else lambda a: np.take(a, places.data, op.attr("axis", 0))


def _reshaped(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    target = given[1]
    if target is None or not target.complete or not target.data.all():
        return None
    return lambda array: array.reshape(target.data.tolist())


def _squeezed(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    axes = squeeze_axes(op, graph)
    return None if axes is None else lambda array: np.squeeze(array, axes)


def _unsqueezed(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    axes = squeeze_axes(op, graph)
    return None if axes is None else lambda array: np.expand_dims(array, axes)


def _sliced(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    operands = given[1:]
    if op.attr("starts") is not None:
        starts, ends = op.attr("starts"), op.attr("ends")
        axes, steps = op.attr("axes") or range(len(starts)), [1] * len(starts)
    elif any(one is None or not one.complete for one in operands):
        return None
    else:
        numbers = [[int(number) for number in one.data.reshape(-1)] for one in operands if one is not None]
        starts, ends = numbers[0], numbers[1]
        axes = numbers[2] if len(numbers) > 2 else range(len(starts))
        steps = numbers[3] if len(numbers) > 3 else [1] * len(starts)

    def move(array: Array) -> Array:
        parts = [slice(None)] * array.ndim
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            parts[axis] = slice(start, None if step < 0 and end < -array.shape[axis] else end, step)
        return array[tuple(parts)]

    return move


def _transposed(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    return lambda array: np.transpose(array, op.attr("perm"))


def _same(op: Op, graph: Graph, given: list[Numbers | None]) -> _Move | None:
    return lambda array: array


_MOVES: Final[dict[str, Callable[[Op, Graph, list[Numbers | None]], _Move | None]]] = {
    "Cast": _cast,
    "Gather": _gathered,
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Slice": _sliced,
    "Transpose": _transposed,
    "Identity": _same,
}
