"""Eyeriss: rows of filters and of inputs meet in an element, sums of a column of elements add up, in passes.

With the letters of Chen et al., JSSC 2017: N images, G groups of M filters with C channels of R x S, E x F outputs,
stride U; a pass takes n images, p t filters, q r channels and e output rows, m filters share a visit of the buffer::

    elements      = R e r t
    passes        = G ceil(M / p t) ceil(C / q r) ceil(N / n) ceil(E / e)
    cycles/pass   = max(n F p q S, n e F p t / 4, input words) + p t q r R S / 4 + ((e - 1) U + R) r q S
    buffer words  = 2 ceil(C / q r) |O| + G ceil(M / p t) C N strips ((e - 1) U + R) W
    handed over   = products / (S q)

A pass waits for the products of one element, for its partial sums through a port of four words, or for its inputs, one
word a cycle; before it, filters are loaded, and the first window of inputs, without which no element can begin. Each
element adds up S q products, and hands its sum to the next of its column over the network; the last one's goes to the
buffer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError
from nncomp.ops import LoopNest
from nncomp_sparse.costing import Costing
from nncomp_sparse.counts import Access
from nncomp_sparse.engines.execution import Execution
from nncomp_sparse.hardware import Hardware
from nncomp_sparse.hardware.dataflows import RowStationary
from nncomp_sparse.search import Objective, objective_values
from nncomp_sparse.tilings import divisors
from nncomp_sparse.traffic import Counts

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """A layer as rows: extra spatial axes of the kernel count as channels, of positions as images."""

    images: int
    groups: int
    filters: int
    channels: int
    height: int
    width: int
    kernel_rows: int
    kernel_cols: int
    stride: int
    row_words: int

    @classmethod
    def of(cls, nest: LoopNest) -> Rows:
        """Return a nest as rows."""
        axes = list(zip(nest.spatial, nest.kernel, nest.strides, nest.dilations, strict=True))
        extra, plane = axes[:-2], [*[(1, 1, 1, 1)] * (2 - len(axes)), *axes[-2:]]
        (height, kernel_rows, stride, _), (width, kernel_cols, step, reach) = plane
        return cls(
            images=nest.batch * math.prod(axis[0] for axis in extra),
            groups=nest.groups,
            filters=nest.outputs,
            channels=nest.inputs * math.prod(axis[1] for axis in extra),
            height=height,
            width=width,
            kernel_rows=kernel_rows,
            kernel_cols=kernel_cols,
            stride=stride,
            row_words=(width - 1) * step + (kernel_cols - 1) * reach + 1,
        )

    @property
    def outputs(self) -> int:
        """Output elements."""
        return self.images * self.groups * self.filters * self.height * self.width

    @property
    def macs(self) -> int:
        """Products."""
        return self.outputs * self.channels * self.kernel_rows * self.kernel_cols


@dataclass(frozen=True, slots=True)
class RowMappings:
    """Mappings, by the seven numbers of the module's docstring; (mappings,) each."""

    m: Counts
    n: Counts
    e: Counts
    p: Counts
    q: Counts
    r: Counts
    t: Counts

    @classmethod
    def of(cls, table: Sequence[Sequence[int]]) -> RowMappings:
        """Return mappings given as rows of seven numbers."""
        return cls(*np.array(table, np.int64).reshape(-1, 7).T)

    def text(self, row: int) -> str:
        """Return one of them for people."""
        return " ".join(f"{name}{getattr(self, name)[row]}" for name in self.__slots__)


@dataclass(frozen=True, slots=True)
class RowCounts:
    """What mappings do: elements in use, passes, cycles, and words by level and tensor; (mappings,) each."""

    elements: Counts
    passes: Counts
    cycles: Floats
    dram_weight: Counts
    dram_input: Counts
    buffer_input: Counts
    buffer_sums: Counts
    element_weight: Counts
    element_input: Counts
    handed_over: Counts

    @property
    def buffer_words(self) -> Counts:
        """What the chip's table counts: sums there and back, and inputs on their way to the array."""
        return np.asarray(self.buffer_sums + self.buffer_input)


