"""Convolutions and products with constant weights, int8 and float32: an implicit product of matrices, tile by tile.

A block of threads computes a tile of pixels x output channels. For each few words of the reduction (kernel row, kernel
column, channels; a word is four bytes, or one float) it brings what the pixels see, and the packed weights, to shared
memory, and each thread multiplies a small tile from there, four bytes an instruction (``dp4a``). What comes next is
read while this is multiplied. Padding, and channels that fill up a word, are values like others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from nncomp_tvm.kernels.emit import Buffer, Expr, constant, load, splat, vector_type
from nncomp_tvm.kernels.extents import Extent, product
from nncomp_tvm.kernels.gpu.emit import WORD, GridCode, below, every, parts
from nncomp_tvm.kernels.gpu.tiling import GpuTile, reduction, words
from nncomp_tvm.kernels.program import Epilogue, Program
from nncomp_tvm.kernels.tiling import Contraction
from nncomp_tvm.library import tirx

_WIDEST: Final = 4  # words of an access

_SIGNS: Final = -0x7F7F7F80  # 0x80808080: u8 codes x become s8 codes x - 128


@dataclass(frozen=True)
class _Pixel:
    """Which part of the input a thread brings: ``words`` of it, from word ``word`` of a step, as pixel ``row`` sees it.

    ``base`` is the first element of its image; ``top`` and ``left`` are where the kernel begins.
    """

    taken: Expr  # whether it brings any
    row: Expr
    word: Expr
    base: Expr
    top: Expr
    left: Expr


@dataclass(frozen=True)
class _Place:
    """Where a thread is: the first pixel of its block, the panel of columns, the group, and its place in the tile."""

    first: Expr
    panel: Expr
    group: Expr
    down: Expr
    across: Expr


class _Kernel:
    """Writes one contraction."""

    def __init__(self, shape: Contraction, program: Program, tile: GpuTile, input_type: str) -> None:
        self.shape, self.program, self.tile = shape, program, tile
        self.code = GridCode()
        self.kind = "int32" if shape.integer else "float32"
        self.input_type = input_type
        self.step = WORD if shape.integer else 1
        self.words, self.depth = words(shape), reduction(shape)
        self.steps = parts(self.depth, tile.depth)
        self.pixels = self.code.number(product((shape.batch, *shape.output)))
        self.width = self.code.number(shape.width)
        self.channels = shape.channels * shape.groups
        self.whole = shape.channels % self.step == 0
        self.access = next(n for n in (_WIDEST, 2, 1) if self.words % n == 0) if self.whole else 1
        self.pitch = tile.rows + _WIDEST  # a row of shared memory; so that columns of it lie in different banks

    def write(
        self, input_shape: Sequence[Extent], output_shape: Sequence[Extent], zero_shape: Sequence[Extent] | None
    ) -> Any:
        """Return the PrimFunc."""
        shape, code, tile = self.shape, self.code, self.tile
        self.x = code.parameter(input_shape, self.input_type)
        panels = parts(shape.columns, tile.columns)
        packed = shape.groups * panels * self.steps * tile.depth * tile.columns
        self.w = code.parameter((packed,), self.kind)
        self.start = code.parameter((shape.groups, shape.columns), "int32") if shape.integer else None
        self.zero = None if zero_shape is None else code.parameter(zero_shape, "uint8")
        self.epilogue = Epilogue(self.program, code)
        self.y = code.parameter(output_shape, self.program.dtype)
        self.source = code.words(self.x) if shape.integer and self.whole else self.x
        with (
            code.launch(parts(self.pixels, tile.rows), "blockIdx.x") as block,
            code.launch(panels, "blockIdx.y") as panel,
            code.launch(shape.groups, "blockIdx.z") as group,
            code.launch(tile.threads, "threadIdx.x") as thread,
        ):
            across = tile.columns // tile.wide
            self._block(_Place(block * tile.rows, panel, group, thread // across, thread % across), thread)
        return code.function()

    def _block(self, place: _Place, thread: Expr) -> None:
        code, tile = self.code, self.tile
        sums = code.registers(tile.high * tile.wide, self.kind)
        a = code.shared(tile.depth * self.pitch, self.kind)
        b = code.shared(tile.depth * tile.columns, self.kind)
        loads = self._loads(place.first, thread)
        pieces = tile.depth * tile.columns // _WIDEST
        turns = parts(pieces, tile.threads)
        next_a = code.registers(len(loads) * self.access, self.kind)
        next_b = code.registers(turns * _WIDEST, self.kind)
        panel = place.group * parts(self.shape.columns, tile.columns) + place.panel
        weights = panel * (self.steps * tile.depth * tile.columns)
        with code.unrolled(tile.high * tile.wide) as i:
            code.store(sums, i, constant(0, self.kind))

        def fetch(step: Expr) -> None:
            for number, pixel in enumerate(loads):
                code.store(next_a, number * self.access, self._seen(pixel, step, place.group), self.access)
            for turn in range(turns):
                at, inside = self._spread(turn, thread, pieces)
                if inside is not True:  # what is written under a condition would not be kept in registers
                    at = tirx.min(at, pieces - 1)
                begin = weights + step * (tile.depth * tile.columns) + at * _WIDEST
                code.store(next_b, turn * _WIDEST, load(self.w, begin, _WIDEST), _WIDEST)

        fetch(0)
        with code.loop(self.steps) as step:
            for number, pixel in enumerate(loads):
                with code.when(pixel.taken):
                    for i in range(self.access):
                        at = (pixel.word + i) * self.pitch + (pixel.row - place.first)
                        code.store(a, at, load(next_a, number * self.access + i))
            for turn in range(turns):
                at, inside = self._spread(turn, thread, pieces)
                with code.when(inside):
                    code.store(b, at * _WIDEST, load(next_b, turn * _WIDEST, _WIDEST), _WIDEST)
            if self.steps > 1:
                with code.when(step < self.steps - 1):
                    fetch(step + 1)
            self._multiply(sums, a, b, place)
        self._finish(sums, place)

    def _spread(self, turn: int, thread: Expr, total: int) -> tuple[Expr, Expr]:
        """Return which of ``total`` accesses is a thread's in a turn, and whether there is one."""
        at = turn * self.tile.threads + thread
        return at, True if (turn + 1) * self.tile.threads <= total else at < total

    def _loads(self, first: Expr, thread: Expr) -> list[_Pixel]:
        """Return what a thread brings in a step."""
        shape, tile, code = self.shape, self.tile, self.code
        pieces = tile.depth // self.access
        found = []
        for turn in range(parts(tile.rows * pieces, tile.threads)):
            at, taken = self._spread(turn, thread, tile.rows * pieces)
            row = code.let(first + at // pieces, "int32")
            image, line, pixel = self._place_of(row)
            top = line * shape.strides[0] - shape.pads[0]
            left = pixel * shape.strides[1] - shape.pads[1]
            base = image * (shape.height * self.width)
            word = code.let(at % pieces * self.access, "int32")
            places = [code.let(place, "int32") if not isinstance(place, int) else place for place in (base, top, left)]
            found.append(_Pixel(taken, row, word, *places))
        return found

    def _place_of(self, row: Expr) -> tuple[Expr, Expr, Expr]:
        """Return image, line and column of a pixel."""
        shape = self.shape
        if shape.batch == 1 and shape.output[0] == 1:
            return 0, 0, row
        height, width = shape.output[0], self.code.number(shape.output[1])
        return row // (height * width), row // width % height, row % width

    def _seen(self, pixel: _Pixel, step: Expr, group: Expr) -> Expr:
        """Return words of the reduction as a pixel sees them."""
        shape, tile = self.shape, self.tile
        word = step * tile.depth + pixel.word
        tap, channel = (0, word) if shape.kernel == (1, 1) else (word // self.words, word % self.words)
        line = pixel.top + tap // shape.kernel[1] * shape.dilations[0]
        column = pixel.left + tap % shape.kernel[1] * shape.dilations[1]
        padded = any(shape.pads)
        inside = every(
            pixel.taken,
            below(pixel.row, self.pixels, tile.rows),
            below(word, self.depth, tile.depth),
            tirx.all(line >= 0, line < shape.height, column >= 0, column < self.width) if padded else True,
        )
        at = (pixel.base + line * self.width + column) * self.channels + group * shape.channels + channel * self.step
        value = self._read(at, channel * self.step)
        if inside is True:
            return value
        return tirx.if_then_else(inside, value, splat(self._padding(), self.access))

    def _padding(self) -> Expr:
        """Return a word of what stands for zero."""
        if not self.shape.integer:
            return tirx.const(0, self.kind)
        if self.zero is not None:
            zero = load(self.zero, 0).astype("int32")
            return _from_bytes([zero] * WORD)
        four = self.shape.zero_point * 0x01010101 ^ 0x80808080
        return tirx.const(four - (four >> 31 << 32), "int32")

    def _read(self, at: Expr, channel: Expr) -> Expr:
        """Return words from element ``at`` on; bytes as signed ones."""
        shape = self.shape
        if not shape.integer:
            value = load(self.source, at, self.access)
            return value if self.input_type == "float32" else tirx.Cast(vector_type("float32", self.access), value)
        if self.whole:
            return load(self.source, at // WORD, self.access) ^ constant(_SIGNS, "int32", self.access)
        found = []
        for byte in range(min(WORD, shape.channels)):
            value = load(self.source, at + byte).astype("int32")
            if byte >= shape.channels % WORD and shape.channels > WORD:
                value = tirx.if_then_else(channel + byte < shape.channels, value, tirx.const(0, "int32"))
            found.append(value)
        return _from_bytes(found)

    def _multiply(self, sums: Buffer, a: Buffer, b: Buffer, place: _Place) -> None:
        code, tile = self.code, self.tile
        left = code.registers(tile.high, self.kind)
        right = code.registers(tile.wide, self.kind)
        with code.unrolled(tile.depth) as k:
            for buffer, mine, shared, pitch, at, rows in (
                (left, tile.high, a, self.pitch, place.down, tile.rows),
                (right, tile.wide, b, tile.columns, place.across, tile.columns),
            ):
                piece = min(mine, _WIDEST)
                for start in range(0, mine, piece):
                    begin = k * pitch + start // piece * (rows * piece // mine) + at * piece
                    code.store(buffer, start, load(shared, begin, piece), piece)
            with code.unrolled(tile.high) as i, code.unrolled(tile.wide) as j:
                at = i * tile.wide + j
                code.store(sums, at, self._product(load(sums, at), load(left, i), load(right, j)))

    def _product(self, total: Expr, x: Expr, w: Expr) -> Expr:
        return tirx.call_pure_extern("int32", "__dp4a", x, w, total) if self.shape.integer else total + x * w

    def _finish(self, sums: Buffer, place: _Place) -> None:
        """Add the start, run the epilogue, store: four columns at a time, where they lie side by side."""
        shape, code, tile = self.shape, self.code, self.tile
        high, wide = min(tile.high, _WIDEST), min(tile.wide, _WIDEST)
        lanes = wide if wide == _WIDEST and shape.columns % _WIDEST == 0 else 1
        with code.unrolled(tile.high) as i:
            under = i // high * (tile.rows * high // tile.high) + place.down * high + i % high
            row = code.let(place.first + under, "int32")
            with (
                code.when(below(row, self.pixels, tile.rows)),
                code.unrolled(tile.wide // lanes) as v,
            ):
                j = v * lanes
                beside = j // wide * (tile.columns * wide // tile.wide) + place.across * wide + j % wide
                column = code.let(place.panel * tile.columns + beside, "int32")
                with code.when(below(column, shape.columns, tile.columns)):
                    value = load(sums, i * tile.wide + j, lanes)
                    at = place.group * shape.columns + column
                    if self.start is not None:
                        value = value + load(self.start, at, lanes)
                    value = self.epilogue.apply(value, row, at, lanes)
                    code.store(self.y, row * (shape.columns * shape.groups) + at, value, lanes)


def _from_bytes(codes: Sequence[Expr]) -> Expr:
    """Return a word of unsigned codes as signed ones."""
    total: Expr = tirx.const(_SIGNS, "int32")
    for place, code in enumerate(codes):
        total = total ^ (code << tirx.const(8 * place, "int32"))
    return total


def write_contraction(
    shape: Contraction,
    program: Program,
    tile: GpuTile,
    *,
    input_shape: Sequence[Extent],
    output_shape: Sequence[Extent],
    input_type: str = "float32",
    zero_shape: Sequence[Extent] | None = None,
) -> Any:
    """Return the PrimFunc: x, packed weights, [start values], [zero point], operands of the program, y.

    Args:
        input_type: That of ``x`` where it is no bytes; 16-bit floats are widened.
        zero_shape: That of the zero point of ``x``, where it is computed, and padding needs it.
    """
    kernel = _Kernel(shape, program, tile, "uint8" if shape.integer else input_type)
    return kernel.write(input_shape, output_shape, zero_shape)
