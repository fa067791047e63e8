"""Put zeros into one layer's matrix, by size or by the error that they make, and refit what is left.

By error: the sweep of :mod:`nncomp.obs` over the columns, with the score w^2 / U_jj^2 of each element (Frantar and
Alistarh, "SparseGPT", ICML 2023). Refitting solves the least squares of each row over the elements that it has left, by
conjugate gradients on all rows at once:

    min over W with the given zeros of  tr(W H W^T) - 2 tr(W C^T),   H = sum x^T x + ridge,  C = sum y^T x + ridge W0
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp.obs import BLOCK, inverse_factor, sweep
from nncomp_prune.patterns import Doubles, Mask, Pattern

_ROUNDS: Final = 40
_DONE: Final = 1e-12
_SWEEPS: Final = 3
_MOST_CHOICES: Final = 100


@dataclass
class Zeroing:
    """The decision of a sweep: elements of a block that a pattern takes become zero, the others stay.

    Attributes:
        pattern: The pattern.
    """

    pattern: Pattern
    _first: int = 0
    _mask: Mask = field(default_factory=lambda: np.zeros((0, 0), bool))

    def begin(self, columns: npt.NDArray[np.intp], weights: Doubles, pivots: Doubles) -> None:
        """Choose the zeros of a block of columns."""
        self._first = int(columns[0])
        self._mask = self.pattern.zeros(np.square(weights / pivots))

    def column(self, index: int, weights: Doubles) -> Doubles:
        """Return the column with its zeros."""
        return np.where(self._mask[:, index - self._first], 0.0, weights)


def by_size(weight: Doubles, pattern: Pattern) -> Doubles:
    """Return (O, K) with zeros for the smallest elements."""
    return np.where(pattern.zeros(np.square(weight)), 0.0, weight)


def by_error(weight: Doubles, square: Doubles, pattern: Pattern) -> Doubles:
    """Return (O, K) with zeros that cost least, and the columns behind making up for them.

    Args:
        weight: (O, K) least-squares solution.
        square: (K, K) H, ridge included.
        pattern: The pattern.
    """
    wide = pattern.group[1] or pattern.unit[1]
    block = wide if pattern.group[1] else max(BLOCK // wide, 1) * wide
    return sweep(weight, inverse_factor(square, damping=1e-6), Zeroing(pattern), block=block)


def exchanged(weight: Doubles, square: Doubles, cross: Doubles, pattern: Pattern) -> Doubles:
    """Return an N:M matrix whose zeros were chosen anew, group by group, as the others stand, while that costs less.

    A group's best weights on a choice T of its columns S, all else fixed, save b_T (H_TT)^-1 b_T with
    b = C_S - (W H)_S + W_S H_SS; all choices are tried. O(O K^2) for each of a few sweeps. Other patterns, and those
    with more than a hundred choices, come back as they are.
    """
    size = pattern.group[1]
    stay = size - round(pattern.share * size)
    if pattern.sort != "n:m" or math.comb(size, stay) > _MOST_CHOICES:
        return weight
    picked = np.array(list(combinations(range(size), stay)))  # (P, N)
    result = refitted(weight, square, cross)
    rows = np.arange(len(weight))
    for _ in range(_SWEEPS):
        for first in range(0, weight.shape[1], size):
            columns = slice(first, first + size)
            block = square[columns, columns]
            aim = cross[:, columns] - result @ square[:, columns] + result[:, columns] @ block  # (O, M)
            aims = aim[:, picked]  # (O, P, N)
            inverses = np.linalg.inv(block[picked[:, :, None], picked[:, None, :]])  # (P, N, N)
            solved = np.einsum("pmn,opn->opm", inverses, aims)
            best = np.argmax(np.einsum("opm,opm->op", aims, solved), axis=1)
            fresh = np.zeros_like(aim)
            np.put_along_axis(fresh, picked[best], solved[rows, best], axis=1)
            result[:, columns] = fresh
    return result


def chosen(solution: Doubles, given: Doubles, square: Doubles, cross: Doubles, pattern: Pattern) -> Doubles:
    """Return the refitted matrix that costs least: with zeros by error in ``solution``, or by size in ``given``.

    Rows are chosen one by one where the pattern lets each have its own zeros.
    """
    starts = by_error(solution, square, pattern), by_size(given, pattern)
    found = [refitted(exchanged(one, square, cross, pattern), square, cross) for one in starts]
    gains = [np.einsum("ok,ok->o", 2.0 * cross - one @ square, one) for one in found]
    better = gains[0] >= gains[1] if pattern.group[0] == 1 else np.full(len(given), gains[0].sum() >= gains[1].sum())
    return np.where(better[:, None], found[0], found[1])


def refitted(weight: Doubles, square: Doubles, cross: Doubles) -> Doubles:
    """Return the least-squares solution with the zeros of ``weight``; O(40 O K^2).

    Args:
        weight: (O, K), where to start.
        square: (K, K) H.
        cross: (O, K) C.
    """
    free = weight != 0
    scale = np.diagonal(square)
    solution = weight.copy()
    residual = np.where(free, cross - solution @ square, 0.0)
    direction = residual / scale
    size = np.einsum("ok,ok->o", residual, direction)
    enough = _DONE * np.einsum("ok,ok->o", cross, cross / scale)
    for _ in range(_ROUNDS):
        active = size > enough
        if not active.any():
            break
        image = np.where(free, direction @ square, 0.0)
        along = np.einsum("ok,ok->o", direction, image)
        step = np.where(active, size / np.where(along > 0, along, 1.0), 0.0)[:, None]
        solution += step * direction
        residual -= step * image
        ahead = residual / scale
        following = np.einsum("ok,ok->o", residual, ahead)
        direction = ahead + np.where(active, following / np.where(size > 0, size, 1.0), 0.0)[:, None] * direction
        size = np.where(active, following, size)
    return np.where(free, solution, 0.0)
