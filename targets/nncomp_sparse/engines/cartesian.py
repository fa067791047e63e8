"""SCNN: in each element, all products of a vector of non-zero weights and a vector of non-zero inputs of a channel.

The input plane is cut into tiles, one an element; all elements work on the same group of output channels, as many as
the
accumulators of a tile with its rim hold, and wait for one another at its end (Parashar et al., ISCA 2017)::

    cycles = sum over groups of max over elements of sum over channels of ceil(nnz inputs / I) * ceil(nnz weights / F)

Inputs are binomial in each tile; over and above that, tiles differ by the spread that the machine states. A stride is
worked on as that many convolutions of every other input.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.execution import Execution
from nncomp_sparse.engines.nests import run_nest
from nncomp_sparse.hardware import Hardware
from nncomp_sparse.hardware.dataflows import Cartesian
from nncomp_sparse.search import Objective
from nncomp_sparse.work import binomial, normal_maximum


def run_cartesian(costing: Costing, objective: Objective) -> Execution:
    """Price a Cartesian-product machine: cycles from its tiles, traffic of the best tiling."""
    layer, machine = costing.layer, costing.machine
    shares = {
        tensor: layer.operand(tensor).density if machine.sparsity.of(tensor).action == "skip" else 1.0
        for tensor in ("weight", "input")
    }
    compute = cartesian_cycles(layer.nest, machine, shares["weight"], shares["input"]) * costing.cycles_per_mac
    steps = cartesian_cycles(layer.nest, machine, 1.0, 1.0) * costing.cycles_per_mac
    return replace(run_nest(costing, objective), steps=steps, compute=compute, share=costing.timed_share)


def cartesian_cycles(nest: LoopNest, machine: Hardware, weight: float, data: float) -> float:
    """Return the cycles of a layer at given shares of non-zeros."""
    flow = machine.dataflow
    assert isinstance(flow, Cartesian)
    axes = list(zip(nest.spatial, nest.kernel, nest.strides, strict=True))
    axes = [*axes, *[(1, 1, 1)] * (2 - len(axes))]
    grid = (machine.array.rows, machine.array.cols)
    kernels = [-(-kernel // stride) for _, kernel, stride in axes]
    sizes = [*(nest.sizes or nest.spatial), *[1] * (2 - len(nest.spatial))]
    planes = [-(-size // stride) for size, (_, _, stride) in zip(sizes, axes, strict=True)]
    phases = math.prod(stride for *_, stride in axes)
    taps = math.prod(kernels)
    filled = math.prod(kernel for _, kernel, _ in axes) / (phases * taps)  # phases of a stride differ in size
    tiles = [-(-plane // parts) for plane, parts in zip(planes[:2], grid, strict=True)]
    whole = math.prod(max(plane // tile, 1) for plane, tile in zip(planes[:2], tiles, strict=True))
    inputs = math.prod(tiles) * math.prod(planes[2:])
    rim = math.prod(tile + kernel - 1 for tile, kernel in zip(tiles, kernels, strict=False))
    together = max(1, min(nest.outputs, flow.accumulators // rim))
    mean, variance = _vectors(inputs, data, flow.inputs)
    cycles = 0.0
    for outputs, times in _groups(nest.outputs, together):
        steps, spread = _vectors(outputs * taps, weight * filled, flow.weights)
        channels = nest.inputs * phases
        middle = channels * mean * steps
        deviation = channels * variance * (steps**2 + spread)
        if data < 1:
            deviation += (machine.sparsity.balance.spread * middle) ** 2
        cycles += times * (middle + normal_maximum(min(whole, machine.array.pes)) * math.sqrt(deviation))
    return cycles * nest.batch * nest.groups


def dense_twin_cycles(nest: LoopNest, machine: Hardware) -> int:
    """Return the cycles of SCNN's dense twin: dot products over input channels and kernel, the same tiles."""
    grid = (machine.array.rows, machine.array.cols, *[1] * len(nest.spatial))
    tiles = math.prod(-(-size // parts) for size, parts in zip(nest.spatial, grid, strict=False))
    terms = -(-nest.inputs * math.prod(nest.kernel) // machine.array.macs_per_pe)
    return nest.batch * nest.groups * tiles * nest.outputs * terms


def _groups(outputs: int, together: int) -> list[tuple[int, int]]:
    """Return (channels of a group, how many such groups)."""
    full, rest = divmod(outputs, together)
    return [(size, times) for size, times in ((together, full), (rest, 1)) if size and times]


@lru_cache(maxsize=4096)
def _vectors(trials: int, share: float, length: int) -> tuple[float, float]:
    """Return mean and variance of how many vectors the non-zeros of a binomial fill."""
    places, chances = binomial(trials, share)
    vectors = np.ceil(places / length)
    mean = float((chances * vectors).sum())
    return mean, max(float((chances * vectors**2).sum()) - mean**2, 0.0)
