"""A tensor core of outer products on condensed columns and rows (Wang et al., ISCA 2021).

Of each column of the left and each row of the right tile only the non-zeros are multiplied, in whole steps::

    relative time = E[ceil(Bin(tile, left) / left step)] * E[ceil(Bin(tile, right) / right step)] / those of ones
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.execution import Execution
from nncomp_sparse.engines.nests import run_nest
from nncomp_sparse.hardware.dataflows import OuterProduct
from nncomp_sparse.search import Objective
from nncomp_sparse.work import binomial


def condensed_share(flow: OuterProduct, left: float, right: float) -> float:
    """Return the time at given shares of non-zeros, relative to none being zero."""
    return _steps(flow.tile, left, flow.left) * _steps(flow.tile, right, flow.right)


def run_outer(costing: Costing, objective: Objective) -> Execution:
    """Price it: cycles by condensed steps, inputs on the left, weights on the right; traffic of the best tiling."""
    layer, machine = costing.layer, costing.machine
    flow = machine.dataflow
    assert isinstance(flow, OuterProduct)
    shares = [
        layer.operand(tensor).density if machine.sparsity.of(tensor).action == "skip" else 1.0
        for tensor in ("input", "weight")
    ]
    done = run_nest(costing, objective)
    return replace(done, compute=done.steps * condensed_share(flow, shares[0], shares[1]), share=costing.timed_share)


def _steps(tile: int, share: float, step: int) -> float:
    places, chances = binomial(tile, share)
    return float((chances * np.ceil(places / step)).sum()) / math.ceil(tile / step)
