"""What rules ask of a match: each function returns what was asked for, or declines and says what is in the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Dim, Graph, Op, Value
from nncomp.rewrite import Match

Array = npt.NDArray[Any]
Exact = npt.NDArray[np.float64]

_PRECISION: Final[dict[DataType, int]] = {
    DataType.FLOAT: 23,
    DataType.DOUBLE: 52,
    DataType.FLOAT16: 10,
    DataType.BFLOAT16: 7,
}
"""Types that constants are folded in, with their bits behind the point."""

SMALL_COPY: Final = 4096
"""Bytes; a shared weight up to this size may be copied: what a fold saves is worth more."""


def opset(m: Match) -> int:
    """Return the version of ONNX's own opset."""
    return m.graph.opsets.get("", 1)


def require_opset(m: Match, kind: str, version: int) -> None:
    """Decline when the model imports an opset without ``kind``."""
    if opset(m) < version:
        raise m.reject(f"{kind} needs opset {version}, the model imports {opset(m)}")


def require_constant(m: Match, value: Value | None, what: str) -> Array:
    """Return the data of ``value``, read-only."""
    array = m.graph.array(value)
    if array is None:
        raise m.reject(_not_constant(m, value, what))
    return array


def require_float_constant(m: Match, value: Value | None, what: str) -> tuple[tuple[int, ...], DataType]:
    """Return shape and type of constant floating-point data, without reading it."""
    tensor = m.graph.constant(value)
    if tensor is None:
        raise m.reject(_not_constant(m, value, what))
    if tensor.dtype not in _PRECISION:
        raise m.reject(f"{what} is {tensor.dtype.name.lower()}, constants are folded in floating point only")
    return tuple(int(dim) for dim in tensor.shape), tensor.dtype


def require_sole_reader(m: Match, value: Value) -> None:
    """Decline when ``value`` is needed by more than the one op of the pattern that reads it."""
    if m.graph.is_output(value):
        raise m.reject("the value between them is a graph output")
    if not m.graph.single_use(value):
        raise m.reject(f"the value between them is read in {len(m.graph.uses(value))} places")


def require_private(m: Match, leaves: Iterable[Value]) -> set[Op]:
    """Return the ops that the pattern spans, from the root to ``leaves``; nobody else may read what they compute."""
    stop = set(leaves)
    inside = {m.root}
    pending = [m.root]
    while pending:
        for value in pending.pop().inputs:
            producer = None if value is None or value in stop or m.graph.constant(value) is not None else value.producer
            if producer is not None and producer not in inside:
                inside.add(producer)
                pending.append(producer)
    for op in inside - {m.root}:
        for value in op.outputs:
            if m.graph.is_output(value):
                raise m.reject("a value inside of it is a graph output")
            if any(use.op not in inside for use in m.graph.uses(value)):
                raise m.reject("a value inside of it is read elsewhere")
    return inside


def require_float(m: Match, value: Value, kind: str) -> None:
    """Decline unless ``value`` is known to be float32 or float16, which all runtimes compute ``kind`` in."""
    type_ = value.tensor_type
    if type_ is None:
        raise m.reject("the type of its input is not known")
    if type_.dtype not in (DataType.FLOAT, DataType.FLOAT16):
        raise m.reject(f"its input is {type_.dtype.name.lower()}, which runtimes have no {kind} for")


def require_shape(m: Match, value: Value) -> tuple[Dim, ...]:
    """Return the shape of ``value``; its dimensions may be unknown, its rank may not."""
    if value.shape is None:
        raise m.reject("the rank of an input is not known")
    return value.shape


def require_scalars(m: Match, x: Value, *names: str) -> None:
    """Decline when a one-element constant has more axes than ``x``, and so gives the result more."""
    for name in names:
        constant = m.get(name)
        rank = 0 if constant is None or constant.shape is None else len(constant.shape)
        if rank and (x.shape is None or rank > len(x.shape)):
            raise m.reject("a constant has more axes than its input")


def require_close(m: Match, name: str, expected: float) -> None:
    """Decline when a constant is too coarsely rounded for results to agree within 1e-5."""
    found = number(m, name)
    if not np.isclose(found, expected, rtol=5e-6, atol=0):
        raise m.reject(f"its constant {found:.7g} should be {expected:.7g}")


def number(m: Match, name: str) -> float:
    """Return a constant's only element, or decline."""
    array = m.array(name)
    if array.size != 1:
        raise m.reject(f"a constant of it has {array.size} elements, expected one")
    return float(array.reshape(-1)[0])


def require_affordable_copy(m: Match, weight: Value) -> None:
    """Decline when folding would leave the weight for other readers and store a second, different one."""
    others = _readers(m.graph, weight) - 1
    tensor = m.graph.constant(weight)
    size = 0 if tensor is None else tensor.nbytes
    if others and size > SMALL_COPY:
        raise m.reject(
            f"the weight is shared with {others} other op{'s' if others > 1 else ''}: "
            f"a folded copy would add {size} bytes"
        )


def rounded(m: Match, exact: Exact, dtype: DataType, what: str) -> Array:
    """Return ``exact`` stored as ``dtype``, or decline when that makes it infinite."""
    stored: Array = exact.astype(dtype.numpy())
    if not np.isfinite(stored).all():
        raise m.reject(f"the folded {what} would not be finite in {dtype.name.lower()}")
    return stored


def require_precise(m: Match, exact: Exact, stored: Array, dtype: DataType) -> None:
    """Decline when a weight has become so small that ``stored`` has lost more than the usual rounding."""
    error = np.linalg.norm((stored.astype(np.float64) - exact).reshape(-1))
    if error > 2.0 ** -_PRECISION[dtype] * np.linalg.norm(exact.reshape(-1)):
        raise m.reject(f"the folded weight is too small for {dtype.name.lower()}")


def _readers(graph: Graph, value: Value) -> int:
    """Count the ops that read a value, through all bodies that capture it."""
    count = len(graph.uses(value))
    parent = graph.parent
    if value not in graph.captures or parent is None:
        return count
    return count - 1 + _readers(parent, graph.captures[value])


def _not_constant(m: Match, value: Value | None, what: str) -> str:
    """Return why ``value`` is no constant."""
    graph: Graph | None = m.graph
    while value is not None and graph is not None:
        if value.default is not None:
            return f"{what} may be replaced by the caller: it is a graph input with a default"
        value, graph = graph.captures.get(value), graph.parent
    return f"{what} is not constant"