def count_rows(rows: Rows, given: RowMappings, flow: RowStationary) -> RowCounts:
    """Return what mappings do."""
    n, e, p, q, r, t = given.n, given.e, given.p, given.q, given.r, given.t
    strips, visits = -(-rows.height // e), -(-rows.images // n)
    filters, channels = rows.groups * -(-rows.filters // (p * t)), -(-rows.channels // (q * r))
    lines = (e - 1) * rows.stride + rows.kernel_rows
    passes = filters * channels * visits * strips
    loaded = p * t * q * r * rows.kernel_rows * rows.kernel_cols
    work = np.maximum.reduce(
        [
            n * rows.width * p * q * rows.kernel_cols,
            n * e * rows.width * p * t / flow.psum_words,
            n * q * r * lines * rows.row_words / flow.input_words,
        ]
    )
    start = loaded / flow.filter_words + lines * r * q * rows.kernel_cols / flow.input_words
    elements = rows.kernel_rows * e * r * t
    shared = rows.groups * rows.channels * rows.images * strips * lines * rows.row_words
    weights = rows.groups * rows.filters * rows.channels * rows.kernel_rows * rows.kernel_cols
    return RowCounts(
        elements=elements,
        passes=passes,
        cycles=passes * (work + start),
        dram_weight=weights * strips * visits,
        dram_input=shared * -(-rows.filters // given.m),
        buffer_input=shared * -(-rows.filters // (p * t)),
        buffer_sums=2 * channels * rows.outputs,
        element_weight=weights * strips * visits * e,
        element_input=passes * elements * n * q * rows.row_words,
        handed_over=np.maximum(rows.macs // (rows.kernel_cols * q), channels * rows.outputs),
    )


def run_rows(costing: Costing, objective: Objective) -> Execution:
    """Return the execution of the best of all mappings.

    Raises:
        UnsupportedError: a row of the layer fits neither scratchpad nor buffer, or a filter not the array (NNC-T002).
    """
    rows, machine = Rows.of(costing.layer.nest), costing.machine
    given = row_mappings(rows, machine)
    if rows.kernel_rows > machine.array.rows:
        raise UnsupportedError(
            f"hardware {machine.name!r}: a filter of {costing.layer.name!r} has {rows.kernel_rows} rows, "
            f"the array has {machine.array.rows}",
            hint="array.rows must hold the rows of a filter one above the other",
        )
    if not len(given.m):
        raise UnsupportedError(
            f"hardware {machine.name!r}: a row of {costing.layer.name!r} ({rows.kernel_rows} x {rows.kernel_cols} "
            f"filter, {rows.width} outputs) fits neither the scratchpads nor the buffer",
            hint="larger words of the innermost level, or a larger kb of the buffer",
        )
    accesses, steps = rows_accesses(costing, rows, given)
    priced = costing.priced(accesses, steps, np.zeros(len(steps)))
    row = int(np.argmin(objective_values(machine, priced, objective)))
    one = {key: Access(*(part[row : row + 1] for part in access.parts)) for key, access in accesses.items()}
    compute = float(steps[row])
    return Execution(one, compute, compute, 0.0, given.text(row), len(steps))


def rows_accesses(costing: Costing, rows: Rows, given: RowMappings) -> tuple[dict[tuple[int, str], Access], Floats]:
    """Return accesses by level and tensor, and the cycles of the array."""
    flow = costing.machine.dataflow
    assert isinstance(flow, RowStationary)
    found = count_rows(rows, given, flow)
    each = np.ones(len(given.m), np.int64)
    outputs, sums, macs = rows.outputs * each, found.buffer_sums // 2, rows.macs * each
    nothing, last = 0 * each, len(costing.machine.levels) - 1
    accesses = {
        (0, "weight"): Access(found.dram_weight, nothing, nothing, nothing),
        (0, "input"): Access(found.dram_input, nothing, nothing, nothing),
        (0, "output"): Access(nothing, nothing, outputs, nothing),
        (1, "input"): Access(found.buffer_input, found.dram_input, nothing, nothing),
        (1, "output"): Access(sums - outputs, nothing, sums, outputs),
        (last, "weight"): Access(macs, found.element_weight, nothing, nothing),
        (last, "input"): Access(macs, found.element_input, nothing, nothing),
        (last, "output"): Access(macs, nothing, macs, found.handed_over),
    }
    return accesses, np.asarray(found.cycles * costing.cycles_per_mac)


def row_mappings(rows: Rows, machine: Hardware) -> RowMappings:
    """Return the mappings that fit, each with as many filters side by side, and in the buffer, as there is room for.

    What goes into an element or a strip is split evenly; images by their divisors.
    """
    words, bands = machine.levels[-1].words, machine.array.rows // rows.kernel_rows
    room, taps = bands * machine.array.cols, rows.kernel_cols
    choices = [
        _even_splits(rows.height, room),
        _even_splits(rows.filters, words["output"]),
        _even_splits(rows.channels, words["input"] // taps),
        _even_splits(rows.channels, room),
        list(divisors(rows.images)),
    ]
    e, p, q, r, n = (axis.reshape(-1) for axis in np.meshgrid(*map(np.array, choices), indexing="ij"))
    fits = (e * r <= room) & (p * q * taps <= words["weight"]) & (q * (r - 1) < rows.channels)
    e, p, q, r, n = (axis[fits].astype(np.int64) for axis in (e, p, q, r, n))
    if not e.size:
        return RowMappings.of([])
    t = np.minimum(room // (e * r), -(-rows.filters // p))
    t = -(-rows.filters // (p * -(-rows.filters // (p * t))))  # as few as need the same number of rounds
    width = machine.precision.psum_bits / 8
    lines = (e - 1) * rows.stride + rows.kernel_rows
    left = (machine.levels[1].kb or 0) * 1024 / width - n * q * r * lines * rows.row_words
    m = np.minimum((left // (n * e * rows.width)).astype(np.int64), rows.filters)
    fits = m >= np.minimum(p * t, rows.filters)
    m = np.where(m < rows.filters, m // (p * t) * (p * t), rows.filters)
    return RowMappings(*(axis[fits] for axis in (m, n, e, p, q, r, t)))


def _even_splits(number: int, most: int) -> list[int]:
    """Return the least sizes up to ``most`` for each number of parts that ``number`` can be cut into."""
    parts = {-(-number // size) for size in range(1, min(number, most) + 1)}
    return sorted(-(-number // count) for count in parts)
