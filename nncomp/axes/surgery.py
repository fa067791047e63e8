"""remove: cut closed atoms out of every tensor that has them, and rewrite what carries sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.axes.model import AxisAnalysis, is_constant
from nncomp.errors import UnsupportedError
from nncomp.ir import DataType, Dim, Graph, Op, TensorType, Value
from nncomp.ops.coupling import Atoms, Axis, Pin

_WHERE_SINCE: Final = 9


def remove(analysis: AxisAnalysis, atoms: Iterable[int] | Atoms) -> None:
    """Remove ``atoms`` from the analysed graph, in place: constants are sliced, sizes rewritten, types set.

    The result computes exactly (in real arithmetic) what :func:`nncomp.axes.masked` computes. The analysis does not
    hold for it any more: analyse again.

    Raises:
        UnsupportedError: an atom is pinned or none, the graph has changed since, or an axis would be left empty.
    """
    graph = analysis.graph
    if graph.version != analysis.version:
        raise UnsupportedError("the graph has changed since its axes were analysed", hint="analyse it again")
    alive = analysis.alive(atoms)
    if alive.all():
        return
    empty = analysis.emptied(atoms)
    if empty:
        value, axis = empty[0]
        raise UnsupportedError(f"nothing would be left of axis {axis} of {value.name!r}", hint="keep one atom of it")
    for part, op, edit in analysis.edits:
        edit(_Removal(analysis, alive, part, op))
    for value, labels in analysis.labels.items():
        kept = [None if one is None or alive[one].all() else alive[one] for one in labels]
        if any(one is not None for one in kept):
            _cut(analysis.owners[value], value, kept)


class _Removal:
    """What an edit of one op may ask and change; see :class:`nncomp.ops.coupling.Removal`."""

    def __init__(self, analysis: AxisAnalysis, alive: npt.NDArray[np.bool_], graph: Graph, op: Op) -> None:
        self._analysis = analysis
        self._alive = alive
        self._graph = graph
        self._op = op

    def kept(self, axis: Axis) -> npt.NDArray[np.bool_] | None:
        """Return which positions of an axis stay; None when all do."""
        if isinstance(axis, Pin):
            return None
        found: npt.NDArray[np.bool_] = self._alive[self._analysis.closed[axis]]
        return None if found.all() else found

    def size(self, axis: Axis) -> Dim:
        """Return the new length of an axis."""
        kept = self.kept(axis)
        return axis.size if kept is None else int(kept.sum())

    def set_attrs(self, **attrs: object) -> None:
        """Set attributes of the op."""
        self._graph.set_attrs(self._op, **attrs)

    def set_constant(self, slot: int, data: npt.NDArray[Any]) -> None:
        """Let input ``slot`` read a new constant."""
        old = self._op.input(slot)
        name = old.name if old is not None else f"{self._op.output.name}_{slot}"
        self._graph.set_input(self._op, slot, self._graph.add_constant(name, data))
        self._graph.remove_unused([old])

    def patch(self, slot: int, numbers: Mapping[int, int], known: npt.NDArray[Any] | None = None) -> None:
        """Replace elements of the vector of integers at input ``slot``, constant or computed."""
        value = self._op.input(slot)
        constant = self._graph.array(value)
        data = known if constant is None else constant
        if value is None:
            return
        if data is not None:
            new = data.copy()
            new[list(numbers)] = list(numbers.values())
            self.set_constant(slot, new)
            return
        self._graph.set_input(self._op, slot, self._patched(value, numbers))

    def patch_output(self, numbers: Mapping[int, int]) -> None:
        """Replace elements of the vector of integers that the op gives, for all that read it."""
        value = self._op.output
        new = self._patched(value, numbers)
        assert new.producer is not None
        self._graph.replace_uses(value, new, keep=lambda use: use.op is new.producer)

    def replace_output(self, data: npt.NDArray[Any]) -> None:
        """Let all that read the op's output read a constant."""
        value = self._op.output
        self._graph.replace_uses(value, self._graph.add_constant(value.name, data))
        self._graph.remove_unused([value])

    def _patched(self, value: Value, numbers: Mapping[int, int]) -> Value:
        """Return ``value`` with elements replaced, as Where(flags, numbers, value)."""
        length = max(numbers) + 1 if value.shape is None or not isinstance(value.shape[0], int) else value.shape[0]
        flags, data = np.zeros(length, bool), np.zeros(length, np.int64)
        flags[list(numbers)], data[list(numbers)] = True, list(numbers.values())
        type_ = value.tensor_type
        dtype = DataType.INT64 if type_ is None else type_.dtype
        inputs = [
            self._graph.add_constant(f"{value.name}_cut", flags),
            self._graph.add_constant(f"{value.name}_sizes", data.astype(dtype.numpy())),
            value,
        ]
        return self._graph.add_op("Where", inputs, [(f"{value.name}_resized", value.type)]).output


def _cut(graph: Graph, value: Value, kept: list[npt.NDArray[np.bool_] | None]) -> None:
    """Cut positions out of a value: of its data, when it is a constant, and of its type."""
    if value not in graph:  # an edit has replaced it
        return
    data = graph.constant(value) if is_constant(value) else None
    if data is not None:
        array = data.numpy()
        for axis, flags in enumerate(kept):
            if flags is not None:
                array = np.compress(flags, array, axis=axis)
        _replace(graph, value, np.ascontiguousarray(array), data.dtype)
        return
    type_ = value.type
    if isinstance(type_, TensorType) and type_.shape is not None:
        sizes = zip(type_.shape, kept, strict=True)
        shape = tuple(size if flags is None else int(flags.sum()) for size, flags in sizes)
        graph.set_type(value, replace(type_, shape=shape))


def _replace(graph: Graph, value: Value, array: npt.NDArray[Any], dtype: DataType) -> None:
    from nncomp.ir import ArrayTensor

    name = value.name
    new = graph.add_constant(name, ArrayTensor(array, dtype), doc=value.doc)
    graph.replace_uses(value, new)
    graph.remove_unused([value])
    if not graph.has_name(name):
        graph.rename(new, name)
