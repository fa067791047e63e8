"""Products of two activations, as in attention: float32, batches that broadcast, nothing packed.

The second operand is read where it lies: its rows are contiguous, so a vector of columns is one load.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.emit import Code, Expr, constant, load, pieces, splat
from nncomp_tvm.kernels.extents import Extent, likely
from nncomp_tvm.kernels.extents import product as multiplied
from nncomp_tvm.kernels.program import Epilogue, Leaf, Program
from nncomp_tvm.kernels.tiling import Contraction, Run, Tile, candidates, open_run, open_runs


@dataclass(frozen=True)
class Product:
    """(..., rows, depth) x (..., depth, columns): the shapes of both, and ``batch``, what they broadcast to."""

    left: tuple[Extent, ...]
    right: tuple[Extent, ...]
    batch: tuple[Extent, ...]

    @property
    def output(self) -> tuple[Extent, ...]:
        """Shape of the result."""
        return (*self.batch, self.left[-2], self.right[-1])

    def tiles(self, cpu: CpuTarget) -> list[Tile]:
        """Return tiles, the one that looks fastest first."""
        rows, (depth, columns) = self.left[-2], (likely(extent) for extent in self.right[-2:])
        return candidates(Contraction(1, 1, rows, depth, columns), cpu)


def write_product(product: Product, program: Program, tile: Tile, cpu: CpuTarget, *, parallel: bool) -> Any:
    """Return the PrimFunc: a, b, operands of the program, y."""
    code = Code(parallel=parallel)
    a = code.parameter(product.left, "float32")
    b = code.parameter(product.right, "float32")
    epilogue = Epilogue(program, code)
    y = code.parameter(product.output, program.dtype)
    rows, depth, columns = (code.size(extent) for extent in (*product.left[-2:], product.right[-1]))
    cuts = _cuts(columns, tile.vectors, cpu.lanes)

    def write_tile(image: Expr, row: Expr, height: int, column: Expr, widths: Sequence[int]) -> None:
        left = _matrix(code, product.left, product.batch, image) * (rows * depth) + row * depth
        right = _matrix(code, product.right, product.batch, image) * (depth * columns) + column
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

    with code.spread(code.size(multiplied(product.batch))) as image:
        for lines in _runs(rows, tile.rows):
            with code.spread(lines.turns) as turn:
                for panels, widths in cuts:
                    with code.loop(panels.turns) as panel:
                        write_tile(image, lines.pixel(turn), lines.rows, panels.pixel(panel), widths)
    return code.function()


def _matrix(code: Code, shape: tuple[Extent, ...], batch: tuple[Extent, ...], image: Expr) -> Expr:
    """Return which matrix of an operand belongs to matrix ``image`` of the result."""
    return Leaf.of((*shape[:-2], 1), "float32", (*batch, 1)).index(code, image, 0)


def _runs(rows: Expr, height: int) -> list[Run]:
    """Cut rows into tiles."""
    if not isinstance(rows, int):
        return open_runs(rows, height)
    whole, rest = divmod(rows, height)
    return ([Run(0, whole, height)] if whole else []) + ([Run(whole * height, 1, rest)] if rest else [])


def _cuts(columns: Expr, vectors: int, lanes: int) -> list[tuple[Run, list[int]]]:
    """Cut columns into panels; return them with the widths of the vectors of each."""
    wide = vectors * lanes
    if not isinstance(columns, int):
        sizes = sorted({wide, lanes, 4, 1}, reverse=True)
        below = [None, *sizes[:-1]]
        return [
            (open_run(columns, size, limit), [min(size, lanes)] * -(-size // lanes))
            for size, limit in zip(sizes, below, strict=True)
        ]
    whole, rest = divmod(columns, wide)
    return ([(Run(0, whole, wide), [lanes] * vectors)] if whole else []) + (
        [(Run(whole * wide, 1, rest), pieces(rest, lanes))] if rest else []
    )
