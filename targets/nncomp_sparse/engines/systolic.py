"""Arrays through which operands march: SCALE-Sim's cycles, and Bit Fusion's."""

from __future__ import annotations

import math
from dataclasses import replace

from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.execution import Execution
from nncomp_sparse.engines.nests import run_nest
from nncomp_sparse.hardware.dataflows import Systolic
from nncomp_sparse.precision import cycles_per_mac
from nncomp_sparse.search import Objective


def systolic_cycles(nest: LoopNest, rows: int, cols: int, stationary: str) -> int:
    """Return the cycles of a layer as a matrix product (positions x terms x outputs), operand loads included.

    Samajdar et al., SCALE-Sim: for each fold, 2 rows + cols + the length of the stream - 2 when an operand stays (one
    pass of ``rows`` cycles loads it), rows + cols + terms - 2 when results stay; the first cycle is not counted.
    """
    positions, terms = nest.batch * math.prod(nest.spatial), nest.inputs * math.prod(nest.kernel)
    if stationary == "weight":
        folds, stream = math.ceil(terms / rows) * math.ceil(nest.outputs / cols), 2 * rows + cols + positions - 2
    elif stationary == "output":
        folds, stream = math.ceil(positions / rows) * math.ceil(nest.outputs / cols), rows + cols + terms - 2
    else:
        folds, stream = math.ceil(terms / rows) * math.ceil(positions / cols), 2 * rows + cols + nest.outputs - 2
    return nest.groups * folds * stream - 1


def fusion_cycles(nest: LoopNest, rows: int, cols: int, split: float) -> int:
    """Return Bit Fusion's compute cycles: input channels along rows, ``split`` each, output channels along columns."""
    terms = math.ceil(nest.inputs / (rows * split))
    positions = nest.batch * math.prod(nest.spatial)
    return nest.groups * terms * math.ceil(nest.outputs / cols) * math.prod(nest.kernel) * positions


def run_systolic(costing: Costing, objective: Objective) -> Execution:
    """Price a systolic array: cycles in closed form, traffic of the best tiling."""
    flow, array = costing.machine.dataflow, costing.machine.array
    assert isinstance(flow, Systolic)
    cycles = systolic_cycles(costing.layer.nest, array.rows, array.cols, flow.stationary) * costing.cycles_per_mac
    return replace(run_nest(costing, objective), steps=cycles, compute=cycles, share=1.0)


def run_fusion(costing: Costing, objective: Objective) -> Execution:
    """Price Bit Fusion: cycles in closed form, traffic of the best tiling."""
    array = costing.machine.array
    share = cycles_per_mac(costing.machine, costing.bits["weight"], costing.bits["input"])
    cycles = float(fusion_cycles(costing.layer.nest, array.rows, array.cols, 1 / share))
    return replace(run_nest(costing, objective), steps=cycles, compute=cycles, share=1.0)
