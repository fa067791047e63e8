"""Rows: what layers read and should give, row by row, for work that second moments are not enough for.

A least-squares fit needs sums of products alone. What an activation hides can only be told row by row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Of one layer, in the order of the samples; single precision.

    Attributes:
        x: (G, N, K), what it reads.
        y: (G, N, O), what it should give.
        other: (G, N, O), what is added to what it gives, where ``y`` is what a sum should be less this; else None.
    """

    x: Floats
    y: Floats
    other: Floats | None


class RowStore:
    """Collects the rows of the layers of one stage, and forgets them all where they take more than ``budget`` bytes."""

    def __init__(self, budget: int) -> None:
        self._room = budget
        self._parts: dict[str, list[tuple[Array, Array, Array | None]]] = {}

    def add(self, layer: str, parts: Iterable[tuple[Array, Array, Array | None]]) -> None:
        """Keep the rows of some more samples."""
        if self._room <= 0:
            return
        for x, y, other in parts:
            self._room -= 4 * (x.size + y.size + (0 if other is None else other.size))
            self._parts.setdefault(layer, []).append((x, y, other))
        if self._room <= 0:
            self._parts.clear()

    def rows(self) -> dict[str, Rows]:
        """Return what is kept, by layer; rows that hold NaN or infinity are left out."""
        found = {}
        for layer, parts in self._parts.items():
            x = np.concatenate([part[0] for part in parts], axis=1, dtype=np.float32)
            y = np.concatenate([part[1] for part in parts], axis=1, dtype=np.float32)
            others = [part[2] for part in parts if part[2] is not None]
            other = np.concatenate(others, axis=1, dtype=np.float32) if others else None
            sound = np.isfinite(x).all(axis=(0, 2)) & np.isfinite(y).all(axis=(0, 2))
            if other is not None:
                sound &= np.isfinite(other).all(axis=(0, 2))
            if not sound.all():
                x, y, other = x[:, sound], y[:, sound], None if other is None else other[:, sound]
            found[layer] = Rows(x, y, other)
        return found
