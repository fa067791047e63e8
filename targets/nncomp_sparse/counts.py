"""Accesses of each level by each tensor, for many mappings at once: reads, fills, updates and drains, in words.

Conventions (those of Timeloop v2, so that its counts can be compared one by one):

* Elements read their operands anew for each product; there is no register behind the innermost level.
* Partial sums of elements that work on the same output are added on their way up (``reduce``).
* An output's first visit needs no read; it counts as a fill of the level below, unless ``first_touch`` is off.
"""

from __future__ import annotations

from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nncomp_sparse.hardware import TENSORS, Hardware
from nncomp_sparse.mapping import Loop, Mapping
from nncomp_sparse.space import Space
from nncomp_sparse.traffic import Counts, Walk, fills, visits


@dataclass(frozen=True)
class Candidates:
    """Mappings with loops at the same levels; which dims they go over, and how far, differs.

    Attributes:
        levels, spatial: Of each loop, outer to inner.
        dims, bounds: (candidates, loops).
        size: Number of dims of the space.
    """

    levels: tuple[int, ...]
    spatial: tuple[bool, ...]
    dims: Counts
    bounds: Counts
    size: int

    @classmethod
    def of(cls, mapping: Mapping, space: Space) -> Candidates:
        """Return one mapping as a set of candidates."""
        loops = mapping.loops
        return cls(
            tuple(loop.level for loop in loops),
            tuple(loop.spatial for loop in loops),
            np.array([[loop.dim for loop in loops]], np.int64).reshape(1, len(loops)),
            np.array([[loop.bound for loop in loops]], np.int64).reshape(1, len(loops)),
            len(space.dims),
        )

    def row(self, number: int) -> Candidates:
        """Return one candidate as a set of its own."""
        one = slice(number, number + 1)
        return Candidates(self.levels, self.spatial, self.dims[one], self.bounds[one], self.size)

    def mapping(self, row: int) -> Mapping:
        """Return one candidate, without loops of one iteration."""
        loops = zip(self.dims[row], self.levels, self.spatial, self.bounds[row], strict=True)
        return Mapping(
            tuple(Loop(int(dim), int(bound), level, spatial) for dim, level, spatial, bound in loops if bound > 1)
        )

    @cached_property
    def _swept(self) -> tuple[Counts, dict[int, Counts]]:
        """Steps of all loops, and what the loops from a level inwards span, in one sweep from the innermost loop."""
        rows = np.arange(len(self.bounds))
        steps = np.ones_like(self.bounds)
        spans = np.ones((len(self.bounds), self.size), np.int64)
        tiles: dict[int, Counts] = {}
        for place in range(len(self.levels) - 1, -1, -1):
            level = self.levels[place]
            steps[:, place] = spans[rows, self.dims[:, place]]
            spans[rows, self.dims[:, place]] *= self.bounds[:, place]
            if place == 0 or self.levels[place - 1] != level:
                tiles[level] = spans.copy()
        return steps, tiles

    @property
    def steps(self) -> Counts:
        """(candidates, loops): how far an iteration of each loop moves along its dim."""
        return self._swept[0]

    def tile(self, level: int) -> Counts:
        """Return what a level's tile spans, (candidates, size)."""
        inner = [number for number in self._swept[1] if number >= level]
        return self._swept[1][min(inner)] if inner else np.ones((len(self.bounds), self.size), np.int64)

    def spread(self, places: Sequence[int]) -> Counts:
        """Return what some loops span, (candidates, size)."""
        rows = np.arange(len(self.bounds))
        spans = np.ones((len(self.bounds), self.size), np.int64)
        for place in places:
            spans[rows, self.dims[:, place]] *= self.bounds[:, place]
        return spans

    def product(self, places: Sequence[int], relevant: frozenset[int] | None = None) -> Counts:
        """Return the product of some loops' bounds, (candidates,); of those over relevant dims only."""
        bounds = self.bounds[:, list(places)]
        if relevant is not None:
            table = np.isin(np.arange(self.size), list(relevant))
            bounds = np.where(table[self.dims[:, list(places)]], bounds, 1)
        return np.asarray(bounds.prod(axis=1, dtype=np.int64))

    def places(self, *, below: int | None = None, least: int = 0, spatial: bool | None = None) -> list[int]:
        """Return the loops in the blocks of levels ``least`` to ``below - 1``; in time, in space, or both."""
        return [
            place
            for place, level in enumerate(self.levels)
            if level >= least
            and (below is None or level < below)
            and (spatial is None or self.spatial[place] is spatial)
        ]

    def walk(self, level: int) -> Walk:
        """Return the temporal loops outside of a level's tile."""
        if level not in self._walks:
            places = self.places(below=level, spatial=False)
            first = slice(None, len(places)) if places == list(range(len(places))) else places
            self._walks[level] = Walk(self.dims[:, first], self.bounds[:, first], self.steps[:, first])
        return self._walks[level]

    @cached_property
    def _walks(self) -> dict[int, Walk]:
        """Made once for each level, all tensors share them."""
        return {}


