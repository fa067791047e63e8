"""A layer as the moments see it: the names of what it reads and gives, and the rows that its positions make."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.errors import UsageError
from nncomp.ir import Graph, Op
from nncomp.ops import MatrixView, OpTable
from nncomp.statistics.moments import MomentSums

Array = npt.NDArray[Any]
SampleRows: TypeAlias = list[tuple[Array, Array, Array | None]]
"""x, y and what is added to y, of each sample in a batch."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer by the names of what it reads and gives, and how its weight is a matrix."""

    output: str
    data: str
    view: MatrixView

    def sums(self) -> MomentSums:
        """Return empty sums of its moments."""
        return MomentSums(self.view.groups, self.view.outputs, self.view.columns)

    def rows(
        self, x: Array, y: Array, first: int, batch: int, limit: int | None, *, other: Array | None = None
    ) -> SampleRows:
        """Return the rows of each sample of a batch, as they would be if each came alone.

        Args:
            x, y: What the layer reads and gives.
            first: Number of the first sample.
            batch: Number of samples; data that cannot be split in so many parts counts as one.
            limit: Positions of each that count.
            other: What is added to y, of its shape.
        """
        parts = batch if x.ndim > 1 and x.shape[0] % batch == 0 and y.shape[0] % batch == 0 else 1
        pairs = zip(np.split(x, parts), np.split(y, parts), strict=True) if parts > 1 else [(x, y)]
        added = [None] * parts if other is None else np.split(other, parts)
        rows: SampleRows = []
        for number, (one, out) in enumerate(pairs):
            chosen = spread(self.view.positions(one.shape), limit, first + number)
            third = added[number]
            more = None if third is None else self.view.rows(third, chosen)
            rows.append((self.view.unfold(one, chosen), self.view.rows(out, chosen), more))
        return rows


def spread(count: int, limit: int | None, offset: int = 0) -> npt.NDArray[np.intp] | None:
    """Return about ``limit`` of ``count`` positions, evenly spread; None for all.

    The step has no factor in common with ``count``, so rows and columns of a map are met alike; ``offset``, the number
    of the sample, moves the first one.
    """
    if limit is None or count <= limit:
        return None
    step = -(-count // limit)
    while math.gcd(step, count) > 1:
        step += 1
    return np.arange(offset % min(step, count), count, step, dtype=np.intp)


def layer_of(graph: Graph, name: str, ops: OpTable) -> Layer:
    """Return the layer whose output is called ``name``.

    Raises:
        UsageError: there is none, or it has no matrix view.
    """
    op = producer_of(graph, name)
    view = ops.matrix(op, graph)
    data = None if view is None else op.input(view.data)
    if view is None or data is None:
        raise UsageError(f"{op.label!r} is no layer with a constant weight, so it has no moments")
    return Layer(name, data.name, view)


def producer_of(graph: Graph, name: str) -> Op:
    """Return the op that gives ``name``.

    Raises:
        UsageError: there is none.
    """
    producer = graph.find(name).producer if graph.has_name(name) else None
    if producer is None:
        raise UsageError(f"no layer of the graph gives {name!r}")
    return producer
