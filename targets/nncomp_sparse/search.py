"""The best mapping of a layer: all of a stated set (see :mod:`nncomp_sparse.tilings`), or a part of it with a proof.

Choices inside of the array (placement, tile of an element) come first. Each has a lower bound of its cost: compute
cycles are known, each tensor crosses the outermost level at least once, and at the array only one tensor can stay in
place. They are tried in the order of their bounds; as soon as the next bound is no better than the best cost found, the
rest cannot win. ``proved`` says that the search ended so, and not because ``limit`` mappings had been looked at.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError
from nncomp_sparse.costing import Costing, Priced
from nncomp_sparse.counts import Candidates
from nncomp_sparse.energy import access_pj_per_bit, static_pj
from nncomp_sparse.hardware import TENSORS, Hardware, Level
from nncomp_sparse.hardware.dataflows import Nest
from nncomp_sparse.mapping import Mapping
from nncomp_sparse.tilings import Placement, divisors, largest_tiles, orders, placements, rounded
from nncomp_sparse.traffic import Counts, span

Objective = Literal["cycles", "energy", "edp"]
Floats = npt.NDArray[np.float64]

LIMIT: Final = 200_000
_AT_ONCE: Final = 16
_BITS_A_KB: Final = 8192
_CHEAPEST: Final = 1e-9
_TIE: Final = 1e-7


@dataclass(frozen=True)
class Found:
    """The best mapping.

    Attributes:
        mapping: Its loops.
        candidates: The same as a set of one.
        evaluated: Mappings that were priced.
        proved: Nothing in the set is better.
    """

    mapping: Mapping
    candidates: Candidates
    evaluated: int
    proved: bool


@dataclass(frozen=True)
class Inner:
    """A choice inside of the array.

    Attributes:
        placement: What runs side by side.
        tile: Factors of an element's tile in time, by dim.
        rest: What is left of each dim to be split over the buffers.
    """

    placement: Placement
    tile: tuple[int, ...]
    rest: tuple[int, ...]


class Search:
    """One layer on one machine."""

    def __init__(self, costing: Costing, objective: Objective, *, limit: int = LIMIT) -> None:
        self.costing, self.objective, self.limit = costing, objective, limit
        self.space, self.machine = costing.layer.space, costing.machine
        self.shared = [number for number, level in enumerate(self.machine.levels) if not level.per_pe]
        self.depth = len(self.machine.levels)

    def best(self) -> Found:
        """Return the best mapping.

        Raises:
            UnsupportedError: no tile of the layer fits a memory (NNC-T002).
        """
        inners = self._inners()
        bounds = np.array([self._bound(inner) for inner in inners])
        queue = np.argsort(bounds, kind="stable")
        best: tuple[float, Candidates] | None = None
        evaluated, place, at_once = 0, 0, 1
        while place < len(queue):
            if best is not None and bounds[queue[place]] >= best[0] * (1 - _CHEAPEST):
                break
            if evaluated >= self.limit:
                return self._found(best, evaluated, proved=False)
            batch = [inners[number] for number in queue[place : place + at_once]]
            place, at_once = place + at_once, min(2 * at_once, _AT_ONCE)
            candidates = self._candidates(batch)
            values = objective_values(self.machine, self.costing.price(candidates), self.objective)
            evaluated += len(values)
            row = int(np.argmin(values))
            if best is None or values[row] < best[0] * (1 - _CHEAPEST):
                best = float(values[row]), candidates.row(row)
        return self._found(best, evaluated, proved=True)

    def _found(self, best: tuple[float, Candidates] | None, evaluated: int, *, proved: bool) -> Found:
        assert best is not None
        return Found(best[1].mapping(0), best[1], evaluated, proved)

    # ------------------------------------------------------------------ the set

    def _inners(self) -> list[Inner]:
        array, found = self.machine.array, []
        for placement in placements(self.space, array.rows, array.cols, self._pairs(), macs_per_pe=array.macs_per_pe):
            spans = [1] * len(self.space.dims)
            for dim, bound in (*placement.loops, *placement.inner):
                spans[dim] *= bound
            rest = [rounded(-(-size // spent)) for size, spent in zip(self.space.sizes, spans, strict=True)]
            inside = [1] * len(rest)
            for dim, bound in placement.inner:
                inside[dim] *= bound
            for tile in self._element_tiles(rest, inside):
                left = tuple(size // int(factor) for size, factor in zip(rest, tile, strict=True))
                found.append(Inner(placement, tuple(int(factor) for factor in tile), left))
        return found

    def _pairs(self) -> list[tuple[list[int], list[int]]]:
        n, g, m, c = 0, 1, 2, 3
        positions = list(range(4, len(self.space.dims), 2))
        kernels = list(range(5, len(self.space.dims), 2))
        kind = self._stationary
        if kind == "weight":
            return [([c, *kernels], [m, g])]
        if kind == "output":
            return [([*positions, n], [m, g])]
        if kind == "input":
            return [([c, g], [*positions, n])]
        return [([c, *kernels], [m, g]), ([*positions, n], [m, g]), ([c, g], [*positions, n]), ([m], [c, g])]

    @property
    def _stationary(self) -> str:
        flow = self.machine.dataflow
        return flow.kind.removesuffix("-stationary") if isinstance(flow, Nest) else "any"

    def _element_tiles(self, rest: Sequence[int], inside: Sequence[int]) -> Counts:
        levels = [level for level in self.machine.levels if level.per_pe]
        ones = np.ones((1, len(rest)), np.int64)
        if not levels:
            return ones
        choices = [divisors(size) for size in rest]
        tiles = largest_tiles(choices, inside, lambda spans: self._fit(levels, spans))
        return tiles if len(tiles) else self._refuse(levels[0], ones * np.array(inside))

    def _candidates(self, inners: Sequence[Inner]) -> Candidates:
        """Return all mappings of some inner choices, in all orders of their loops."""
        rows = [(inner, chain) for inner in inners for chain in self._chains(inner)]
        outer = np.array([chain for _, chain in rows])  # (rows, shared levels, dims)
        tile = np.array([inner.tile for inner, _ in rows], np.int64)
        place, place_dims = _columns([inner.placement.loops for inner, _ in rows])
        within, within_dims = _columns([inner.placement.inner for inner, _ in rows])
        active = [dim for dim, size in enumerate(self.space.sizes) if size > 1]
        dims, bounds, last = [], [], self.depth - 1
        every = np.broadcast_to(np.array(active, np.int64), (len(rows), len(active)))
        for order in self._orders():
            time = np.array([dim for block in order for dim in block], np.int64)
            columns = [outer[:, number][:, list(block)] for number, block in enumerate(order)]
            dims.append(
                np.concatenate([np.broadcast_to(time, (len(rows), len(time))), place_dims, every, within_dims], 1)
            )
            bounds.append(np.concatenate([*columns, place, tile[:, active], within], axis=1))
        levels = [self.shared[number] for number, block in enumerate(self._orders()[0]) for _ in block]
        shape = ((False, len(levels)), (True, place.shape[1]), (False, len(active)), (True, within.shape[1]))
        levels += [self.shared[-1]] * place.shape[1] + [last] * (len(active) + within.shape[1])
        spatial = tuple(flag for flag, times in shape for _ in range(times))
        return Candidates(
            tuple(levels),
            spatial,
            np.asfortranarray(np.concatenate(dims)),
            np.asfortranarray(np.concatenate(bounds)),
            len(self.space.dims),
        )

    def _orders(self) -> list[tuple[tuple[int, ...], ...]]:
        """Return orders of all shared blocks, the innermost of which keeps to the dataflow."""
        blocks = [orders(self.space, "any", kernels=False)]
        blocks += [orders(self.space, "any", kernels=True) for _ in self.shared[1:-1]]
        if len(self.shared) > 1:
            blocks.append(orders(self.space, self._stationary, kernels=True))
        else:
            blocks = [orders(self.space, self._stationary, kernels=True)]
        return list(itertools.product(*blocks))

    def _chains(self, inner: Inner) -> list[list[tuple[int, ...]]]:
        """Return the factors of each shared block, the outermost first."""
        spans = [1] * len(self.space.dims)
        for dim, bound in (*inner.placement.loops, *inner.placement.inner):
            spans[dim] *= bound
        spans = [span_ * factor for span_, factor in zip(spans, inner.tile, strict=True)]
        return self._split(len(self.shared) - 1, spans, list(inner.rest))

    def _split(self, number: int, spans: list[int], rest: list[int]) -> list[list[tuple[int, ...]]]:
        if number == 0:
            return [[tuple(rest)]]
        level = self.machine.levels[self.shared[number]]
        kernels = set(range(5, len(spans), 2))
        choices = [[size] if dim in kernels and number == 1 else divisors(size) for dim, size in enumerate(rest)]
        tiles = largest_tiles(choices, spans, lambda grown: self._fit([level], grown))
        if not len(tiles):
            tiles = self._refuse(level, np.array([spans], np.int64))
        found = []
        for tile in tiles:
            left = [size // int(factor) for size, factor in zip(rest, tile, strict=True)]
            grown = [span_ * int(factor) for span_, factor in zip(spans, tile, strict=True)]
            block = tuple(int(factor) for factor in tile)
            found += [[*chain, block] for chain in self._split(number - 1, grown, left)]
        return found

    # ------------------------------------------------------------------ capacity

    def _fit(self, levels: Sequence[Level], spans: Counts) -> npt.NDArray[np.bool_]:
        words = {tensor: self._words(tensor, spans) for tensor in TENSORS}
        fitting = np.ones(len(spans), bool)
        for level in levels:
            share = 0.5 if level.double_buffered else 1.0
            for tensor, room in level.words.items():
                fitting &= words[tensor] <= room * share
            if level.kb is not None:
                wide = self.costing.bits | {"output": self.machine.precision.psum_bits}
                bits = sum(words[tensor] * wide[tensor] for tensor in level.keeps)
                fitting &= np.asarray(bits) <= level.kb * _BITS_A_KB * share
        return fitting

    def _words(self, tensor: str, spans: Counts) -> Counts:
        words = np.ones(len(spans), np.int64)
        for axis in self.space.tensors[tensor]:
            words = words * span(axis, spans)
        return words

    def _refuse(self, level: Level, spans: Counts) -> Counts:
        words = {tensor: int(self._words(tensor, spans)[0]) for tensor in level.keeps}
        room = ", ".join(f"{n} words of {tensor}" for tensor, n in level.words.items()) or f"{level.kb:g} KB"
        need = ", ".join(f"{n} of {tensor}" for tensor, n in words.items())
        raise UnsupportedError(
            f"hardware {self.machine.name!r}: level {level.name!r} holds {room}, too little for the smallest tile of "
            f"{self.costing.layer.name!r}: words {need}",
            hint="a larger level, or a smaller array",
        )

    # ------------------------------------------------------------------ bound

    def _bound(self, inner: Inner) -> float:
        """Return a lower bound of the objective; see the module's docstring."""
        machine, costing = self.machine, self.costing
        time = [int(a) * int(b) for a, b in zip(inner.tile, inner.rest, strict=True)]
        steps = float(np.prod(time))
        cycles = steps * costing.cycles_per_mac * costing.timed_share
        outermost = machine.levels[0]
        through = sum(costing.layer.operand(tensor).elements * costing.word_bits(0, tensor) for tensor in TENSORS)
        rate = machine.bytes_per_cycle(outermost)
        if rate is not None:
            cycles = max(cycles, through / (8 * rate))
        energy = costing.layer.macs * costing.paid_share * costing.mac_pj + self._array_bound(inner)
        energy += through * access_pj_per_bit(machine, outermost)
        energy += static_pj(machine, 1.0) * cycles
        if self.objective == "cycles":
            return cycles
        return energy if self.objective == "energy" else energy * cycles

    def _array_bound(self, inner: Inner) -> float:
        """Return the least energy of feeding the array from the innermost buffer: one tensor stays, others do not."""
        if len(self.shared) == self.depth or len(self.shared) < 2:
            return 0.0
        level, loops = self.machine.levels[self.shared[-1]], np.array([inner.rest], np.int64)
        tile = np.array([inner.tile], np.int64)
        for dim, bound in inner.placement.inner:
            tile[0, dim] *= bound
        least: dict[str, float] = {}
        most: dict[str, float] = {}
        for tensor in TENSORS:
            if tensor not in level.keeps:
                least[tensor] = most[tensor] = 0.0
                continue
            relevant = sorted(self.space.relevant(tensor))
            fan = math.prod(bound for dim, bound in inner.placement.loops if dim in relevant)
            words, once = float(self._words(tensor, tile)[0]), float(self._words(tensor, tile * loops)[0])
            anew = words * float(loops[0, relevant].prod())  # each position of the tile fetched whole
            kept = min(once / anew, 1.0)  # windows overlap
            policy = "broadcast" if tensor == "output" else getattr(self.machine.multicast, tensor)
            factor = (fan if policy == "broadcast" else 1) * (self.costing.word_bits(self.shared[-1], tensor))
            least[tensor] = once * factor
            most[tensor] = words * float(loops.prod()) * kept * factor
        pj = access_pj_per_bit(self.machine, level)
        return pj * min(least[kept] + sum(most[other] for other in TENSORS if other != kept) for kept in TENSORS)


def objective_values(machine: Hardware, priced: Priced, objective: Objective) -> Floats:
    """Return what is minimised; of equal cycles the least energy."""
    energy = priced.dynamic_pj + static_pj(machine, 1.0) * priced.cycles
    if objective == "cycles":
        return np.asarray(priced.cycles * (1 + _TIE * energy / energy.max()))
    return np.asarray(energy if objective == "energy" else energy * priced.cycles)


def _columns(loops: Sequence[tuple[tuple[int, int], ...]]) -> tuple[Counts, Counts]:
    """Return bounds and dims of loops, (rows, loops); rows with fewer loops than others get some of one iteration."""
    most = max((len(row) for row in loops), default=0)
    full = [(*row, *((0, 1),) * (most - len(row))) for row in loops]
    table = np.array(full, np.int64).reshape(len(loops), most, 2)
    return table[:, :, 1], table[:, :, 0]
