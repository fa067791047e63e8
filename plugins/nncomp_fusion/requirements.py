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
    if array is not None:
        return array
    if value is None:
        raise m.reject(f"{what} is not given")
    _, origin = _origin(m.graph, value)
    if origin.default is not None:
        raise m.reject(f"{what} may be replaced by the caller: it is a graph input with a default")
    raise m.reject(f"{what} is not constant")


def require_weights(m: Match, value: Value | None, what: str) -> tuple[Exact, DataType]:
    """Return constant floating-point data, exactly, and the type that it is stored in."""
    array = require_constant(m, value, what)
    tensor = m.graph.constant(value)
    dtype = tensor.dtype if tensor is not None else DataType.UNDEFINED
    if dtype not in _PRECISION:
        raise m.reject(f"{what} is {dtype.name.lower()}, constants are folded in floating point only")
    return array.astype(np.float64), dtype


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
    """Return ``exact`` stored as ``dtype``, or decline when that cannot hold it."""
    with np.errstate(over="ignore", under="ignore"):
        stored: Array = exact.astype(dtype.numpy())
    back = stored.astype(np.float64)
    if not np.isfinite(back).all():
        raise m.reject(f"the folded {what} would not be finite in {dtype.name.lower()}")
    limit = 2.0 ** -_PRECISION[dtype]
    if np.linalg.norm((back - exact).reshape(-1)) > limit * np.linalg.norm(exact.reshape(-1)):
        raise m.reject(f"the folded {what} is too small for {dtype.name.lower()}")
    return stored


def _readers(graph: Graph, value: Value) -> int:
    """Count the ops that read a value, through all bodies that capture it."""
    count = len(graph.uses(value))
    parent = graph.parent
    if value not in graph.captures or parent is None:
        return count
    return count - 1 + _readers(parent, graph.captures[value])


def _origin(graph: Graph, value: Value) -> tuple[Graph, Value]:
    while value in graph.captures and graph.parent is not None:
        value, graph = graph.captures[value], graph.parent
    return graph, value
