"""How a contraction is cut for a GPU: a tile of the result for a block of threads, a small one for each thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nncomp_tvm.kernels.extents import Open, product
from nncomp_tvm.kernels.gpu.emit import WORD
from nncomp_tvm.kernels.tiling import Contraction

MULTIPROCESSORS: Final = 108
"""Of an A100. With fewer, what is cut for so many fills them, too."""

_WARPS_IN_FLIGHT: Final = 8
"""So many of a multiprocessor hide the latency of what they wait for."""

_OPEN: Final = 64
"""What open sizes are taken for, together."""


@dataclass(frozen=True)
class GpuTile:
    """How a contraction is cut.

    Attributes:
        rows: Pixels of a block.
        columns: Output channels of a block.
        high: Pixels of a thread.
        wide: Output channels of a thread.
        depth: Words of the reduction that are in shared memory at a time.
    """

    rows: int
    columns: int
    high: int
    wide: int
    depth: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.high * (self.columns // self.wide)


TILES: Final = (
    (128, 128, 8, 8), (128, 64, 8, 4), (64, 64, 4, 4), (128, 32, 8, 4), (64, 32, 4, 4), (32, 64, 4, 4), (128, 16, 4, 4),
    (32, 32, 4, 4), (64, 16, 4, 4), (32, 32, 2, 4), (16, 32, 1, 4), (16, 16, 1, 2), (4, 32, 1, 1), (128, 8, 4, 2),
)  # fmt: skip
"""Rows and columns of a block, and of a thread."""


def words(shape: Contraction) -> int:
    """Return the words that hold the channels of a pixel, the last one filled up."""
    return -(-shape.channels // WORD) if shape.integer else shape.channels


def reduction(shape: Contraction) -> int:
    """Return the words of the reduction."""
    return shape.kernel[0] * shape.kernel[1] * words(shape)


def candidates(shape: Contraction) -> list[GpuTile]:
    """Return tiles, the one that looks fastest first."""
    steps = reduction(shape)
    depth = 16 if -(-steps // 16) * 16 * 9 <= -(-steps // 8) * 8 * 10 else 8
    tiles = [GpuTile(*tile, depth) for tile in TILES]
    return sorted(tiles, key=lambda tile: _cost(shape, tile))


def _cost(shape: Contraction, tile: GpuTile) -> float:
    """Estimate the time of the busiest multiprocessor for one word of the reduction, in instructions.

    A thread multiplies ``high`` x ``wide`` times, and reads as many operands as stand at two sides of that: four words
    an instruction, which takes as long as four. Blocks are spread evenly; with few warps, all wait.
    """
    pixels = product((shape.batch, *shape.output))
    if isinstance(pixels, Open):
        pixels = pixels.factor * _OPEN
    blocks = -(-pixels // tile.rows) * -(-shape.columns // tile.columns) * shape.groups
    busiest = -(-blocks // MULTIPROCESSORS)
    warps = -(-tile.threads // 32)
    loads = (tile.rows + tile.columns) / tile.threads  # from global memory and into shared memory
    work = tile.high * tile.wide + tile.high + tile.wide + 4 * loads
    return warps * busiest * work * max(1.0, _WARPS_IN_FLIGHT / (warps * busiest))
