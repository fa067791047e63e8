"""The shape of a convolution or product, and how it is cut into register tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.emit import Expr
from nncomp_tvm.library import tirx


@dataclass(frozen=True)
class Contraction:
    """The shape of a convolution, NHWC. ``channels`` and ``columns`` (output channels) are those of one group."""

    batch: int
    height: int
    width: int
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
    def output(self) -> tuple[int, int]:
        """Height and width of the output."""
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
        """Multiplications, those with padding included."""
        height, width = self.output
        kernel = self.kernel[0] * self.kernel[1]
        return self.batch * height * width * kernel * self.channels * self.columns * self.groups

    def flattened(self) -> Contraction:
        """Return a 1 x 1 convolution as one long row of pixels, where that is the same."""
        plain = self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads)
        if not plain:
            return self
        return Contraction(
            1, 1, self.batch * self.height * self.width, self.channels, self.columns, groups=self.groups,
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

    ``inside[kw][i]`` says whether column ``kw`` of the kernel lies inside the image at pixel ``i`` of a tile.
    """

    start: int
    turns: int
    rows: int
    inside: tuple[tuple[bool, ...], ...]


def runs(shape: Contraction, rows: int) -> Iterator[Run]:
    """Cut an output row into runs of tiles that see the same padding."""
    width = shape.output[1]

    def inside(start: int, count: int) -> tuple[tuple[bool, ...], ...]:
        first = np.arange(start, start + count) * shape.strides[1] - shape.pads[1]
        taps = first[None, :] + np.arange(shape.kernel[1])[:, None] * shape.dilations[1]
        return tuple(tuple(bool(x) for x in tap) for tap in (taps >= 0) & (taps < shape.width))

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
    panels_first = shape.flattened().height == 1 and shape.columns * shape.channels * 4 > shape.width * shape.channels
    width = shape.output[1]
    options = [
        (_cost(shape, rows, vectors, cpu.lanes), Tile(rows, vectors, panels_first))
        for vectors in range(1, 9)
        for rows in range(1, min((cpu.registers - spare - vectors) // vectors, width) + 1)
    ]
    return [tile for _, tile in sorted(options, key=lambda option: option[0])]


def _cost(shape: Contraction, rows: int, vectors: int, lanes: int) -> float:
    """Cycles for one row of pixels and one step of the reduction: two products and two loads each, eight in flight."""

    def tile(pixels: int, wide: int) -> float:
        broadcasts = pixels  # folded into the product where there is one vector: still a load
        return max(pixels * wide / 2, 4.0, (broadcasts + wide) / 2) + 0.5

    width = shape.output[1]
    total = -(-shape.columns // lanes)
    columns = [vectors] * (total // vectors) + ([total % vectors] if total % vectors else [])
    pixels = [rows] * (width // rows) + ([width % rows] if width % rows else [])
    return sum(tile(p, v) * n * m for p, n in _counted(pixels) for v, m in _counted(columns))


def _counted(values: list[int]) -> list[tuple[int, int]]:
    return [(value, len(list(group))) for value, group in groupby(values)]
