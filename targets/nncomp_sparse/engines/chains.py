"""TIE: products of a tensor-train chain one behind the other, intermediate results in on-chip memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nncomp_sparse.costing import Costing
from nncomp_sparse.counts import Access
from nncomp_sparse.engines.execution import Execution
from nncomp_sparse.engines.nests import run_nest
from nncomp_sparse.search import Objective


def run_chain(costing: Costing, objective: Objective) -> Execution:
    """Price one product of a chain: what it hands on stays on chip, if half of the memory holds it."""
    layer, machine = costing.layer, costing.machine
    done = run_nest(costing, objective)
    room = (machine.levels[1].kb or 0) * 8192 / 2 if len(machine.levels) > 1 else 0
    accesses = dict(done.accesses)
    for tensor in sorted(layer.chained):
        if layer.operand(tensor).elements * costing.bits[tensor] <= room:
            nothing = np.zeros(1, np.int64)
            accesses[0, tensor] = Access(nothing, nothing, nothing, nothing)
    return replace(done, accesses=accesses)
