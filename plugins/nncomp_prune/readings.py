"""Readings: the layers that sum over the atoms of a dimension, and which columns of their matrix each atom has.

Removing an atom is putting zeros into its columns of every layer that reads it; all errors of pruning are made there,
and can be made up for there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp.axes import AxisAnalysis
from nncomp.ops import MatrixView, OpTable
from nncomp.ops.coupling import Contraction

Atoms = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reading:
    """A layer that reads atoms.

    Attributes:
        layer: Name of its output.
        view: Its weight as a matrix.
        atoms: (G, K) closed atom of each column, 0 for columns that stay.
    """

    layer: str
    view: MatrixView
    atoms: Atoms


def readings(analysis: AxisAnalysis, ops: OpTable) -> tuple[dict[str, Reading], npt.NDArray[np.bool_]]:
    """Return the readings by layer, in graph order, and which atoms something else sums over, (count + 1,).

    What else sums is a product of two computed tensors, a ReduceSum, a body: there, no weight can make up for anything.
    """
    found: dict[str, Reading] = {}
    elsewhere = np.zeros(analysis.count + 1, bool)
    for one in analysis.contractions:
        atoms = analysis.closed[one.atoms]
        view = ops.matrix(one.op, one.graph) if one.graph is analysis.graph else None
        if view is None or view.data != one.slot:
            elsewhere[atoms] = True
        elif atoms.any():
            found[one.op.output.name] = Reading(one.op.output.name, view, _columns(view, one, atoms))
    elsewhere[0] = False
    return found, elsewhere


def _columns(view: MatrixView, one: Contraction, atoms: Atoms) -> Atoms:
    if atoms.size == view.columns:
        return np.ascontiguousarray(np.broadcast_to(atoms, (view.groups, view.columns)))
    return np.repeat(atoms, view.kernel).reshape(view.groups, view.columns)
