"""Products of two activations, as in attention: float32, batches that broadcast, nothing packed.

The second operand is read where it lies: its rows are contiguous, so a vector of columns is one load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.emit import Code, Expr, constant, load, pieces, splat
from nncomp_tvm.kernels.program import Epilogue, Leaf, Program
from nncomp_tvm.kernels.tiling import Contraction, Tile, candidates


@dataclass(frozen=True)
class Product:
    """(..., rows, depth) x (..., depth, columns): the shapes of both, and ``batch``, what they broadcast to."""

    left: tuple[int, ...]
    right: tuple[int, ...]
    batch: tuple[int, ...]

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of the result."""
        return (*self.batch, self.left[-2], self.right[-1])

    def tiles(self, cpu: CpuTarget) -> list[Tile]:
        """Return tiles, the one that looks fastest first."""
        return candidates(Contraction(1, 1, self.left[-2], self.left[-1], self.right[-1]), cpu)


def write_product(product: Product, program: Program, tile: Tile, cpu: CpuTarget, *, parallel: bool) -> Any:
    """Return the PrimFunc: a, b, operands of the program, y."""
    code = Code(parallel=parallel)
    a = code.parameter(product.left, "float32")
    b = code.parameter(product.right, "float32")
    epilogue = Epilogue(program, code)
    y = code.parameter(product.output, program.dtype)
    (rows, depth), columns = product.left[-2:], product.right[-1]
    batch = 1
    for extent in product.batch:
        batch *= extent
    cuts = _cuts(columns, tile.vectors, cpu.lanes)

    def write_tile(image: Expr, row: Expr, height: int, column: Expr, widths: Sequence[int]) -> None:
        left = _matrix(product.left, product.batch, image) * (rows * depth) + row * depth
        right = _matrix(product.right, product.batch, image) * (depth * columns) + column
        starts = [sum(widths[:v]) for v in range(len(widths))]
        sums = [[code.local(lanes, "float32") for lanes in widths] for _ in range(height)]
        for line in sums:
            for total, lanes in zip(line, widths, strict=True):
                code.store(total, 0, constant(0, "float32", lanes), lanes)
        with code.loop(depth) as k:
            for i, line in enumerate(sums):
                x = load(a, left + i * depth + k)
                for total, lanes, start in zip(line, widths, starts, strict=True):
                    product_ = splat(x, lanes) * load(b, right + k * columns + start, lanes)
                    code.store(total, 0, load(total, 0, lanes) + product_, lanes)
        for i, line in enumerate(sums):
            for total, lanes, start in zip(line, widths, starts, strict=True):
                at = image * rows + row + i
                value = epilogue.apply(load(total, 0, lanes), at, column + start, lanes)
                code.store(y, at * columns + column + start, value, lanes)

    with code.spread(batch) as image:
        for turns, height, first in _rows(rows, tile.rows):
            with code.spread(turns) as turn:
                for panels, widths, begin in cuts:
                    with code.loop(panels) as panel:
                        write_tile(image, first + turn * height, height, begin + panel * sum(widths), widths)
    return code.function()


def _matrix(shape: tuple[int, ...], batch: tuple[int, ...], image: Expr) -> Expr:
    """Return which matrix of an operand belongs to matrix ``image`` of the result."""
    return Leaf.of((*shape[:-2], 1), "float32", (*batch, 1)).index(image, 0)


def _rows(rows: int, height: int) -> list[tuple[int, int, int]]:
    """Return (turns, height of a tile, first row)."""
    whole, rest = divmod(rows, height)
    return ([(whole, height, 0)] if whole else []) + ([(1, rest, whole * height)] if rest else [])


def _cuts(columns: int, vectors: int, lanes: int) -> list[tuple[int, list[int], int]]:
    """Return (turns, widths of the vectors of a panel, first column)."""
    whole, rest = divmod(columns, vectors * lanes)
    return ([(whole, [lanes] * vectors, 0)] if whole else []) + (
        [(1, pieces(rest, lanes), whole * vectors * lanes)] if rest else []
    )
