"""What a model costs when so many atoms of each dimension are gone: exact counts, without touching the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp.axes import AxisAnalysis, Dimension
from nncomp.axes.model import is_constant

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CostModel:
    """sum over terms of amount * product over axes of (1 - gone / length).

    Attributes:
        amounts: (T,) cost of each term as it is.
        lost: (X, D) by how much one atom of a dimension shortens an axis, relative to its length.
        starts: (T,) first axis of each term; axes lie term by term, each term has one at least.
    """

    amounts: Doubles
    lost: Doubles
    starts: npt.NDArray[np.intp]

    def total(self, gone: npt.NDArray[np.int64]) -> float:
        """Return the cost with ``gone`` (D,) atoms of each dimension removed."""
        return float(self.amounts @ np.multiply.reduceat(1.0 - self.lost @ gone, self.starts))


def macs_model(analysis: AxisAnalysis, dimensions: Sequence[Dimension]) -> CostModel:
    """Return the model of multiply-accumulates."""
    return _model(((work.macs, work.axes) for work in analysis.works), analysis.count, dimensions)


def energy_model(analysis: AxisAnalysis, dimensions: Sequence[Dimension], energies: Mapping[str, float]) -> CostModel:
    """Return the model of energy: that of each op shrinks as its multiply-accumulates do.

    Args:
        analysis: Axes of the model.
        dimensions: What may shrink.
        energies: Of the ops as they are, by label; ops that have none cost nothing.
    """
    terms = ((energies.get(work.op.label, 0.0), work.axes) for work in analysis.works)
    return _model(terms, analysis.count, dimensions)


def params_model(analysis: AxisAnalysis, dimensions: Sequence[Dimension]) -> CostModel:
    """Return the model of parameters: elements of all constants that have a free axis."""
    terms = (
        (value.tensor_type.size or 0, tuple(axis for axis in axes if axis is not None))
        for value, axes in analysis.labels.items()
        if is_constant(value) and value.tensor_type is not None
    )
    return _model(terms, analysis.count, dimensions)


def _model(
    terms: Iterable[tuple[float, tuple[npt.NDArray[np.int64], ...]]], count: int, dimensions: Sequence[Dimension]
) -> CostModel:
    owner = np.full(count + 1, len(dimensions), np.intp)
    for number, dimension in enumerate(dimensions):
        owner[dimension.atoms] = number
    amounts: list[float] = []
    lost: list[Doubles] = []
    sizes = np.array([len(one) for one in dimensions])
    starts: list[int] = []
    for amount, axes in terms:
        amounts.append(amount)
        starts.append(len(lost))
        for atoms in axes or (np.zeros(1, np.int64),):
            met = np.bincount(owner[atoms], minlength=len(dimensions) + 1)[:-1]
            lost.append(met / sizes / atoms.size)
    return CostModel(
        np.array(amounts, np.float64), np.array(lost).reshape(-1, len(dimensions)), np.array(starts, np.intp)
    )
