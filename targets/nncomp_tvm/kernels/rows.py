"""Operations along the last axis: softmax, layer normalisation, and maps without any reduction, one row at a time.

A row of a few hundred elements stays in the first-level cache, so passes over it are cheap; sums are kept in one
vector, whose lanes are added at the end, in a fixed order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.emit import Code, Expr, constant, load, pieces, splat
from nncomp_tvm.kernels.extents import Extent
from nncomp_tvm.kernels.program import Epilogue, Program
from nncomp_tvm.kernels.vector_math import VectorMath
from nncomp_tvm.library import tirx

_LOWEST = float("-inf")


class RowWork(StrEnum):
    """What is done with a row."""

    MAP = "map"  # nothing but the program
    SOFTMAX = "softmax"
    NORMALISE = "normalise"  # (x - mean) / sqrt(variance + epsilon)
    HIGHEST = "highest"  # one number a row
    LOWEST = "lowest"


@dataclass(frozen=True)
class Rows:
    """A matrix of ``rows`` x ``columns`` and what is done with each row."""

    rows: Extent
    columns: Extent
    work: RowWork
    epsilon: float = 0.0


class _RowKernel:
    def __init__(self, shape: Rows, program: Program, cpu: CpuTarget, *, parallel: bool) -> None:
        self.shape, self.cpu, self.program = shape, cpu, program
        self.code = Code(parallel=parallel)
        self.columns = self.code.size(shape.columns)

    def write(self, tensor: Sequence[Extent], output: Sequence[Extent]) -> Any:
        shape, code = self.shape, self.code
        if shape.work is not RowWork.MAP:
            self.x = code.parameter(tensor, "float32")
        self.epilogue = Epilogue(self.program, code)
        self.y = code.parameter(output, self.program.dtype)
        works: dict[RowWork, Callable[[Expr], None]] = {
            RowWork.MAP: self._map,
            RowWork.SOFTMAX: self._softmax,
            RowWork.NORMALISE: self._normalise,
            RowWork.HIGHEST: lambda row: self._extreme(row, _LOWEST, tirx.max),
            RowWork.LOWEST: lambda row: self._extreme(row, -_LOWEST, tirx.min),
        }
        with code.spread(code.size(shape.rows)) as row:
            works[shape.work](row)
        return code.function()

    def _over(self, body: Callable[[Expr, int], None]) -> None:
        """Append ``body`` for every vector of a row: its first column, its lanes."""
        lanes, columns = self.cpu.lanes, self.columns
        whole = columns // lanes
        if not isinstance(whole, int) or whole:
            with self.code.loop(whole) as block:
                body(block * lanes, lanes)
        if not isinstance(columns, int):
            self._open_rest(body)
            return
        column = whole * lanes
        for rest in pieces(columns - column, lanes):
            body(column, rest)
            column += rest

    def _open_rest(self, body: Callable[[Expr, int], None]) -> None:
        """Append vectors of 8, 4, 2 and 1 for what is left of an open row: each for one bit of its size."""
        lanes = self.cpu.lanes // 2
        while lanes:
            with self.code.loop(self.columns // lanes % 2):
                body(self.columns // (2 * lanes) * (2 * lanes), lanes)
            lanes //= 2

    def _finish(self, row: Expr, column: Expr, lanes: int, value: Expr) -> None:
        result = self.epilogue.apply(value, row, column, lanes)
        self.code.store(self.y, row * self.columns + column, result, lanes)

    def _map(self, row: Expr) -> None:
        self._over(lambda column, lanes: self._finish(row, column, lanes, None))

    def _extreme(self, row: Expr, start: float, join: Callable[[Expr, Expr], Expr]) -> None:
        """Fold a row as ONNX Runtime does: NaN stays where it comes first, and is passed over elsewhere."""
        found = self._fold(lambda c, n: self._read(row, c, n), start, lambda old, new: join(new, old))
        first = self._read(row, 0, 1)
        self.code.store(self.y, row, tirx.Select(tirx.isnan(first), first, found))

    def _read(self, row: Expr, column: Expr, lanes: int) -> Expr:
        return load(self.x, row * self.columns + column, lanes)

    def _fold(self, term: Callable[[Expr, int], Expr], start: float, join: Callable[[Expr, Expr], Expr]) -> Expr:
        """Fold the terms of all vectors of a row into one number."""
        code, lanes = self.code, self.cpu.lanes
        total = code.local(lanes, "float32")
        code.store(total, 0, constant(start, "float32", lanes), lanes)

        def add(column: Expr, count: int) -> None:
            code.store(total, 0, join(load(total, 0, count), term(column, count)), count)

        self._over(add)
        values = [load(total, lane) for lane in range(lanes)]
        while len(values) > 1:
            values = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        return code.let(values[0], "float32")

    def _softmax(self, row: Expr) -> None:
        """exp(x - max) / sum; the exponentials are kept for the second pass, in a row of known size or in the result.

        Where the result is of bytes and its size is open, they are computed twice.
        """
        code, known, begin = self.code, isinstance(self.columns, int), row * self.columns
        place = code.local(self.columns, "float32") if known else self.y if self.program.dtype == "float32" else None
        at: Expr = 0 if known else begin
        highest = self._fold(lambda c, n: self._read(row, c, n), _LOWEST, tirx.max)

        def computed(column: Expr, lanes: int) -> Expr:
            shifted = self._read(row, column, lanes) - splat(highest, lanes)
            return code.let(VectorMath(code, lanes).exp(shifted), "float32", lanes)

        def term(column: Expr, lanes: int) -> Expr:
            value = computed(column, lanes)
            if place is not None:
                code.store(place, at + column, value, lanes)
            return value

        def again(column: Expr, lanes: int) -> Expr:
            return computed(column, lanes) if place is None else load(place, at + column, lanes)

        total = self._fold(term, 0.0, lambda a, b: a + b)
        scale = code.let(tirx.const(1.0, "float32") / total, "float32")
        self._over(lambda c, n: self._finish(row, c, n, again(c, n) * splat(scale, n)))

    def _normalise(self, row: Expr) -> None:
        code, count = self.code, tirx.const(1.0 / self.columns, "float32")
        mean = code.let(self._fold(lambda c, n: self._read(row, c, n), 0.0, lambda a, b: a + b) * count, "float32")

        def term(column: Expr, lanes: int) -> Expr:
            off = code.let(self._read(row, column, lanes) - splat(mean, lanes), "float32", lanes)
            return off * off

        variance = self._fold(term, 0.0, lambda a, b: a + b) * count
        root = tirx.sqrt(variance + tirx.const(self.shape.epsilon, "float32"))
        scale = code.let(tirx.const(1.0, "float32") / root, "float32")
        self._over(lambda c, n: self._finish(row, c, n, (self._read(row, c, n) - splat(mean, n)) * splat(scale, n)))


def write_rows(
    shape: Rows, program: Program, cpu: CpuTarget, *, tensor: Sequence[Extent], output: Sequence[Extent], parallel: bool
) -> Any:
    """Return the PrimFunc: [x], operands of the program, y."""
    return _RowKernel(shape, program, cpu, parallel=parallel).write(tensor, output)
