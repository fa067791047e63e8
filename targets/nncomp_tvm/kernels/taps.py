"""Depthwise convolutions of bytes by vpdpbusd: four rows of the kernel are one product.

The bytes of up to four rows of the image are interleaved: a lane holds x[row, column, channel] of all four. One
instruction multiplies it by four weights of its channel, and a column that is interleaved serves all pixels of a tile
that see it. Of a row that lies outside, one inside is read and multiplied by zero: weights are packed once for each way
in which the rows of a kernel can lie in the image, three for a kernel of 3 x 3 with padding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.cpu import DOTS, ByteDot, CpuTarget
from nncomp_tvm.kernels.emit import Code, Expr, constant, load
from nncomp_tvm.kernels.extents import Extent
from nncomp_tvm.kernels.packing import start_values
from nncomp_tvm.kernels.program import Epilogue, Program
from nncomp_tvm.kernels.tiling import Contraction, Run, Tile, runs
from nncomp_tvm.kernels.window import Fold, Window
from nncomp_tvm.library import tirx

_GROUP: Final = 4  # rows in a product
_LONGEST: Final = 16  # columns of a kernel, which are written out


def takes_taps(work: Window, cpu: CpuTarget) -> bool:
    """Whether this kernel is for a window: weighted bytes, at least half a vector of channels, and the instruction."""
    if cpu.dot is not ByteDot.VNNI or work.fold is not Fold.WEIGHTED or work.dtype != "uint8":
        return False
    fits = work.shape.groups >= cpu.lanes // 2 and work.shape.kernel[1] <= _LONGEST
    return fits and (cpu.dot, _lanes(work.shape, cpu)) in DOTS


def _lanes(shape: Contraction, cpu: CpuTarget) -> int:
    return cpu.lanes if shape.groups >= cpu.lanes else cpu.lanes // 2


def taps_candidates(shape: Contraction, cpu: CpuTarget) -> list[Tile]:
    """Return tiles, the one that looks fastest first: sums and the weights of a row of the kernel fit the registers."""
    width, taps = shape.output[1], shape.kernel[1]
    assert isinstance(width, int)
    groups = -(-shape.kernel[0] // _GROUP)

    def cost(rows: int) -> float:
        columns = (rows - 1) * shape.strides[1] + (taps - 1) * shape.dilations[1] + 1
        return -(-width // rows) * (groups * (min(columns, rows * taps) * 1.5 + rows * taps / 2) + rows * 3 + 4)

    most = max(1, min(width, cpu.registers - 4 - taps))
    return [Tile(rows, 1) for rows in sorted(range(1, most + 1), key=lambda rows: (cost(rows), -rows))]


class _Lines:
    """In which ways the rows of a kernel lie in the image: the first lines see padding above, the last ones below."""

    def __init__(self, shape: Contraction) -> None:
        self._count = count = shape.output[0]
        top = np.arange(count) * shape.strides[0] - shape.pads[0]
        rows = top[:, None] + np.arange(shape.kernel[0]) * shape.dilations[0]
        self._above, self._below = int((rows[:, 0] < 0).sum()), int((rows[:, -1] >= shape.height).sum())
        self.alike = self._above + self._below < count  # some line sees no padding, and stands for all such lines
        last = range(count - self._below, count)
        self.examples = np.array([*range(self._above + 1), *last] if self.alike else range(count))
        self.inside = ((rows >= 0) & (rows < shape.height))[self.examples]  # (ways, rows of the kernel)

    def way(self, line: Expr) -> Expr:
        """Return which way it is at an output line."""
        if not self.alike or isinstance(line, int):
            return line
        return tirx.min(line, self._above) + tirx.max(line - (self._count - self._below - 1), 0)


def pack_taps(
    shape: Contraction, cpu: CpuTarget, weights: NDArray[np.int8]
) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """(channels, kernel rows, kernel columns) -> flat weights, and what sums start from.

    Returns:
        Flat (ways, blocks of channels, groups of rows, kernel columns, lanes, rows), the last block being the last
        lanes; (ways, channels).
    """
    lanes, lines = _lanes(shape, cpu), _Lines(shape)
    channels, height, width = weights.shape
    groups = -(-height // _GROUP)
    grown = np.zeros((len(lines.examples), channels, groups * _GROUP, width), np.int8)
    grown[:, :, :height] = weights * lines.inside[:, None, :, None]
    first = np.minimum(np.arange(0, channels, lanes), channels - lanes)
    blocks = grown[:, first[:, None] + np.arange(lanes)].reshape(-1, len(first), lanes, groups, _GROUP, width)
    packed = np.ascontiguousarray(blocks.transpose(0, 1, 3, 5, 2, 4)).reshape(-1)
    starts = start_values(shape, weights[..., None, None])[lines.examples, :, 0]
    return packed, np.ascontiguousarray(starts)


class _TapsKernel:
    def __init__(self, shape: Contraction, program: Program, tile: Tile, cpu: CpuTarget, *, parallel: bool) -> None:
        self.shape, self.program, self.tile = shape, program, tile
        self.code = Code(parallel=parallel)
        self.lanes, self.channels = _lanes(shape, cpu), shape.groups
        self.dot, self.lines = DOTS[cpu.dot, self.lanes], _Lines(shape)
        self.groups = -(-shape.kernel[0] // _GROUP)
        self.blocks = -(-self.channels // self.lanes)

    def write(self, input_shape: Sequence[Extent], output_shape: Sequence[Extent]) -> Any:
        shape, code, ways = self.shape, self.code, len(self.lines.examples)
        self.x = code.parameter(input_shape, "uint8")
        self.block = self.groups * shape.kernel[1] * self.lanes * _GROUP
        self.w = code.parameter((ways * self.blocks * self.block,), "int8")
        self.start = code.parameter((ways, self.channels), "int32") if shape.zero_point else None
        self.epilogue = Epilogue(self.program, code)
        self.y = code.parameter(output_shape, self.program.dtype)
        whole = self.channels // self.lanes
        with code.spread(code.size(shape.batch * shape.output[0])) as line:
            for run in runs(replace(shape, groups=1), self.tile.rows):
                with code.spread(run.turns) as turn:
                    pixel = run.pixel(turn)
                    with code.loop(whole) as block:
                        self._tile(line, pixel, run, block, block * self.lanes)
                    if whole < self.blocks:  # once more for some of the channels
                        self._tile(line, pixel, run, whole, self.channels - self.lanes)
        return code.function()

    def _tile(self, line: Expr, pixel: Expr, run: Run, block: Expr, channel: Expr) -> None:
        shape, code, lanes = self.shape, self.code, self.lanes
        height = shape.output[0]
        image, oh = (line // height, line % height) if shape.batch != 1 else (0, line)
        way = self.lines.way(oh)
        sums = [code.local(lanes, "int32") for _ in range(run.rows)]
        for total in sums:
            zero = constant(0, "int32", lanes)
            begin = zero if self.start is None else load(self.start, way * self.channels + channel, lanes)
            code.store(total, 0, begin, lanes)
        top = oh * shape.strides[0] - shape.pads[0]
        left = pixel * shape.strides[1] - shape.pads[1]
        with code.loop(self.groups) as group:
            rows = []
            for tap in range(min(_GROUP, shape.kernel[0])):
                row = top + tirx.min(group * _GROUP + tap, shape.kernel[0] - 1) * shape.dilations[0]
                inside = tirx.max(tirx.min(row, shape.height - 1), 0)
                rows.append(((image * shape.height + inside) * shape.width + left) * self.channels + channel)
            taps = ((way * self.blocks + block) * self.groups + group) * (self.block // self.groups)
            self._columns(sums, rows, taps, run)
        for i, total in enumerate(sums):
            row = line * shape.output[1] + pixel + i
            value = self.epilogue.apply(load(total, 0, lanes), row, channel, lanes)
            code.store(self.y, row * self.channels + channel, value, lanes)

    def _columns(self, sums: Sequence[Any], rows: Sequence[Expr], taps: Expr, run: Run) -> None:
        """Interleave each column that the tile sees, and multiply it for each pixel that sees it."""
        code, width = self.code, self.lanes * _GROUP
        weights = [
            code.let(load(self.w, taps + kw * width, width), "int8", width) for kw in range(self.shape.kernel[1])
        ]
        readers: dict[int, list[tuple[int, int]]] = defaultdict(list)
        outside: list[tuple[int, int]] = []
        for kw, inside in enumerate(run.inside):
            for i, here in enumerate(inside):
                at = i * self.shape.strides[1] + kw * self.shape.dilations[1]
                (readers[at] if here else outside).append((i, kw))
        if zero := self.shape.zero_point:
            padding = constant(zero - 256 if zero > 127 else zero, "int8", width)
            self._multiply(sums, padding, weights, outside)
        for at in sorted(readers):
            x = code.let(self._interleaved([row + at * self.channels for row in rows]), "int8", width)
            self._multiply(sums, x, weights, readers[at])

    def _interleaved(self, places: Sequence[Expr]) -> Expr:
        """Return bytes of up to four rows side by side, channel by channel; a fourth that is missing is the first."""
        taken = [tap if tap < len(places) else 0 for tap in range(_GROUP)]
        vectors = [load(self.x, place, self.lanes) for place in places]
        order = [lane + self.lanes * tap for lane in range(self.lanes) for tap in taken]
        vectors += vectors[:1] * (_GROUP - len(vectors))
        mixed = tirx.Shuffle(vectors, [tirx.const(index, "int32") for index in order])
        return tirx.reinterpret(self.dot.operand, mixed)

    def _multiply(
        self, sums: Sequence[Any], x: Expr, weights: Sequence[Expr], readers: Sequence[tuple[int, int]]
    ) -> None:
        for i, kw in readers:
            old = load(sums[i], 0, self.lanes)
            new = tirx.call_llvm_pure_intrin(self.dot.result, self.dot.intrinsic, old, x, weights[kw])
            self.code.store(sums[i], 0, new, self.lanes)


def write_taps(
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
    return _TapsKernel(shape, program, tile, cpu, parallel=parallel).write(input_shape, output_shape)
