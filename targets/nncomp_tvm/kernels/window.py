"""Windows that slide over each channel on its own: depthwise convolutions and pooling, NHWC.

A vector holds neighbouring channels; a tile is a few output pixels side by side, so that an input vector is loaded once
for all pixels that see it. int8 activations are turned into float32 when they are loaded: a depthwise sum has at most a
few hundred terms below 2^15, so float32 holds it exactly, and is faster than 32-bit integer products. (Where a CPU has
vpdpbusd, ``taps`` is faster still.)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.emit import Code, Expr, constant, load, pieces, vector_type
from nncomp_tvm.kernels.extents import Extent
from nncomp_tvm.kernels.program import Epilogue, Program
from nncomp_tvm.kernels.tiling import Contraction, Run, Tile, kernel_rows, runs
from nncomp_tvm.library import tirx

_UNROLLED: Final = 16  # columns of a kernel that are written out


class Fold(StrEnum):
    """What is made of a window."""

    WEIGHTED = "weighted"  # sum of products with weights, one a channel
    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True)
class Window:
    """The shape of a windowed operation; ``shape.groups`` is the number of channels, one column each."""

    shape: Contraction
    fold: Fold
    dtype: str = "float32"  # of the input


def window_candidates(window: Window, cpu: CpuTarget) -> list[Tile]:
    """Return tiles, the one that looks fastest first: sums, and the weights of a row, should fit the registers."""
    width = window.shape.output[1]
    assert isinstance(width, int)
    taps = window.shape.kernel[1] if window.fold is Fold.WEIGHTED else 0
    options = []
    for rows in range(1, min(width, cpu.registers - 2) + 1):
        spill = max(0, rows + taps + 2 - cpu.registers)
        seen = (rows - 1) * window.shape.strides[1] + window.shape.kernel[1]
        turns = -(-width // rows)
        work = turns * (max(seen / 2, rows * window.shape.kernel[1] / 2) + 2 + spill * 2)
        options.append((work, rows))
    return [Tile(rows, 1) for _, rows in sorted(options)]


class _WindowKernel:
    def __init__(self, window: Window, program: Program, tile: Tile, cpu: CpuTarget, *, parallel: bool) -> None:
        self.window, self.tile, self.cpu, self.program = window, tile, cpu, program
        self.code = Code(parallel=parallel)
        self.channels = window.shape.groups

    def write(self, input_shape: Sequence[Extent], output_shape: Sequence[Extent]) -> Any:
        shape, code = self.window.shape, self.code
        self.x = code.parameter(input_shape, self.window.dtype)
        if self.window.fold is Fold.WEIGHTED:
            self.w = code.parameter((shape.kernel[0] * shape.kernel[1] * self.channels,), "float32")
        self.epilogue = Epilogue(self.program, code)
        self.y = code.parameter(output_shape, self.program.dtype)
        whole = self.channels // self.cpu.lanes
        with code.spread(code.size(shape.batch * shape.output[0])) as line:
            for run in runs(replace(shape, groups=1), self.tile.rows):
                with code.spread(run.turns) as turn:
                    pixel = run.pixel(turn)
                    if whole:
                        with code.loop(whole) as block:
                            self._tile(line, pixel, run, block * self.cpu.lanes, self.cpu.lanes)
                    channel = whole * self.cpu.lanes
                    for lanes in pieces(self.channels - channel, self.cpu.lanes):
                        self._tile(line, pixel, run, channel, lanes)
                        channel += lanes
        return code.function()

    def _tile(self, line: Expr, pixel: Expr, run: Run, channel: Expr, lanes: int) -> None:
        shape, code = self.window.shape, self.code
        height = shape.output[0]
        image, oh = (line // height, line % height) if shape.batch != 1 else (0, line)
        first = -3.402823466e38 if self.window.fold is Fold.MAX else 0.0
        sums = [code.local(lanes, "float32") for _ in range(run.rows)]
        for total in sums:
            code.store(total, 0, constant(first, "float32", lanes), lanes)
        top = oh * shape.strides[0] - shape.pads[0]
        start, end = kernel_rows(shape, top)
        with code.loop(end - start, start) as kh:
            begin = (image * shape.height + top + kh * shape.dilations[0]) * shape.width
            base = (begin + pixel * shape.strides[1] - shape.pads[1]) * self.channels + channel
            weights = kh * (shape.kernel[1] * self.channels) + channel
            self._row(sums, base, weights, run, lanes)
        for i, total in enumerate(sums):
            row = line * shape.output[1] + pixel + i
            value = self.epilogue.apply(load(total, 0, lanes), row, channel, lanes)
            code.store(self.y, row * self.channels + channel, value, lanes)

    def _row(self, sums: Sequence[Any], base: Expr, weights: Expr, run: Run, lanes: int) -> None:
        shape = self.window.shape
        if shape.kernel[1] > _UNROLLED and all(all(tap) for tap in run.inside):
            with self.code.loop(shape.kernel[1]) as kw:
                for i, total in enumerate(sums):
                    x = self._read(base + (i * shape.strides[1] + kw * shape.dilations[1]) * self.channels, lanes)
                    self._fold(total, x, weights + kw * self.channels, lanes)
            return
        readers: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for kw, inside in enumerate(run.inside):
            for i in range(len(sums)):
                if inside[i]:
                    readers[i * shape.strides[1] + kw * shape.dilations[1]].append((i, kw))
        for at in sorted(readers):  # one input vector after the other, for few of them fit the registers
            x = self._read(base + at * self.channels, lanes)
            for i, kw in readers[at]:
                self._fold(sums[i], x, weights + kw * self.channels, lanes)

    def _fold(self, total: Any, x: Expr, weight: Expr, lanes: int) -> None:
        old = load(total, 0, lanes)
        if self.window.fold is Fold.MAX:
            new = tirx.max(old, x)
        else:
            new = old + (x * load(self.w, weight, lanes) if self.window.fold is Fold.WEIGHTED else x)
        self.code.store(total, 0, new, lanes)

    def _read(self, at: Expr, lanes: int) -> Expr:
        x = load(self.x, at, lanes)
        if self.window.dtype == "float32":
            return self.code.let(x, "float32", lanes)
        x = tirx.Cast(vector_type("float32", lanes), tirx.Cast(vector_type("int32", lanes), x))
        if self.window.shape.zero_point and self.window.fold is not Fold.MAX:
            x = x - constant(self.window.shape.zero_point, "float32", lanes)
        return self.code.let(x, "float32", lanes)


def write_window(
    window: Window,
    program: Program,
    tile: Tile,
    cpu: CpuTarget,
    *,
    input_shape: Sequence[Extent],
    output_shape: Sequence[Extent],
    parallel: bool,
) -> Any:
    """Return the PrimFunc: x, [packed weights], operands of the program, y."""
    return _WindowKernel(window, program, tile, cpu, parallel=parallel).write(input_shape, output_shape)
