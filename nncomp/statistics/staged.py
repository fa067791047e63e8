"""StagedRun: a graph run over all samples piece by piece, so that what lies behind a cut may still change.

Between stages only the values at the cut are kept, for all samples. Each op runs once, as long as nothing that was
computed already is asked for again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.runtime import Feeds, Session
from nncomp.statistics.activations import Activations


@dataclass(frozen=True, slots=True)
class Stage:
    """One piece of a :class:`StagedRun`.

    Attributes:
        session: computes it; None when there is nothing to compute.
        fed: graph inputs that it reads.
        stored: values that it reads from the store.
        watched: values to give.
        kept: values that a later stage reads, graph inputs among them.
    """

    session: Session | None
    fed: tuple[str, ...]
    stored: tuple[str, ...]
    watched: tuple[str, ...]
    kept: tuple[str, ...]


class StagedRun:
    """A model's graph, run in stages.

    Args:
        graph: It may change between stages, behind what has been computed.
        store: Where activations are kept.
        prefix: Keeps this run's values apart from another's in the same store.
    """

    def __init__(self, graph: Graph, store: Activations, prefix: str) -> None:
        self._graph, self._store, self._prefix = graph, store, prefix
        self._held: set[str] = set()

    def plan(self, watched: Sequence[str], later: Sequence[str]) -> Stage:
        """Return the stage that computes ``watched``, and keeps what ``later`` ones will need."""
        ops, edge = self._behind(watched, self._held)
        computed = {value.name for op in ops for value in op.outputs if value.name}
        fixed = _fixed(self._graph)
        _, needed = self._behind(later, (computed - fixed) | self._held)
        inputs = {value.name for value in self._graph.inputs}
        kept = tuple(name for name in needed if name not in self._held)
        outputs = list(dict.fromkeys(name for name in (*watched, *kept) if name in computed))
        session = None
        if outputs:
            piece = self._graph.extract(ops, [self._graph.find(name) for name in outputs])
            self._give_types(piece)
            session = Session(piece, optimize=True, frugal=True)
        read = dict.fromkeys((*edge, *(name for name in (*watched, *kept) if name not in computed)))
        return Stage(
            session,
            tuple(name for name in read if name in inputs and name not in self._held),
            tuple(name for name in read if name in self._held),
            tuple(watched),
            kept,
        )

    def compute(self, stage: Stage, number: int, feeds: Feeds) -> dict[str, Any]:
        """Return what the values of ``stage`` hold for one sample; safe from several threads."""
        values: dict[str, Any] = {name: self._store.get(self._prefix + name, number) for name in stage.stored}
        for name in stage.fed:
            default = self._graph.find(name).default
            values[name] = feeds[name] if name in feeds or default is None else default.numpy()
        if stage.session is not None:
            values |= stage.session.run({name: values[name] for name in stage.session.input_names})
        return {name: values[name] for name in dict.fromkeys((*stage.watched, *stage.kept))}

    def keep(self, stage: Stage, values: dict[str, Any]) -> None:
        """Put one sample's values into the store; samples come in order."""
        for name in stage.kept:
            self._store.put(self._prefix + name, values[name])

    def finish(self, stage: Stage, later: Sequence[str]) -> None:
        """End a stage: forget what no later one reads."""
        self._held |= set(stage.kept)
        _, needed = self._behind(later, self._held)
        for name in self._held - set(needed):
            self._store.drop(self._prefix + name)
            self._held.discard(name)

    def _behind(self, names: Iterable[str], have: set[str]) -> tuple[list[Op], list[str]]:
        """Return the ops that compute ``names`` from ``have`` and the graph inputs, and which of these they read."""
        edge: dict[str, None] = {}
        ops: dict[Op, None] = {}
        pending = [self._graph.find(name) for name in names]
        seen = set(pending)
        while pending:
            value = pending.pop()
            if value.name in have or value.producer is None:
                if value.const is None:
                    edge[value.name] = None
                continue
            if value.producer in ops:
                continue
            ops[value.producer] = None
            read = [cast(Value, node) for node, _ in self._graph.edges_into(value.producer)]
            read.sort(key=lambda one: one.name)  # edges come as a set
            pending.extend(one for one in read if one not in seen)
            seen.update(read)
        return list(ops), list(edge)

    def _give_types(self, piece: Graph) -> None:
        """Take types of inputs that nobody inferred from what is stored."""
        for value in piece.inputs:
            if value.type is None and self._prefix + value.name in self._store:
                array = self._store.get(self._prefix + value.name, 0)
                piece.set_type(value, TensorType(DataType.from_numpy(array.dtype), (None,) * array.ndim))


def _fixed(graph: Graph) -> set[str]:
    """Return the values that follow from constants alone: computing them again is cheaper than keeping them."""
    fixed: set[str] = set()
    for op in graph.ops():
        read = [cast(Value, node) for node, _ in graph.edges_into(op)]
        known = all(value.const is not None or value.name in fixed for value in read)
        if known and (read or op.is_a("Constant")):
            fixed.update(value.name for value in op.outputs)
    return fixed
