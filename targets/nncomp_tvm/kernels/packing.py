"""Weights in the order in which a kernel reads them, and the part of an int8 sum that is known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.cpu import ByteDot, CpuTarget
from nncomp_tvm.kernels.tiling import Contraction, Tile


def pack(shape: Contraction, tile: Tile, cpu: CpuTarget, weights: NDArray[Any]) -> NDArray[Any]:
    """Return weights in the order in which the kernel reads them, flat.

    Args:
        weights: (groups, kernel rows, kernel columns, channels, columns); int8 or float32.
    """
    lanes = cpu.lanes
    depth = reduction_step(shape, cpu)
    channels = -(-shape.channels // depth) * depth
    columns = -(-shape.columns // lanes) * lanes
    grown = np.zeros((*weights.shape[:3], channels, columns), weights.dtype)
    grown[..., : shape.channels, : shape.columns] = weights
    groups, height, width = weights.shape[:3]
    parts = []
    for start, count in _panels(columns, tile.vectors * lanes):
        panel = grown[..., start : start + count].reshape(groups, height, width, channels // depth, depth, count)
        parts.append(np.ascontiguousarray(panel.swapaxes(-1, -2)).reshape(groups, -1))
    return np.concatenate(parts, axis=1).reshape(-1)


def _panels(columns: int, width: int) -> list[tuple[int, int]]:
    return [(start, min(width, columns - start)) for start in range(0, columns, width)]


def reduction_step(shape: Contraction, cpu: CpuTarget) -> int:
    """Return how many channels one instruction sums."""
    if not shape.integer:
        return 1
    return {ByteDot.VNNI: 4, ByteDot.WIDENED: 2, ByteDot.PLAIN: 1}[cpu.dot]


def signed_bytes(weights: NDArray[Any], zero_point: int) -> NDArray[np.int8] | None:
    """Return quantized weights without their zero point, or None where a byte cannot hold them."""
    shifted = weights.astype(np.int16) - zero_point
    return shifted.astype(np.int8) if shifted.min() >= -128 and shifted.max() <= 127 else None


def start_values(shape: Contraction, weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """Return what int8 sums start from: -zero_point x (sum of the weights that see no padding above or below).

    Returns:
        (output height, groups, columns): sum w (x - z) = sum w x - z sum w, the last over rows of the kernel inside.
    """
    rows = weights.astype(np.int64).sum(axis=(2, 3))  # groups, kernel rows, columns
    top = np.arange(shape.output[0])[:, None] * shape.strides[0] - shape.pads[0]
    at = top + np.arange(shape.kernel[0])[None, :] * shape.dilations[0]
    inside = ((at >= 0) & (at < shape.height)).astype(np.int64)
    sums: NDArray[np.int64] = -shape.zero_point * np.einsum("ok,gkn->ogn", inside, rows)
    return sums.astype(np.int32)


def pack_window(weights: NDArray[Any]) -> NDArray[np.float32]:
    """(channels, kernel rows, kernel columns) -> flat (kernel rows, kernel columns, channels)."""
    return np.ascontiguousarray(weights.transpose(1, 2, 0), np.float32).reshape(-1)
