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
    """Price it: cycles by condensed steps, inputs on the left, weights on the right; traffic of the best tiling.

    Where the weights are known, rows are condensed as they are, and columns by the density of their own channel.
    """
    done = run_nest(costing, objective)
    return replace(done, compute=done.steps * layer_share(costing), share=costing.timed_share)


def layer_share(costing: Costing) -> float:
    """Return the time of a layer relative to none of its operands being zero."""
    layer, flow = costing.layer, costing.machine.dataflow
    assert isinstance(flow, OuterProduct)
    skips = {tensor: costing.machine.sparsity.of(tensor).action == "skip" for tensor in ("input", "weight")}
    shares = {tensor: layer.operand(tensor).density if skip else 1.0 for tensor, skip in skips.items()}
    if layer.weight.mask is None or not skips["weight"]:
        return condensed_share(flow, shares["input"], shares["weight"])
    mask = layer.weight.mask
    groups, outputs, channels = mask.shape[:3]
    rows = np.moveaxis(mask, 1, -1).reshape(groups, channels, -1, outputs)
    ends = np.arange(0, outputs, flow.tile)
    steps = np.ceil(np.add.reduceat(rows, ends, axis=-1, dtype=np.int64) / flow.right)
    dense = np.ceil(np.diff(np.append(ends, outputs)) / flow.right).sum()
    right = steps.sum(axis=-1).mean(axis=2) / dense
    density = np.full((groups, channels), shares["input"])
    if layer.input.channels is not None and skips["input"]:
        density = np.broadcast_to(layer.input.channels, density.shape)
    own, where = np.unique(density, return_inverse=True)
    left = np.array([_steps(flow.tile, float(share), flow.left) for share in own])[where.reshape(density.shape)]
    return float((left * right).mean())


def _steps(tile: int, share: float, step: int) -> float:
    places, chances = binomial(tile, share)
    return float((chances * np.ceil(places / step)).sum()) / math.ceil(tile / step)
