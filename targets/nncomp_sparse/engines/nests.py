"""Machines that tile loops: the best mapping found by search; and others that take their traffic from it."""

from __future__ import annotations

from nncomp_sparse.costing import Costing
from nncomp_sparse.counts import count
from nncomp_sparse.engines.execution import Execution
from nncomp_sparse.search import Objective, Search


def run_nest(costing: Costing, objective: Objective) -> Execution:
    """Return the best mapping's execution."""
    found = Search(costing, objective).best()
    candidates = found.candidates
    steps = candidates.product(candidates.places(spatial=False)) * costing.cycles_per_mac
    levels = [level.name for level in costing.machine.levels]
    return Execution(
        accesses=count(costing.layer.space, candidates, costing.machine),
        steps=float(steps[0]),
        compute=float(costing.compute(candidates)[0]),
        fill=float(costing.fill(candidates)[0]),
        mapping=found.mapping.text(costing.layer.space, levels),
        evaluated=found.evaluated,
        proved=found.proved,
        share=costing.timed_share,
    )
