"""Products with a matrix that is a network of small tensors: what is contracted when, and the ops that do it.

The data's last axis is split into modes, each with a letter. A factor takes away the letters that it shares with the
data and brings its others: one Transpose that puts the former last, one Reshape, one MatMul.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nncomp.ir import Graph, Op, Value
from nncomp_lowrank.lowering import stand_in
from nncomp_lowrank.svd import Array


@dataclass(frozen=True, slots=True)
class Contraction:
    """What one factor does to the axes of the data.

    Attributes:
        letters: Axes of the factor.
        gone: Those that the data has, too; they are summed over.
        new: The others.
    """

    letters: str
    gone: tuple[str, ...]
    new: tuple[str, ...]

    def matrix(self, factor: Array) -> Array:
        """Return the factor as (gone, new)."""
        axes = [self.letters.index(one) for one in (*self.gone, *self.new)]
        rows = math.prod(factor.shape[self.letters.index(one)] for one in self.gone)
        return factor.transpose(axes).reshape(rows, -1)


def contractions(factors: Sequence[str], data: str) -> list[Contraction]:
    """Return what each factor does, for data with axes ``data``, in the order in which the data meets them."""
    present, found = set(data), []
    for letters in factors:
        gone = tuple(one for one in letters if one in present)
        new = tuple(one for one in letters if one not in present)
        present = (present - set(gone)) | set(new)
        found.append(Contraction(letters, gone, new))
    return found


def bond_sizes(steps: Sequence[Contraction], modes: Mapping[str, int], columns: Sequence[int]) -> dict[str, int]:
    """Return the size of every letter, those of ``modes`` and of the one bond that each step may bring.

    Args:
        steps: In order.
        modes: Sizes of rows and columns.
        columns: Of each step's matrix (gone, new), the number of columns.
    """
    sizes = dict(modes)
    for step, count in zip(steps, columns, strict=True):
        for bond in [one for one in step.new if one not in sizes]:
            sizes[bond] = count // math.prod(sizes[one] for one in step.new if one != bond)
    return sizes


def write_contractions(
    graph: Graph,
    op: Op,
    steps: Sequence[Contraction],
    weights: Mapping[str, Value],
    sizes: Mapping[str, int],
    *,
    data: str,
    result: str,
) -> None:
    """Write the steps in place of a MatMul or Gemm, which keeps its bias.

    Args:
        graph: Where ``op`` is.
        op: MatMul (..., I) x (I, O) or Gemm.
        steps: In the order in which the data meets them.
        weights: Their matrices (gone, new), by what is added to the name of ``op`` for the product with each.
        sizes: Of all letters.
        data: Letters of the data's last axis.
        result: Letters of the output's last axis.
    """
    writer = _Writer(graph, op, sizes, data)
    value = op.inputs[0]
    assert value is not None and value.shape is not None
    if op.kind == "Gemm" and op.attr("transA", 0):
        value = writer.add("Transpose", [value], perm=[1, 0])
    axes = list(data)
    for step, (suffix, weight) in zip(steps, weights.items(), strict=True):
        left = [one for one in axes if one not in step.gone]
        value = writer.ordered(value, axes, [*left, *step.gone])
        value = writer.multiplied(value, weight, suffix, [part for part in (left, step.gone) if part], step.new)
        axes = [*left, *step.new]
    value = writer.ordered(value, axes, list(result))
    value = writer.reshaped(value, [math.prod(sizes[one] for one in result)])
    value = writer.biased(value)
    if op.output.type is not None:
        graph.set_type(value, op.output.type)
    stand_in(graph, op, value)


class _Writer:
    """Adds ops around the leading axes of the data, which stay as they are.

    Attributes:
        sizes: Of all letters.
        behind: Sizes of the axes behind the leading ones, as the last op left them.
    """

    def __init__(self, graph: Graph, op: Op, sizes: Mapping[str, int], data: str) -> None:
        value = op.inputs[0]
        assert value is not None and value.shape is not None
        self.graph, self.op, self.sizes = graph, op, sizes
        self.lead = len(value.shape) - 1
        self.base = op.name or op.output.name
        self.behind = [self.size(data)]

    def size(self, letters: Iterable[str]) -> int:
        return math.prod(self.sizes[one] for one in letters)

    def add(self, kind: str, inputs: Sequence[Value | None], suffix: str = "", **attrs: Any) -> Value:
        name = f"{self.base}.{suffix or kind.lower()}"
        return self.graph.add_op(kind, inputs, [name], attrs=attrs, name=name).output

    def multiplied(
        self, value: Value, weight: Value, suffix: str, parts: Sequence[Sequence[str]], new: Sequence[str]
    ) -> Value:
        value = self.reshaped(value, [self.size(part) for part in parts])
        self.behind[-1] = self.size(new)
        return self.add("MatMul", [value, weight], suffix)

    def reshaped(self, value: Value, sizes: Sequence[int]) -> Value:
        if self.behind == list(sizes):
            return value
        self.behind = list(sizes)
        shape = np.array([*[0] * self.lead, *sizes], np.int64)  # 0: as it is
        return self.add("Reshape", [value, self.graph.add_constant(f"{self.base}.shape", shape)])

    def ordered(self, value: Value, axes: Sequence[str], wanted: Sequence[str]) -> Value:
        if list(axes) == list(wanted):
            return value
        value = self.reshaped(value, [self.sizes[one] for one in axes])
        self.behind = [self.sizes[one] for one in wanted]
        order = [axes.index(one) + self.lead for one in wanted]
        return self.add("Transpose", [value], perm=[*range(self.lead), *order])

    def biased(self, value: Value) -> Value:
        bias = self.op.input(2) if self.op.kind == "Gemm" else None
        if bias is None:
            return value
        beta = float(self.op.attr("beta", 1.0))
        if beta != 1.0:
            factor = self.graph.add_constant(f"{self.base}.beta", np.array(beta, np.float32))
            bias = self.add("Mul", [bias, factor])
        return self.add("Add", [value, bias])
