"""How many words move: fills of tiles, reads that serve them, partial sums; in closed form, for many mappings at once.

A tile changes by what its next position has and its last one had not. Tiles are products of one-dimensional sets of
places, so with ``A`` the places of one axis and ``d`` the shift between two positions::

    fills = |T| + sum over loops l of (b_l - 1) * prod_{i outside l} b_i * |T_next - T_prev|
    |T_next - T_prev| = prod_a |A_a| - prod_a |A_a n (A_a + d_a)|

where ``d`` is one step of loop l less the way back of all loops inside it. It covers halos, strides and dilations, and
becomes the usual rule (the product of the bounds down to the innermost loop that matters) where windows do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp_sparse.space import Axis

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Walk:
    """The temporal loops outside of a tile, outer to inner, for many candidates; (candidates, loops) each.

    Attributes:
        dims: Dim of each loop.
        bounds: Iterations.
        steps: How far an iteration moves along its dim.
    """

    dims: Counts
    bounds: Counts
    steps: Counts


def fills(axes: Sequence[Axis], extents: Counts, walk: Walk) -> Counts:
    """Return the words that enter a tile while it walks.

    Args:
        axes: Of the tensor.
        extents: (candidates, dims): what the tile spans.
        walk: Loops outside of it.

    Returns:
        (candidates,).
    """
    dims = extents.shape[1]
    sliding = [axis for axis in axes if len(axis) == 2]
    plain = np.zeros(dims, bool)
    plain[[axis[0][0] for axis in axes if len(axis) == 1]] = True
    moves = plain[walk.dims] & (walk.bounds > 1)
    if not sliding:
        return _product(extents, plain) * _down_to_last(walk.bounds, moves)
    base = _product(extents, plain)
    whole = base.copy()
    for axis in sliding:
        whole *= span(axis, extents)
    coefficients = [
        np.array([dict(axis).get(dim, 0) for dim in range(dims)])[walk.dims] * walk.steps for axis in sliding
    ]
    total = whole.copy()
    outside = np.cumprod(walk.bounds, axis=1)
    moved = np.zeros(len(extents), bool)
    back = [np.zeros(len(extents), np.int64) for _ in sliding]
    for place in range(walk.bounds.shape[1] - 1, -1, -1):
        more = walk.bounds[:, place] - 1
        if not more.any():
            continue
        moved |= moves[:, place]
        shared = base.copy()
        for number, (axis, steps) in enumerate(zip(sliding, coefficients, strict=True)):
            shared *= overlap(axis, extents, steps[:, place] - back[number])
            back[number] += steps[:, place] * more
        shared[moved] = 0
        total += (more if place == 0 else more * outside[:, place - 1]) * (whole - shared)
    return total


def visits(axes: Sequence[Axis], extents: Counts, walk: Walk) -> Counts:
    """Return how often elements of a tile come by, whether or not they changed: one count an element and position."""
    elements = np.asarray(walk.bounds.prod(axis=1, dtype=np.int64))
    for axis in axes:
        elements = elements * span(axis, extents)
    return elements


def span(axis: Axis, extents: Counts) -> Counts:
    """Return the places of an axis that tiles touch, (candidates,); see :func:`nncomp_sparse.space.touched`."""
    if len(axis) == 1:
        return extents[:, axis[0][0]]
    (p, stride), (r, dilation) = axis
    common = math.gcd(stride, dilation)
    twins = np.maximum(extents[:, p] - dilation // common, 0) * np.maximum(extents[:, r] - stride // common, 0)
    return np.asarray(extents[:, p] * extents[:, r] - twins)


def overlap(axis: Axis, extents: Counts, shift: Counts) -> Counts:
    """Return how many places of a sliding axis a tile and the same tile moved by ``shift`` have in common."""
    (p, stride), (r, dilation) = axis
    common = math.gcd(stride, dilation)
    stride, dilation = stride // common, dilation // common
    positions, kernel, distance = extents[:, p], extents[:, r], np.abs(shift)
    if common > 1:
        distance //= common
    if stride == dilation == 1:
        return np.asarray(np.maximum(positions + kernel - 1 - distance, 0))
    if dilation == 1:
        return _blocks(positions, kernel, stride, distance)
    if stride == 1:
        return _blocks(kernel, positions, dilation, distance)
    keys, inverse = np.unique(np.stack([positions, kernel, distance], axis=1), axis=0, return_inverse=True)
    counts = [_counted(int(n), int(k), stride, dilation, int(far)) for n, k, far in keys]
    return np.array(counts, np.int64)[inverse.reshape(-1)]


def _blocks(blocks: Counts, length: Counts, gap: int, distance: Counts) -> Counts:
    """Common places of ``blocks`` runs of ``length`` places, ``gap`` apart, and the same ones moved by ``distance``."""
    joined = np.maximum(gap * (blocks - 1) + length - distance, 0)
    whole, rest = distance // gap, distance % gap
    same = np.maximum(blocks - whole, 0) * np.maximum(length - rest, 0)
    next_ = np.maximum(blocks - whole - 1, 0) * np.maximum(length - gap + rest, 0)
    return np.asarray(np.where(length >= gap, joined, same + next_))


def _counted(positions: int, kernel: int, stride: int, dilation: int, distance: int) -> int:
    """Count common places one by one: neither stride nor dilation divides the other, which is rare."""
    places = np.unique((stride * np.arange(positions)[:, None] + dilation * np.arange(kernel)).reshape(-1))
    return int(np.intersect1d(places, places + distance, assume_unique=True).size)


def _product(extents: Counts, chosen: npt.NDArray[np.bool_]) -> Counts:
    return np.asarray(extents[:, chosen].prod(axis=1, dtype=np.int64))


def _down_to_last(bounds: Counts, moves: npt.NDArray[np.bool_]) -> Counts:
    """Return the product of bounds from the outermost loop down to the innermost that moves the tile."""
    if not bounds.shape[1]:
        return np.ones(len(bounds), np.int64)
    last = bounds.shape[1] - 1 - np.argmax(moves[:, ::-1], axis=1)
    products = np.cumprod(bounds, axis=1)
    return np.where(moves.any(axis=1), products[np.arange(len(bounds)), last], 1)
