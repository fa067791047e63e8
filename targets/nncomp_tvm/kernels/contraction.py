"""Convolutions and products with constant weights, float32 and int8: one register tile, written out.

A tile is ``rows`` output pixels, side by side in one image row, times ``vectors`` vectors of output channels; its sums
stay in registers over the whole reduction. Weights are packed in panels as wide as the tile, in the order in which they
are read: (panel, kernel row, kernel column, channel, lane), for int8 four channels together: (..., channel / 4, lane,
4).

Padding costs nothing: rows of the kernel that lie outside are skipped by the bounds of a loop, columns outside by tiles
of their own at both edges of the image. A product of matrices is a 1 x 1 convolution of an image of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nncomp_tvm.kernels.cpu import DOTS, CpuTarget
from nncomp_tvm.kernels.emit import Code, Expr, constant, load, pieces, splat, vector_type
from nncomp_tvm.kernels.extents import Extent
from nncomp_tvm.kernels.packing import reduction_step
from nncomp_tvm.kernels.program import Epilogue, Program
from nncomp_tvm.kernels.tiling import Contraction, Run, Tile, kernel_rows, open_runs, runs
from nncomp_tvm.library import tirx


@dataclass(frozen=True)
class _Place:
    """Where a tile lies: group, image row (all images in a row), first pixel, and the first column of a panel."""

    group: Expr
    line: Expr
    pixel: Expr
    run: Run
    column: Expr
    wide: int  # columns of the panel, unused lanes included


class _Kernel:
    """Writes one contraction."""

    def __init__(self, shape: Contraction, program: Program, tile: Tile, cpu: CpuTarget, *, parallel: bool) -> None:
        self.shape, self.tile, self.cpu = shape, tile, cpu
        self.code = Code(parallel=parallel)
        self.step = reduction_step(shape, cpu)
        self.accumulator = "int32" if shape.integer else "float32"
        self.total_channels = shape.channels * shape.groups
        self.total_columns = shape.columns * shape.groups
        self.padded = -(-shape.columns // cpu.lanes) * cpu.lanes
        self.depth = -(-shape.channels // self.step) * self.step  # channels as packed
        self.reduction = shape.kernel[0] * shape.kernel[1] * self.depth
        self.program = program
        self.width = self.code.size(shape.output[1])
        self.even = parallel and shape.batch * shape.output[0] == 1  # share out panels and pixels together

    def write(self, input_shape: Sequence[Extent], output_shape: Sequence[Extent]) -> Any:
        shape, code = self.shape, self.code
        self.x = code.parameter(input_shape, "uint8" if shape.integer else "float32")
        self.w = code.parameter((shape.groups * self.reduction * self.padded,), "int8" if shape.integer else "float32")
        self.start = None
        if shape.integer and shape.zero_point:
            self.start = code.parameter((shape.output[0], shape.groups, shape.columns), "int32")
        self.epilogue = Epilogue(self.program, code)
        self.y = code.parameter(output_shape, self.program.dtype)
        wide = self.tile.vectors * self.cpu.lanes
        whole, rest = self._split(wide)
        with code.loop(shape.groups) as group:
            if self.tile.panels_first and self.even and whole > 1:
                self._panels_and_pixels(group, whole, wide)
                if rest:
                    self._pixels(group, whole * wide, rest)
            elif self.tile.panels_first:
                with code.spread(whole) as panel:
                    self._pixels(group, panel * wide, wide)
                if rest:
                    self._pixels(group, whole * wide, rest)
            else:
                self._pixels(group, None, 0)
        return code.function()

    def _split(self, wide: int) -> tuple[int, int]:
        """Count panels without unused lanes, and what is left for a last one."""
        whole = self.shape.columns // wide
        return whole, self.padded - whole * wide

    def _panels_and_pixels(self, group: Expr, whole: int, wide: int) -> None:
        """All pixels of one row for all whole panels in one loop: few panels would not share out evenly."""
        rows = self.tile.rows
        for run in runs(self.shape, rows) if isinstance(self.width, int) else open_runs(self.width, rows):
            with self.code.spread(run.turns * whole) as at:
                panel, turn = at // run.turns, at % run.turns
                self._tile(_Place(group, 0, run.pixel(turn), run, panel * wide, wide))

    def _pixels(self, group: Expr, column: Expr, wide: int) -> None:
        """All pixels, for one panel or, without one, for all panels at each tile."""
        shape, code = self.shape, self.code
        rows = self.tile.rows
        with code.spread(code.size(shape.batch * shape.output[0])) as line:
            for run in runs(shape, rows) if isinstance(self.width, int) else open_runs(self.width, rows):
                with code.spread(run.turns) as turn:
                    pixel = run.pixel(turn)
                    if column is not None:
                        self._tile(_Place(group, line, pixel, run, column, wide))
                        continue
                    full = self.tile.vectors * self.cpu.lanes
                    whole, rest = self._split(full)
                    if whole:
                        with self.code.loop(whole) as panel:
                            self._tile(_Place(group, line, pixel, run, panel * full, full))
                    if rest:
                        self._tile(_Place(group, line, pixel, run, whole * full, rest))

    def _tile(self, place: _Place) -> None:
        shape, code, lanes, run = self.shape, self.code, self.cpu.lanes, place.run
        height = shape.output[0]
        image, oh = (place.line // height, place.line % height) if shape.batch != 1 else (0, place.line)
        sums = [[code.local(lanes, self.accumulator) for _ in range(place.wide // lanes)] for _ in range(run.rows)]
        for line in sums:
            for total in line:
                code.store(total, 0, constant(0, self.accumulator, lanes), lanes)
        top = oh * shape.strides[0] - shape.pads[0]
        left = place.pixel * shape.strides[1] - shape.pads[1]
        first, last = kernel_rows(shape, top)
        with code.loop(last - first, first) as kh:
            start = (image * shape.height + top + kh * shape.dilations[0]) * code.size(shape.width) + left
            self._kernel_row(sums, place, start * self.total_channels + place.group * shape.channels, kh)
        self._finish(sums, place)

    def _kernel_row(self, sums: Any, place: _Place, base: Expr, kh: Expr) -> None:
        """Sum over one row of the kernel; a row without padding and gaps is one loop."""
        shape, run = self.shape, place.run
        far = shape.dilations[1] * self.total_channels
        step = self.depth * place.wide
        weights = (place.group * self.padded + place.column) * self.reduction + kh * (shape.kernel[1] * step)
        rows = [i * shape.strides[1] * self.total_channels for i in range(run.rows)]
        if all(all(tap) for tap in run.inside):
            if far == self.depth:
                self._multiply(sums, base, rows, weights, shape.kernel[1] * self.depth)
                return
            with self.code.loop(shape.kernel[1]) as kw:
                self._multiply(sums, base + kw * far, rows, weights + kw * step, self.depth)
            return
        for kw, inside in enumerate(run.inside):
            seen: list[int | None] = [at if here else None for at, here in zip(rows, inside, strict=True)]
            self._multiply(sums, base + kw * far, seen, weights + kw * step, self.depth)

    def _multiply(self, sums: Any, base: Expr, rows: Sequence[int | None], weights: Expr, depth: int) -> None:
        """sums[i][v] += x[base + rows[i] + k] w[weights + k wide + v], k < depth; a row of None is padding."""
        zero, lanes = self.shape.zero_point, self.cpu.lanes
        if not zero and all(row is None for row in rows):
            return
        wide = len(sums[0]) * lanes
        with self.code.loop(depth // self.step) as k:
            for row, line in zip(rows, sums, strict=True):
                if row is None and not zero:
                    continue
                x = self._activation(None if row is None else base + row + k * self.step)
                for v, total in enumerate(line):
                    at = weights + (k * wide + v * lanes) * self.step
                    self.code.store(total, 0, self._product(load(total, 0, lanes), x, at), lanes)

    def _activation(self, at: Expr | None) -> Expr:
        """One activation, or as many as an instruction sums, in every lane; at None, padding."""
        lanes = self.cpu.lanes
        if not self.shape.integer:
            return splat(load(self.x, at), lanes)
        if self.step == 1:
            one = tirx.const(self.shape.zero_point, "int32") if at is None else load(self.x, at).astype("int32")
            return splat(one, lanes)
        dot = DOTS[self.cpu.dot, lanes]
        if at is None:
            kind, zero = dot.operand.split("x")[0], self.shape.zero_point
            return constant(zero - 256 if kind == "int8" and zero > 127 else zero, kind, lanes * self.step)
        group = load(self.x, at, self.step)
        if self.step == 2:
            group = tirx.Cast("int16x2", group)
        return tirx.reinterpret(dot.operand, splat(tirx.reinterpret("int32", group), lanes))

    def _product(self, total: Expr, x: Expr, at: Expr) -> Expr:
        lanes = self.cpu.lanes
        w = load(self.w, at, lanes * self.step)
        if not self.shape.integer:
            return total + x * w
        if self.step == 1:
            return total + x * tirx.Cast(vector_type("int32", lanes), w)
        dot = DOTS[self.cpu.dot, lanes]
        if self.step == 4:
            return tirx.call_llvm_pure_intrin(dot.result, dot.intrinsic, total, x, w)
        return total + tirx.call_llvm_pure_intrin(dot.result, dot.intrinsic, x, tirx.Cast(dot.operand, w))

    def _finish(self, sums: Any, place: _Place) -> None:
        """Convert, run the epilogue, store: vector by vector, the last without the lanes that are none."""
        shape, code, lanes = self.shape, self.code, self.cpu.lanes
        for v in range(len(sums[0])):
            for i, line in enumerate(sums):
                row, offset = place.line * self.width + place.pixel + i, 0
                for count in self._valid(place.column, v):
                    value = load(line[v], offset, count)
                    at = place.column + v * lanes + offset
                    if self.start is not None:
                        start = (place.line % shape.output[0] * shape.groups + place.group) * shape.columns + at
                        value = value + load(self.start, start, count)
                    column = place.group * shape.columns + at
                    value = self.epilogue.apply(value, row, column, count)
                    code.store(self.y, row * self.total_columns + column, value, count)
                    offset += count

    def _valid(self, column: Expr, v: int) -> list[int]:
        """Vectors that cover the valid lanes of vector ``v`` of the panel at ``column``."""
        lanes = self.cpu.lanes
        if self.padded == self.shape.columns or not isinstance(column, int):
            return [lanes]
        return pieces(min(lanes, self.shape.columns - column - v * lanes), lanes)


def write_contraction(
    shape: Contraction,
    program: Program,
    tile: Tile,
    cpu: CpuTarget,
    *,
    input_shape: Sequence[Extent],
    output_shape: Sequence[Extent],
    parallel: bool,
) -> Any:
    """Return the PrimFunc: x, packed weights, [start values], operands of the program, y."""
    return _Kernel(shape, program, tile, cpu, parallel=parallel).write(input_shape, output_shape)
