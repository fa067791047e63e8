"""A mapping: the loops of a layer, outer to inner, each in the block of a level, in time or in space.

The loops in a level's block go over tiles of the next level inwards, so a level holds what the loops of its own block
and of all inner blocks span. A level's spatial loops stand inside of its temporal ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nncomp_sparse.space import Space


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop.

    Attributes:
        dim: Index of the dim in the space.
        bound: Iterations.
        level: Index of the level in whose block it stands.
        spatial: One processing element an iteration.
    """

    dim: int
    bound: int
    level: int
    spatial: bool = False


@dataclass(frozen=True, slots=True)
class Mapping:
    """Loops from the outermost to the innermost; levels do not decrease."""

    loops: tuple[Loop, ...]

    def extents(self, space: Space, level: int) -> tuple[int, ...]:
        """Return what a tile of a level spans, by dim."""
        spans = [1] * len(space.dims)
        for loop in self.loops:
            if loop.level >= level:
                spans[loop.dim] *= loop.bound
        return tuple(spans)

    def instances(self, level: int) -> int:
        """Return how many of a level there are."""
        return math.prod(loop.bound for loop in self.loops if loop.spatial and loop.level < level)

    def padded(self, space: Space) -> tuple[int, ...]:
        """Return the sizes that the loops cover, at least those of the space."""
        return self.extents(space, 0)

    def text(self, space: Space, levels: Sequence[str]) -> str:
        """Return the loops in one line: ``dram: m8 c2 | glb: p14 [m16 c4]``, spatial loops in brackets."""
        parts = []
        for number, name in enumerate(levels):
            mine = [loop for loop in self.loops if loop.level == number and loop.bound > 1]
            time = " ".join(f"{space.dims[loop.dim]}{loop.bound}" for loop in mine if not loop.spatial)
            place = " ".join(f"{space.dims[loop.dim]}{loop.bound}" for loop in mine if loop.spatial)
            parts.append(" ".join(part for part in (f"{name}:", time, f"[{place}]" if place else "") if part))
        return " | ".join(parts)
