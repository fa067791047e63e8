"""Tracks: the dimensions that may be pruned, who reads their atoms, and why the others stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp.axes import AxisAnalysis, Dimension
from nncomp_prune.readings import Reading


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A dimension that may be pruned; compared by identity.

    Attributes:
        dimension: Its atoms; index a below is that of an atom in it.
        columns: For each layer that reads it, and each group g of that layer's matrix, (A, m) columns of each atom, -1
            where it has fewer.
    """

    dimension: Dimension
    columns: Mapping[tuple[str, int], npt.NDArray[np.intp]]

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.dimension.name

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that read it."""
        return tuple(dict.fromkeys(layer for layer, _ in self.columns))

    def __len__(self) -> int:
        return len(self.dimension)


def tracks(
    analysis: AxisAnalysis, found: Mapping[str, Reading], elsewhere: npt.NDArray[np.bool_]
) -> tuple[list[Track], dict[str, str]]:
    """Return what may be pruned, and for each other dimension why not."""
    result: list[Track] = []
    left: dict[str, str] = {}
    for dimension in analysis.dimensions:
        columns = {
            (reading.layer, group): places
            for reading in found.values()
            for group in range(reading.view.groups)
            if (places := _places(reading.atoms[group], dimension.atoms)).size
        }
        if elsewhere[dimension.atoms].any():
            left[dimension.name] = "what sums over it has no weight that could make up for what is missing"
        elif not columns:
            left[dimension.name] = "no layer with a weight sums over it"
        elif len(dimension) < 2:
            left[dimension.name] = "it has one element"
        else:
            result.append(Track(dimension, columns))
    return result, left


def _places(atoms: npt.NDArray[np.int64], wanted: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return (A, m): the columns that hold each of the ascending ``wanted``, -1 filled up; (0, 0) if none does."""
    wanted = np.asarray(wanted)
    index = np.searchsorted(wanted, atoms).clip(max=wanted.size - 1)
    columns = np.flatnonzero(wanted[index] == atoms)
    if not columns.size:
        return np.zeros((0, 0), np.intp)
    owner = index[columns]
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=wanted.size)
    place = np.arange(columns.size) - np.repeat(np.cumsum(counts) - counts, counts)
    result = np.full((wanted.size, counts.max()), -1, np.intp)
    result[owner[order], place] = columns[order]
    return result
