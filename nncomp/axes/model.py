"""What the analysis found: closed atoms, the dimensions that they form, what is pinned and why, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, Op, Value
from nncomp.ops.coupling import Atoms, Contraction, Edit, Pin

Labels: TypeAlias = tuple[Atoms | None, ...]
"""For each axis of a value the closed atom at each position (0 where the element stays); None when all stay."""


@dataclass(frozen=True, slots=True)
class Member:
    """One axis that a dimension lives in.

    Attributes:
        value, axis: The axis.
        positions: (atoms, k), int64: row i holds the k places of the dimension's i-th atom, ascending.
    """

    value: Value
    axis: int
    positions: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dimension:
    """Atoms that sit in the same axes, equally often: what a user sees as one prunable dimension.

    Attributes:
        name: ``value[axis]`` of the first computed tensor that has it (of a constant, if none has).
        atoms: Closed atoms, ascending; each can be removed on its own.
        members: Every axis that has these atoms, constants and computed values, bodies included, in graph order.
    """

    name: str
    atoms: Atoms
    members: tuple[Member, ...]

    def __len__(self) -> int:
        return int(self.atoms.size)

    @property
    def constants(self) -> tuple[Member, ...]:
        """The members that are constants: weights."""
        return tuple(member for member in self.members if member.value.producer is None or is_constant(member.value))

    @property
    def first(self) -> Member:
        """The member that gives the dimension its name."""
        return next((one for one in self.members if one not in self.constants), self.members[0])


@dataclass(frozen=True, slots=True)
class PinnedDimension:
    """Atoms that cannot be removed.

    Attributes:
        name: ``value[axis]`` of the first tensor that has them.
        size: Number of atoms.
        constants: The constants that have them.
        reasons: Why, the first to say so first; each names the op and the axis that pinned them.
    """

    name: str
    size: int
    constants: tuple[Value, ...]
    reasons: tuple[Pin, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """An op's multiply-accumulates, and the label vectors of which each scales them in proportion to what is left."""

    op: Op
    macs: int
    axes: tuple[Atoms, ...]


@dataclass(frozen=True)
class AxisAnalysis:
    """The dimensions of one graph; it holds for the graph as it was analysed, until the next change.

    Attributes:
        graph: The graph.
        labels: Closed atoms by value, for values with an axis that is not wholly pinned.
        count: Number of closed atoms that can be removed; they are 1 ... count.
        dimensions: Removable ones, in graph order.
        pinned: The others.
        unknown: Ops without a rule, which pin all that they touch.
        works: What costs multiply-accumulates.
        weights: Shape and labels of each constant that counts as parameters.
        contractions, edits: For masks and surgery.
    """

    graph: Graph
    version: int
    labels: Mapping[Value, Labels]
    owners: Mapping[Value, Graph]
    count: int
    dimensions: tuple[Dimension, ...]
    pinned: tuple[PinnedDimension, ...]
    unknown: tuple[Op, ...]
    works: tuple[Work, ...]
    weights: tuple[tuple[tuple[int, ...], Labels], ...]
    contractions: tuple[Contraction, ...]
    edits: tuple[tuple[Graph, Op, Edit], ...]
    closed: Atoms  # closed atom of each raw one

    def alive(self, atoms: Iterable[int] | Atoms) -> npt.NDArray[np.bool_]:
        """Return a mask over closed atoms, (count + 1,): False for those in ``atoms``.

        Raises:
            UnsupportedError: one of them is no closed atom.
        """
        removed = np.asarray(list(atoms) if not isinstance(atoms, np.ndarray) else atoms, np.int64).reshape(-1)
        if removed.size and (removed.min() < 1 or removed.max() > self.count):
            raise UnsupportedError(f"atoms to remove must lie in 1 ... {self.count}")
        mask = np.ones(self.count + 1, bool)
        mask[removed] = False
        return mask

    def emptied(self, atoms: Iterable[int] | Atoms) -> tuple[tuple[Value, int], ...]:
        """Return the axes that removing ``atoms`` would leave without any element; a removal must leave none."""
        alive = self.alive(atoms)
        return tuple(
            (value, axis)
            for value, axes in self.labels.items()
            for axis, labels in enumerate(axes)
            if labels is not None and not alive[labels].any()
        )

    def params(self, atoms: Iterable[int] | Atoms = ()) -> int:
        """Return the number of elements of all weights, bodies' included, once ``atoms`` are removed.

        Weights are floats, and integers that a removal would cut.
        """
        alive = self.alive(atoms)
        total = 0
        for shape, axes in self.weights:
            sizes = list(shape)
            for axis, labels in enumerate(axes):
                if labels is not None:
                    sizes[axis] = int(alive[labels].sum())
            total += math.prod(sizes)
        return total

    def macs(self, atoms: Iterable[int] | Atoms = ()) -> int:
        """Return the multiply-accumulates of the whole graph once ``atoms`` are removed."""
        alive = self.alive(atoms)
        total = 0.0
        for work in self.works:
            share = 1.0
            for labels in work.axes:
                share *= int(alive[labels].sum()) / labels.size
            total += work.macs * share
        return round(total)


def is_constant(value: Value) -> bool:
    """Return True for a constant and for what a Constant node gives."""
    return value.const is not None or (value.producer is not None and value.producer.is_a("Constant"))
