"""EIE: a matrix in compressed columns, interleaved by rows over the elements, times the non-zeros of a vector.

The queue of :func:`nncomp_sparse.work.queue_cycles` is run on the entries of each column in each element. They are
those of the real weights where these are known; else drawn from a seed, with the spread of non-zeros between elements
that the machine states. Vectors and results longer than the registers hold are worked on in batches, with a barrier and
a reload of the accumulators between them (Han et al., ISCA 2016, section IV).
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp_sparse.costing import Costing
from nncomp_sparse.engines.execution import Execution
from nncomp_sparse.engines.nests import run_nest
from nncomp_sparse.search import Objective
from nncomp_sparse.work import Ints, queue_cycles

REGISTERS: Final = 64
"""Accumulators, and inputs, that an element holds."""
_RELOAD: Final = 2 * REGISTERS // 4
"""Cycles of a batch to write the accumulators and to read the next ones, four a cycle."""
_SEED: Final = 0


def run_matvec(costing: Costing, objective: Objective) -> Execution:
    """Price a product column by column; a convolution is one such product for each position."""
    layer, machine = costing.layer, costing.machine
    nest, elements = layer.nest, machine.array.pes
    columns, positions = nest.inputs * math.prod(nest.kernel), nest.batch * math.prod(nest.spatial)
    active = layer.input.density if machine.sparsity.input.action == "skip" else 1.0
    form, balance = machine.sparsity.weight, machine.sparsity.balance
    cycles = 0
    for group in range(nest.groups):
        mask = None
        if form.action != "skip":
            mask = np.ones((nest.outputs, columns), bool)
        elif layer.weight.mask is not None:
            mask = layer.weight.mask[group].reshape(nest.outputs, columns)
        cycles += vector_cycles(
            (nest.outputs, columns),
            mask,
            density=layer.weight.density,
            active=active,
            elements=elements,
            run_bits=form.index_bits,
            queue=balance.fifo,
            spread=balance.spread,
        )
        if layer.weight.mask is None:
            cycles *= nest.groups
            break
    compute = float(cycles * positions) * costing.cycles_per_mac
    steps = float(nest.groups * positions * columns * math.ceil(nest.outputs / elements)) * costing.cycles_per_mac
    return replace(run_nest(costing, objective), steps=steps, compute=compute, share=costing.timed_share)


def vector_cycles(
    shape: tuple[int, int],
    mask: npt.NDArray[np.bool_] | None,
    *,
    density: float,
    active: float,
    elements: int,
    run_bits: int,
    queue: int,
    spread: float,
) -> int:
    """Return the cycles of one matrix times one vector.

    Args:
        shape: Rows and columns.
        mask: Where the matrix is not zero, (rows, columns); None draws it.
        density: Share of non-zeros, if it is drawn.
        active: Share of the vector that is not zero.
        elements: Among which rows are interleaved.
        run_bits: Width of a relative index; longer runs of zeros need padding entries.
        queue: Size of the queues; one place stays empty.
        spread: Relative deviation of the density between elements, if it is drawn.
    """
    rows, columns = shape
    rng = np.random.default_rng(_SEED)
    places = [NormalDist().inv_cdf((number + 0.5) / elements) for number in range(elements)]
    densities = np.clip(density * (1 + spread * np.array(places)), 0, 1)
    cycles = 0
    for first in range(0, rows, REGISTERS * elements):
        last = min(rows, first + REGISTERS * elements)
        for begin in range(0, columns, REGISTERS * elements):
            end = min(columns, begin + REGISTERS * elements)
            chosen = np.sort(rng.permutation(end - begin)[: round((end - begin) * active)]) + begin
            if mask is not None:
                part = _by_element(mask[first:last, chosen], elements)
            else:
                part = _drawn(last - first, len(chosen), densities, rng)
            cycles += queue_cycles(entries_by_column(part, run_bits), max(queue - 1, 1)) + _RELOAD
    return cycles


def _by_element(mask: npt.NDArray[np.bool_], elements: int) -> npt.NDArray[np.bool_]:
    """Return (columns, elements, rows of an element)."""
    rows, columns = mask.shape
    filled = np.zeros((-(-rows // elements) * elements, columns), bool)
    filled[:rows] = mask
    return np.transpose(filled.reshape(-1, elements, columns), (2, 1, 0))


def _drawn(
    rows: int, columns: int, densities: npt.NDArray[np.float64], rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    elements = len(densities)
    deep = -(-rows // elements)
    own = (rows - np.arange(elements) + elements - 1) // elements
    drawn = rng.random((columns, elements, deep), dtype=np.float32) < densities[:, None]
    return np.asarray(drawn & (np.arange(deep) < own[:, None]))


def entries_by_column(part: npt.NDArray[np.bool_], run_bits: int) -> Ints:
    """Return the entries of each column in each element, padding for long runs of zeros included."""
    places = np.arange(part.shape[2])
    last = np.maximum.accumulate(np.where(part, places, -1), axis=2)
    before = np.concatenate([np.full((*part.shape[:2], 1), -1), last[:, :, :-1]], axis=2)
    runs = places - before - 1
    return np.asarray((part * (1 + (runs >> run_bits))).sum(axis=2), np.int64)
