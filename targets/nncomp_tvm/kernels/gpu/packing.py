"""Weights as a GPU's blocks read them, and what integer sums begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.gpu.emit import WORD
from nncomp_tvm.kernels.gpu.tiling import GpuTile, reduction
from nncomp_tvm.kernels.tiling import Contraction


def pack(shape: Contraction, tile: GpuTile, weights: NDArray[Any]) -> NDArray[Any]:
    """Return weights as (group, block of columns, word of the reduction, column), flat; bytes four in an int32.

    Args:
        weights: (groups, kernel rows, kernel columns, channels, columns); int8 or float32.
    """
    step = WORD if shape.integer else 1
    groups, height, width, channels, columns = weights.shape
    depth, panels = -(-reduction(shape) // tile.depth) * tile.depth, -(-columns // tile.columns)
    filled = -(-channels // step) * step
    grown = np.zeros((groups, depth * step, panels * tile.columns), weights.dtype)
    inner = np.zeros((groups, height * width, filled, columns), weights.dtype)
    inner[:, :, :channels] = weights.reshape(groups, height * width, channels, columns)
    grown[:, : height * width * filled, :columns] = inner.reshape(groups, -1, columns)
    split = grown.reshape(groups, depth, step, panels, tile.columns).transpose(0, 3, 1, 4, 2)
    packed = np.ascontiguousarray(split).reshape(-1)
    return packed.view("<i4") if shape.integer else packed


def start_values(shape: Contraction, weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """Return what the sums of columns begin with: (128 - zero point) x (sum of their weights); (groups, columns).

    Activations are multiplied as x - 128, which is signed like the weights; padding is multiplied, too, and stands
    for zero: sum w (x - z) = sum w (x - 128) + (128 - z) sum w.
    """
    total = weights.astype(np.int64).sum(axis=(1, 2, 3))
    start: NDArray[np.int32] = ((128 - shape.zero_point) * total).astype(np.int32)
    return start
