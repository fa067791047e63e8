"""What small integer tensors hold: numbers, and dimensions of values whose sizes are known only when the model runs.

Exporters compute shapes in the graph (Shape, Gather, Mul, Unsqueeze, Concat, Reshape). Followed entry by entry, most of
it turns out to be numbers, or dimensions that Reshape can copy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, Op, Value
from nncomp_cleanup.proven import Proven, source_of

Entry: TypeAlias = int | str | tuple[Value, int] | None
"""A number; a symbol; a dimension that has no symbol, as (value, axis); or nothing known."""

_MAX_ENTRIES: Final = 64
_INTEGERS: Final = (DataType.INT64, DataType.INT32)


@dataclass(frozen=True, slots=True)
class Integers:
    """A scalar or vector of integers, entry by entry. Equal entries that are not None are equal on every run."""

    entries: tuple[Entry, ...]
    scalar: bool
    dtype: DataType

    @property
    def numbers(self) -> npt.NDArray[np.generic] | None:
        """The tensor, when every entry is a number."""
        known = [entry for entry in self.entries if isinstance(entry, int)]
        if len(known) < len(self.entries):
            return None
        array = np.array(known, dtype=self.dtype.numpy())
        return array.reshape(()) if self.scalar else array


def dims_of(graph: Graph, proven: Proven, value: Value) -> tuple[Entry, ...] | None:
    """Return the dimensions of ``value``, None when its rank is not known."""
    shape = proven.shape(value)
    if shape is None:
        return None
    source = source_of(graph, value)
    return tuple((source, axis) if dim is None else dim for axis, dim in enumerate(shape))


def small_integers(graph: Graph, proven: Proven) -> Mapping[Value, Integers]:
    """Return what is known of small integer tensors, of the graph and its bodies. Linear in ops."""
    found: dict[Value, Integers] = {}
    for part in graph.graphs():
        for inner, outer in part.captures.items():
            if outer in found:
                found[inner] = found[outer]
        for value in part.values():
            data = part.constant(value) if value not in found else None
            if data is not None and data.dtype in _INTEGERS and data.size <= _MAX_ENTRIES and len(data.shape) <= 1:
                numbers = tuple(int(number) for number in np.asarray(data.numpy()).reshape(-1))
                found[value] = Integers(numbers, len(data.shape) == 0, data.dtype)
        for op in part.ops():
            rule = _RULES.get(op.kind) if op.domain == "" else None
            if rule is None or op.outputs[0] in found:
                continue
            known = rule(part, op, proven, found)
            if known is not None and len(known.entries) <= _MAX_ENTRIES:
                found[op.output] = known
    return found


_Known: TypeAlias = Mapping[Value, Integers]
_Rule: TypeAlias = Callable[[Graph, Op, Proven, _Known], Integers | None]


def _shape(graph: Graph, op: Op, proven: Proven, _: _Known) -> Integers | None:
    data = op.inputs[0]
    dims = None if data is None else dims_of(graph, proven, data)
    return None if dims is None else Integers(dims[op.attr("start", 0) : op.attr("end")], False, DataType.INT64)


def _size(graph: Graph, op: Op, proven: Proven, _: _Known) -> Integers | None:
    type_ = None if op.inputs[0] is None else proven.types.get(op.inputs[0])
    return None if type_ is None or type_.size is None else Integers((type_.size,), True, DataType.INT64)


def _gather(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    data, places = _operand(op, 0, known), _operand(op, 1, known)
    if data is None or places is None or data.scalar:
        return None
    chosen = [data.entries[place] for place in places.entries if _is_inside(place, len(data.entries))]  # type: ignore[index]
    return Integers(tuple(chosen), places.scalar, data.dtype) if len(chosen) == len(places.entries) else None


def _slice(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    data = _operand(op, 0, known)
    if data is None or data.scalar:
        return None
    bounds = []
    for slot, name in ((1, "starts"), (2, "ends"), (4, "steps")):
        given = _operand(op, slot, known)
        numbers = op.attr(name) if op.input(slot) is None else None if given is None else given.entries
        if slot == 4 and op.input(slot) is None:
            numbers = (1,)
        if numbers is None or len(numbers) != 1 or not isinstance(numbers[0], int):
            return None
        bounds.append(numbers[0])
    start, end, step = bounds  # Python's slices clamp as ONNX's do
    return Integers(data.entries[start:end:step], False, data.dtype) if step else None


def _concat(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    parts = [_operand(op, slot, known) or _unknown(value, proven) for slot, value in enumerate(op.inputs)]
    vectors = [part for part in parts if part is not None and not part.scalar]
    if len(vectors) < len(parts):
        return None
    return Integers(tuple(entry for part in vectors for entry in part.entries), False, vectors[0].dtype)


def _unsqueeze(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    data, axes = _operand(op, 0, known), _operand(op, 1, known)
    count = len(op.attr("axes") or ()) if axes is None else len(axes.entries)
    return Integers(data.entries, False, data.dtype) if data is not None and data.scalar and count == 1 else None


def _squeeze(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    data, axes = _operand(op, 0, known), _operand(op, 1, known)
    single = data is not None and len(data.entries) == 1 and (axes is None or len(axes.entries) == 1)
    return Integers(data.entries, True, data.dtype) if data is not None and single else None


def _reshape(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    data, target = _operand(op, 0, known), _operand(op, 1, known)
    if data is None or target is None or len(target.entries) > 1:
        return None
    if target.entries not in ((), (-1,), (len(data.entries),)) or (not target.entries and len(data.entries) != 1):
        return None
    return Integers(data.entries, not target.entries, data.dtype)


def _cast(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    data, to = _operand(op, 0, known), op.attr("to")
    if data is None or to not in _INTEGERS:  # before opset 6 it is a text
        return None
    to = DataType(to)
    limit = 2**31 if to == DataType.INT32 else 2**63
    fits = all(not isinstance(entry, int) or -limit <= entry < limit for entry in data.entries)
    return Integers(data.entries, data.scalar, to) if fits else None


def _identity(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    return _operand(op, 0, known)


def _arithmetic(graph: Graph, op: Op, proven: Proven, known: _Known) -> Integers | None:
    a, b = _operand(op, 0, known), _operand(op, 1, known)
    if a is None or b is None or graph.opsets[""] < 7:
        return None
    length = max(len(a.entries), len(b.entries))
    if {len(a.entries), len(b.entries)} - {1, length} or not length:
        return None
    pairs = zip(_stretched(a.entries, length), _stretched(b.entries, length), strict=True)
    entries = tuple(_combined(op.kind, x, y) for x, y in pairs)
    limit = 2**31 if a.dtype == DataType.INT32 else 2**63
    if any(isinstance(entry, int) and not -limit <= entry < limit for entry in entries):
        return None
    return Integers(entries, a.scalar and b.scalar, a.dtype)


def _combined(kind: str, x: Entry, y: Entry) -> Entry:
    neutral = 0 if kind in ("Add", "Sub") else 1
    if y == neutral:
        return x
    if x == neutral and kind in ("Add", "Mul"):
        return y
    if not isinstance(x, int) or not isinstance(y, int):
        return None
    match kind:
        case "Add":
            return x + y
        case "Sub":
            return x - y
        case "Mul":
            return x * y
        case _:  # the runtime divides towards zero, Python downwards: the same where nothing is negative
            return x // y if x >= 0 and y > 0 else None


def _operand(op: Op, slot: int, known: _Known) -> Integers | None:
    value = op.input(slot)
    return None if value is None else known.get(value)


def _unknown(value: Value | None, proven: Proven) -> Integers | None:
    """Return a vector of known length with entries of which nothing is known."""
    shape, dtype = proven.static_shape(value), proven.dtype(value)
    if shape is None or dtype not in _INTEGERS or len(shape) != 1 or shape[0] > _MAX_ENTRIES:
        return None
    return Integers((None,) * shape[0], False, dtype)


def _is_inside(place: Entry, length: int) -> bool:
    return isinstance(place, int) and -length <= place < length


def _stretched(entries: tuple[Entry, ...], length: int) -> tuple[Entry, ...]:
    return entries * length if len(entries) == 1 else entries


_RULES: Final[Mapping[str, _Rule]] = {
    "Add": _arithmetic,
    "Cast": _cast,
    "Concat": _concat,
    "Div": _arithmetic,
    "Gather": _gather,
    "Identity": _identity,
    "Mul": _arithmetic,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _arithmetic,
    "Unsqueeze": _unsqueeze,
}
