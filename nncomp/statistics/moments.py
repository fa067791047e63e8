"""Second moments of what a layer reads and writes: all that least squares, OBS, whitening and GPTQ need of the data.

With x the rows that meet a weight and y the rows that the layer should give (see :mod:`nncomp.ops.matrix`):

    xx = sum x^T x,  yx = sum y^T x,  yy = sum y * y,  and the sums of x and y themselves.

Memory is O(K^2), whatever the number of samples. Sums are float64 and run in the order of the samples over blocks whose
size depends on the rows alone, so the bits do not depend on batches or threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]

_GATHERED: Final = 2048
"""Rows that are gathered before they are multiplied: a product of one sample's rows would mostly move xx about."""

_BLOCK_ROWS: Final = 256
_BLOCK_COLUMNS: Final = 32
"""OpenBLAS splits a product among its threads by columns, and long ones by rows as well; blocks of this shape are added
up alike whoever gets them. Below ``_BLOCK_COLUMNS`` there is nothing to split."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Sums over N rows, for each of G groups; float64.

    Attributes:
        count: N.
        x: (G, K), sum of x.
        xx: (G, K, K), sum of x^T x; exactly symmetric.
        y: (G, O), sum of y.
        yx: (G, O, K), sum of y^T x.
        yy: (G, O), sum of y * y.
        dropped: rows that held NaN or infinity, and count for nothing else.
    """

    count: int
    x: Doubles
    xx: Doubles
    y: Doubles
    yx: Doubles
    yy: Doubles
    dropped: int = 0

    def __add__(self, other: Moments) -> Moments:
        """Return the sums over the rows of both."""
        return Moments(
            self.count + other.count,
            self.x + other.x,
            self.xx + other.xx,
            self.y + other.y,
            self.yx + other.yx,
            self.yy + other.yy,
            self.dropped + other.dropped,
        )

    def centered(self) -> Moments:
        """Return the sums about the means: of x - mean(x) and y - mean(y); ``x`` and ``y`` stay those of the rows.

        Of no rows all is zero.
        """
        count = max(self.count, 1)
        return Moments(
            self.count,
            self.x,
            self.xx - self.x[:, :, None] * (self.x / count)[:, None, :],
            self.y,
            self.yx - self.y[:, :, None] * (self.x / count)[:, None, :],
            np.maximum(self.yy - self.y * self.y / count, 0.0),
            self.dropped,
        )

    def squared_error(self, matrix: Doubles, bias: Doubles | None = None) -> Doubles:
        """Return sum (x @ matrix^T + bias - y)^2 for each output, (G, O).

        Args:
            matrix: (G, O, K).
            bias: (G, O); zero by default.
        """
        shift = np.zeros_like(self.y) if bias is None else bias
        quadratic: Doubles = np.einsum("gok,gok->go", matrix @ self.xx - 2.0 * self.yx, matrix)
        linear: Doubles = np.einsum("gok,gk->go", matrix, self.x) - self.y
        return quadratic + self.yy + 2.0 * shift * linear + self.count * shift * shift


class MomentSums:
    """Accumulator of :class:`Moments`.

    Args:
        groups, outputs, columns: G, O and K.
    """

    def __init__(self, groups: int, outputs: int, columns: int) -> None:
        self._count = self._dropped = self._waiting = 0
        self._x, self._y = np.zeros((groups, columns)), np.zeros((groups, outputs))
        self._yy, self._yx = np.zeros((groups, outputs)), np.zeros((groups, outputs, columns))
        self._xx = np.zeros((groups, columns, columns))
        self._blocks: list[tuple[Array, Array]] = []

    def add(self, x: Array, y: Array) -> None:
        """Add the rows of one sample.

        Args:
            x: (G, N, K), finite or not.
            y: (G, N, O).
        """
        sound = np.isfinite(x).all(axis=(0, 2)) & np.isfinite(y).all(axis=(0, 2))
        if not sound.all():
            self._dropped += int(sound.size - np.count_nonzero(sound))
            x, y = x[:, sound], y[:, sound]
        self._blocks.append((x, y))
        self._waiting += x.shape[1]
        if self._waiting >= _GATHERED:
            self._multiply()

    def moments(self) -> Moments:
        """Return the sums over all rows; to be called once, at the end."""
        self._multiply()
        self._xx += self._xx.swapaxes(1, 2)
        self._xx /= 2.0
        return Moments(self._count, self._x, self._xx, self._y, self._yx, self._yy, self._dropped)

    def _multiply(self) -> None:
        if not self._blocks:
            return
        x, y = (_widened([pair[side] for pair in self._blocks]) for side in (0, 1))
        self._blocks, self._count, self._waiting = [], self._count + x.shape[1], 0
        outputs, columns = self._yx.shape[1:]
        square = np.empty((x.shape[0], x.shape[2], x.shape[2]))
        cross = np.empty((x.shape[0], y.shape[2], x.shape[2]))
        for first in range(0, x.shape[1], _BLOCK_ROWS):
            some, out = x[:, first : first + _BLOCK_ROWS], y[:, first : first + _BLOCK_ROWS]
            self._xx += np.matmul(some.swapaxes(1, 2), some, out=square)[:, :columns, :columns]
            self._yx += np.matmul(out.swapaxes(1, 2), some, out=cross)[:, :outputs, :columns]
        self._x += x.sum(axis=1)[:, :columns]
        self._y += y.sum(axis=1)[:, :outputs]
        self._yy += np.einsum("gno,gno->go", y, y)[:, :outputs]


def _widened(parts: Sequence[Array]) -> Doubles:
    """Join rows, in double precision, with columns of zeros up to a whole number of blocks."""
    groups, columns = parts[0].shape[0], parts[0].shape[2]
    width = columns if columns <= _BLOCK_COLUMNS else -(-columns // _BLOCK_COLUMNS) * _BLOCK_COLUMNS
    joined = np.zeros((groups, sum(part.shape[1] for part in parts), width))
    np.concatenate(parts, axis=1, out=joined[:, :, :columns])
    return joined