@dataclass(frozen=True)
class Access:
    """What one tensor does at one level, all instances together, words, (candidates,).

    Attributes:
        reads: Served inwards: operands, and partial sums that are taken up again.
        fills: Written from outside.
        updates: Partial sums and results written from inside.
        drains: Read to be sent outwards.
    """

    reads: Counts
    fills: Counts
    updates: Counts
    drains: Counts

    @property
    def parts(self) -> tuple[Counts, Counts, Counts, Counts]:
        """The four, in order."""
        return self.reads, self.fills, self.updates, self.drains


def count(
    space: Space, found: Candidates, machine: Hardware, *, first_touch: bool = True
) -> Table[tuple[int, str], Access]:
    """Return the accesses by (index of the level, tensor), for the levels that keep the tensor."""
    result: dict[tuple[int, str], Access] = {}
    depth = len(machine.levels)
    nothing = np.zeros(len(found.bounds), np.int64)
    for tensor in TENSORS:
        keepers = [number for number, level in enumerate(machine.levels) if tensor in level.keeps]
        reads = dict.fromkeys(keepers, nothing)
        entered, updated, drained = dict(reads), dict(reads), dict(reads)
        for parent, child in zip(keepers, [*keepers[1:], depth], strict=True):
            pair = _Pair(space, found, tensor, parent, child, register=child == depth)
            if tensor == "output":
                up = pair.visited * (pair.fan_relevant if machine.multicast.output == "reduce" else pair.fan)
                up = up * pair.parents
                updated[parent] = up
                reads[parent] = up - pair.distinct(parent) * pair.parents
                if child < depth:
                    sent = pair.visited * pair.fan * pair.parents
                    first = nothing if first_touch else pair.distinct(child) * pair.fan * pair.parents
                    entered[child], drained[child] = sent - first, sent
                continue
            reads[parent] = pair.served(getattr(machine.multicast, tensor)) * pair.parents
            if child < depth:
                entered[child] = pair.visited * pair.fan * pair.parents
        for keeper in keepers:
            result[keeper, tensor] = Access(reads[keeper], entered[keeper], updated[keeper], drained[keeper])
    return result


@dataclass(frozen=True)
class _Pair:
    """A level that keeps a tensor, and the next one inwards that does (or the multipliers: ``register``)."""

    space: Space
    found: Candidates
    tensor: str
    parent: int
    child: int
    register: bool

    @cached_property
    def inside(self) -> Counts:
        return self.found.tile(self.child)

    @cached_property
    def visited(self) -> Counts:
        """Words that one instance of the child takes in."""
        return self._walked(self.inside)

    @cached_property
    def between(self) -> list[int]:
        return self.found.places(least=self.parent, below=self.child, spatial=True)

    @cached_property
    def parents(self) -> Counts:
        return self.found.product(self.found.places(below=self.parent, spatial=True))

    @cached_property
    def fan(self) -> Counts:
        return self.found.product(self.between)

    @cached_property
    def fan_relevant(self) -> Counts:
        return self.found.product(self.between, self.space.relevant(self.tensor))

    def served(self, policy: str) -> Counts:
        """Words that the parent reads for all its children."""
        if policy == "none":
            return self.visited * self.fan
        if policy == "broadcast":
            return self.visited * self.fan_relevant
        return self._walked(self.inside * self.found.spread(self.between))

    def distinct(self, level: int) -> Counts:
        """Output elements that one instance of a level sees in all."""
        mine = [
            place
            for place, spatial in enumerate(self.found.spatial)
            if not (spatial and self.found.levels[place] < level)
        ]
        return self.found.product(mine, self.space.relevant(self.tensor))

    def _walked(self, extents: Counts) -> Counts:
        axes = self.space.tensors[self.tensor]
        count_ = visits if self.register else fills
        return count_(axes, extents, self.found.walk(self.child))
