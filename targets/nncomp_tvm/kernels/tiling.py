"""The shape of a convolution or product, and how it is cut into register tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.emit import Expr
from nncomp_tvm.kernels.extents import Extent, Open, product
from nncomp_tvm.library import tirx


@dataclass(frozen=True)
class Contraction:
    """The shape of a convolution, NHWC. ``channels`` and ``columns`` (output channels) are those of one group."""

    batch: Extent
    height: int
    width: Extent  # open only in products, which have one row
    channels: int
    columns: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    groups: int = 1
    integer: bool = False  # u8 x s8 -> s32; else float32
    zero_point: int = 0  # of the activations

    @property
    def output(self) -> tuple[int, Extent]:
        """Height and width of the output."""
        if isinstance(self.width, Open):
            return self.height, self.width
        height, width = (
            (size + before + after - dilation * (kernel - 1) - 1) // stride + 1
            for size, before, after, dilation, kernel, stride in zip(
                (self.height, self.width), self.pads[:2], self.pads[2:], self.dilations, self.kernel, self.strides,
                strict=True,
            )
        )  # fmt: skip
        return height, width

    @property
    def macs(self) -> int:
        """Multiplications, those with padding included; 0 where sizes are open."""
        pixels = product((self.batch, *self.output))
        kernel = self.kernel[0] * self.kernel[1]
        return pixels * kernel * self.channels * self.columns * self.groups if isinstance(pixels, int) else 0

    def flattened(self) -> Contraction:
        """Return a 1 x 1 convolution as one long row of pixels where that is the same, or one row for each image."""
        plain = self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads)
        if not plain:
            return self
        batch, width = (1, self.batch) if isinstance(self.batch, int) else (self.batch, 1)
        return Contraction(
            batch, 1, width * self.height * self.width, self.channels, self.columns, groups=self.groups,
            integer=self.integer, zero_point=self.zero_point,
        )  # fmt: skip


@dataclass(frozen=True)
class Tile:
    """How a contraction is cut.

    Attributes:
        rows: Pixels of a tile.
        vectors: Vectors of output channels of a tile.
        panels_first: Do all pixels for a panel of weights before the next panel; else all panels for a tile of pixels.
    """

    rows: int
    vectors: int
    panels_first: bool = False


@dataclass(frozen=True)
class Run:
    """A part of an output row: ``turns`` tiles of ``rows`` pixels, from pixel ``start`` on.

    ``inside[kw][i]`` says whether column ``kw`` of the kernel lies inside the image at pixel ``i`` of a tile. In a row
    of open width no tile begins behind ``last``: the last one computes pixels again that the one before it had.
    """

    start: int
    turns: Expr
    rows: int
    inside: tuple[tuple[bool, ...], ...] = ((True,),)
    last: Expr = None

    def pixel(self, turn: Expr) -> Expr:
        """Return the first pixel of a tile."""
        first = self.start + turn * self.rows
        return first if self.last is None else tirx.min(first, self.last)


def open_runs(width: Expr, rows: int) -> list[Run]:
    """Cut a row of open width: into tiles of ``rows``, or where it is too narrow into single pixels."""
    return [open_run(width, rows)] + ([open_run(width, 1, below=rows)] if rows > 1 else [])


def open_run(width: Expr, size: int, below: int | None = None) -> Run:
    """Return the tiles of ``size`` of a row that is at least as wide, but narrower than ``below``, or else none."""
    fits = width >= size if below is None else tirx.all(width >= size, width < below)
    turns = tirx.Select(fits, (width + (size - 1)) // size, tirx.const(0, "int64"))
    return Run(0, turns, size, ((True,) * size,), width - size if size > 1 else None)


def runs(shape: Contraction, rows: int) -> Iterator[Run]:
    """Cut an output row into runs of tiles that see the same padding."""
    width = shape.output[1]
    assert isinstance(width, int)
    assert isinstance(shape.width, int)
    limit = shape.width

    def inside(start: int, count: int) -> tuple[tuple[bool, ...], ...]:
        first = np.arange(start, start + count) * shape.strides[1] - shape.pads[1]
        taps = first[None, :] + np.arange(shape.kernel[1])[:, None] * shape.dilations[1]
        return tuple(tuple(bool(x) for x in tap) for tap in (taps >= 0) & (taps < limit))

    tiles = [(start, min(rows, width - start)) for start in range(0, width, rows)]
    if all(all(tap) for tap in inside(0, width)):
        whole = width // rows
        everything = ((True,) * rows,) * shape.kernel[1]
        yield from [Run(0, whole, rows, everything)] if whole else []
        yield from [Run(whole * rows, 1, width % rows, inside(whole * rows, width % rows))] if width % rows else []
        return
    for mask, group in groupby(tiles, lambda tile: inside(*tile)):
        members = list(group)
        yield Run(members[0][0], len(members), members[0][1], mask)


def kernel_rows(shape: Contraction, top: Expr) -> tuple[Expr, Expr]:
    """Return which rows of a kernel at image row ``top`` lie inside, from the first to before the last."""
    if shape.pads[0] == 0 and shape.pads[2] == 0:
        return 0, shape.kernel[0]
    step = shape.dilations[0]
    if isinstance(top, int):
        return max(0, -(top // step)), min(shape.kernel[0], -((top - shape.height) // step))
    return (
        tirx.max(0, (step - 1 - top) // step),
        tirx.min(shape.kernel[0], (shape.height + step - 1 - top) // step),
    )


def candidates(shape: Contraction, cpu: CpuTarget) -> list[Tile]:
    """Return the tiles that fit the registers, the one that looks fastest first.

    A tile needs rows x vectors sums, its vectors of weights, and one or two registers for activations. What it costs is
    estimated as instructions of the inner loop a multiplication, tails and unused lanes included.
    """
    spare = 2 if shape.integer else 1
    wide = shape.columns * 4
    panels_first = shape.flattened().height == 1 and (isinstance(shape.width, Open) or wide > shape.width)
    width = shape.output[1]
    most = width if isinstance(width, int) else cpu.registers
    options = [
        (_cost(shape, rows, vectors, cpu.lanes), Tile(rows, vectors, panels_first))
        for vectors in range(1, 9)
        for rows in range(1, min((cpu.registers - spare - vectors) // vectors, most) + 1)
    ]
    return [tile for _, tile in sorted(options, key=lambda option: option[0])]


def _cost(shape: Contraction, rows: int, vectors: int, lanes: int) -> float:
    """Cycles for one row of pixels and one step of the reduction: two products each, eight in flight, and its loads.

    Two loads a cycle would hide behind the products. Measured, with operands that come from the second-level cache,
    they show as if they did not: tiles near a square are the fastest.
    """

    def tile(pixels: int, wide: int) -> float:
        return max(pixels * wide / 2, 4.0) + pixels / 2 + wide * 2 / 3 + 0.5

    width = shape.output[1]
    total = -(-shape.columns // lanes)
    columns = [vectors] * (total // vectors) + ([total % vectors] if total % vectors else [])
    if isinstance(width, Open):
        return sum(tile(p, v) * n * m / w for w in _LIKELY for p, n in _open(w, rows) for v, m in _counted(columns))
    pixels = [rows] * (width // rows) + ([width % rows] if width % rows else [])
    return sum(tile(p, v) * n * m for p, n in _counted(pixels) for v, m in _counted(columns))


_LIKELY: Final = (1, 8, 32, 128, 512)
"""Widths that an open one is thought to have, as often as each other."""


def _open(width: int, rows: int) -> list[tuple[int, int]]:
    """Return pixels and number of the tiles that :func:`open_runs` makes of a width."""
    return [(rows, -(-width // rows))] if width >= rows else [(1, width)]


def _counted(values: list[int]) -> list[tuple[int, int]]:
    return [(value, len(list(group))) for value, group in groupby(values)]
