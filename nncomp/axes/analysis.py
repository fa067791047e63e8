"""analyse: walk a graph with the table's ``axes`` rules, close the ties, and name what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import numpy as np

from nncomp.axes.model import AxisAnalysis, Labels, Work, is_constant
from nncomp.axes.naming import dimensions, pinned_dimensions
from nncomp.axes.preparing import unshare_vectors
from nncomp.axes.walk import Walk
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.ops import OpTable, builtin_table
from nncomp.ops.components import components
from nncomp.ops.coupling import Atoms, Axes, ChoiceKey, Contraction, Ledger

_ROUNDS: Final = 8
_QUANTIZED: Final = frozenset({DataType.INT4, DataType.UINT4, DataType.INT8, DataType.UINT8, DataType.INT32})


def analyse(
    graph: Graph,
    ops: OpTable | None = None,
    *,
    approximate: bool = False,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> AxisAnalysis:
    """Return which elements of a graph's tensors can be removed together.

    Linear in ops and in elements of all axes, times at most eight rounds: where one of several axes can stay free
    (a Reshape that splits heads), the finest is tried first and others when it turns out to be pinned.

    Args:
        graph: A model's own graph. It is prepared first: types are inferred (only ever refined), and each reader of a
            vector of floats gets its own copy, since exporters merge equal ones.
        ops: The table; plugins' rows count.
        approximate: Let LayerNormalization and its kin through, though their statistics change with what is removed:
            removal is exact no longer.
        input_shapes: Sizes of inputs, by name, to count multiply-accumulates for; what is not known counts as 1.

    Returns:
        What was found; it holds until the graph changes.
    """
    table = builtin_table() if ops is None else ops
    unshare_vectors(graph)
    infer_types(graph, table)
    search = _Search()
    while True:
        walk = Walk(graph, table, Ledger(choices=dict(search.choices), approximate=approximate))
        walk.run()
        closed = _closed(walk.ledger)
        if not search.advance(walk.ledger, closed):
            return _result(walk, closed, input_shapes or {})


class _Search:
    """What each choice has been, and shall be: wishes come first, then candidates in order until one is not pinned.

    A wish that was pinned when it was tried is tried once more: other choices may have been what pinned it.
    """

    def __init__(self) -> None:
        self.choices: dict[ChoiceKey, str] = {}
        self._tried: dict[ChoiceKey, dict[str, bool]] = {}
        self._again: set[tuple[ChoiceKey, str]] = set()
        self._rounds = 0

    def advance(self, ledger: Ledger, closed: Atoms) -> bool:
        """Take in what came of the choices; return whether another round shall be walked."""
        self._rounds += 1
        before = dict(self.choices)
        wishes = dict(reversed(ledger.wishes))
        for choice in ledger.made:
            tried = self._tried.setdefault(choice.key, {})
            tried[choice.chosen] = bool(closed[choice.atoms].any())
            wished = wishes.get(choice.key)
            if wished is not None and wished in choice.candidates and wished not in tried:
                self.choices[choice.key] = wished
            elif tried[choice.chosen]:
                continue
            elif wished in choice.candidates and wished != choice.chosen and (choice.key, wished) not in self._again:
                self._again.add((choice.key, wished))
                self.choices[choice.key] = wished
            else:
                left = [name for name in choice.candidates if tried.get(name, True)]
                following = next((name for name in left if name not in tried), left[0] if left else choice.chosen)
                self.choices[choice.key] = following
        now = self.choices
        changed = any(before.get(one.key, one.chosen) != now.get(one.key, one.chosen) for one in ledger.made)
        return changed and self._rounds < _ROUNDS


def _closed(ledger: Ledger) -> Atoms:
    """Return for each raw atom the smallest of its component, 0 where a pin reaches it."""
    one = np.concatenate([a for a, _ in ledger.ties] or [np.zeros(0, np.int64)])
    other = np.concatenate([b for _, b in ledger.ties] or [np.zeros(0, np.int64)])
    root = components(ledger.next_atom, one, other)
    pinned = np.zeros(ledger.next_atom, bool)
    pinned[0] = True
    for atoms, _ in ledger.pins:
        pinned[root[atoms.reshape(-1)]] = True
    return np.where(pinned[root], 0, root)


def _result(walk: Walk, closed: Atoms, input_shapes: Mapping[str, tuple[int, ...]]) -> AxisAnalysis:
    graph = walk.graph
    roots = np.unique(closed[closed > 0])
    numbers = np.searchsorted(roots, closed) + 1
    numbers[closed == 0] = 0
    labels = {value: found for value, axes in walk.labels.items() if (found := _numbered(axes, numbers)) is not None}
    return AxisAnalysis(
        graph=graph,
        version=graph.version,
        labels=labels,
        owners=walk.owners,
        count=int(roots.size),
        dimensions=dimensions(labels, int(roots.size)),
        pinned=pinned_dimensions(walk, numbers),
        unknown=tuple(walk.unknown),
        works=_works(walk, labels, numbers, input_shapes),
        weights=_weights(graph, labels),
        contractions=tuple(walk.ledger.contractions),
        edits=tuple(walk.ledger.edits),
        closed=numbers,
    )


def _numbered(axes: Axes, numbers: Atoms) -> Labels | None:
    found = tuple(_free(numbers[axis]) if isinstance(axis, np.ndarray) else None for axis in axes)
    return found if any(axis is not None for axis in found) else None


def _free(labels: Atoms) -> Atoms | None:
    return labels if labels.any() else None


def _weights(graph: Graph, labels: Mapping[Value, Labels]) -> tuple[tuple[tuple[int, ...], Labels], ...]:
    found = []
    for part in graph.graphs():
        for value in part.values():
            data = part.constant(value) if is_constant(value) else None
            if data is None or not (data.dtype.is_floating_point() or (value in labels and data.dtype in _QUANTIZED)):
                continue
            found.append((data.shape, labels.get(value, ())))
    return tuple(found)


def _works(
    walk: Walk, labels: Mapping[Value, Labels], numbers: Atoms, input_shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Work, ...]:
    """Price ops; an axis of the first output, and one that is contracted, scales the work."""
    contracted: dict[Op, list[Contraction]] = {}
    for one in walk.ledger.contractions:
        contracted.setdefault(one.op, []).append(one)
    macs = _macs(walk, input_shapes)
    works: list[Work] = []
    for _, op in walk.ops:
        if macs.get(op):
            axes = [axis for axis in labels.get(op.outputs[0], ()) if axis is not None]
            works.extend(_products(op, macs[op], axes, contracted.get(op, []), numbers))
    return tuple(works)


def _products(
    op: Op, macs: int, axes: list[Atoms], contracted: Sequence[Contraction], numbers: Atoms
) -> Iterator[Work]:
    """Yield an op's work, one for each product where it says that it is several."""
    summed = [(one, numbers[one.atoms]) for one in contracted]
    whole = sum(one.share for one in contracted)
    if not whole:
        yield Work(op, macs, (*axes, *(labels for _, labels in summed if labels.any())))
        return
    left = macs
    for number, (one, labels) in enumerate(summed):
        part = left if number == len(summed) - 1 else macs * one.share // whole
        left -= part
        yield Work(op, part, (*axes, *([labels] if labels.any() else [])))


def _macs(walk: Walk, input_shapes: Mapping[str, tuple[int, ...]]) -> dict[Op, int]:
    costs = {op: walk.table.cost(op, part) for part, op in walk.ops}
    if all(cost is not None for cost in costs.values()) and not input_shapes:
        return {op: cost.macs for op, cost in costs.items() if cost is not None}
    sized, twins = walk.graph.clone_with_map()
    shapes = {
        value.name: input_shapes.get(value.name, tuple(dim if isinstance(dim, int) else 1 for dim in value.shape))
        for value in sized.inputs
        if value.shape is not None
    }
    for value in sized.inputs:
        if value.name in shapes and isinstance(value.type, TensorType):
            sized.set_type(value, replace(value.type, shape=shapes[value.name]))
    infer_types(sized, walk.table, input_shapes=shapes)
    Walk(sized, walk.table, Ledger()).run()  # follows arithmetic on shapes, and sets types as it goes
    for part, op in sized.walk():
        costs[op] = walk.table.cost(op, part)
    found = {op: costs[cast(Op, twins[op])] for _, op in walk.ops}
    return {op: cost.macs for op, cost in found.items() if cost is not None}
