"""Tensor trains by successive truncated SVDs, of tensors and of matrices.

Oseledets, "Tensor-train decomposition", SIAM J. Sci. Comput. 33 (2011), algorithm 1; matrices: Novikov et al.,
"Tensorizing neural networks", NeurIPS 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp_lowrank.svd import Array, truncated_svd


def tt_svd(tensor: npt.NDArray[Any], ranks: Sequence[int]) -> list[Array]:
    """Return tensor[n1, ..., nd] ~ product of cores, core k of shape (r_{k-1}, n_k, r_k), r_0 = r_d = 1.

    The error is at most sqrt(d - 1) times that of the best train of these ranks.

    Args:
        tensor: Of two axes or more.
        ranks: r_1 ... r_{d-1}; more than a rank can be means all.
    """
    w = np.asarray(tensor, np.float64)
    cores: list[Array] = []
    rest, left = w, 1
    for size, rank in zip(w.shape, ranks, strict=False):
        u, s, v = truncated_svd(rest.reshape(left * size, -1), rank)
        cores.append(u.reshape(left, size, -1))
        rest, left = s[:, None] * v, u.shape[1]
    cores.append(rest.reshape(left, w.shape[-1], 1))
    return cores


def tt_matrix(
    matrix: npt.NDArray[Any], rows: Sequence[int], columns: Sequence[int], ranks: Sequence[int]
) -> list[Array]:
    """Return a matrix as a train of small matrices: core k of shape (r_{k-1}, m_k, n_k, r_k).

    matrix[(m1, ..., md), (n1, ..., nd)] ~ product over k of core_k[:, m_k, n_k, :].

    Args:
        matrix: (M, N).
        rows: m_1 ... m_d with product M.
        columns: n_1 ... n_d with product N.
        ranks: r_1 ... r_{d-1}.
    """
    order = len(rows)
    paired = np.asarray(matrix, np.float64).reshape(*rows, *columns)
    paired = paired.transpose([axis for k in range(order) for axis in (k, order + k)])
    cores = tt_svd(paired.reshape([m * n for m, n in zip(rows, columns, strict=True)]), ranks)
    return [core.reshape(core.shape[0], m, n, core.shape[2]) for core, m, n in zip(cores, rows, columns, strict=True)]


def near_square_modes(size: int, order: int) -> tuple[int, ...]:
    """Split ``size`` into ``order`` factors that are as equal as its divisors allow, the largest first.

    Greedy: each factor is the divisor of what is left whose ratio to the geometric mean of the factors still to come is
    nearest to 1, of two the larger; a prime is (p, 1, ...).
    """
    modes = []
    left = size
    for remaining in range(order, 1, -1):
        aim = left ** (1 / remaining)
        modes.append(min(_divisors(left), key=lambda d: (abs(math.log(d / aim)), -d)))
        left //= modes[-1]
    return tuple(sorted([*modes, left], reverse=True))


def _divisors(size: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(size) + 1) if size % d == 0]
    return sorted({*small, *(size // d for d in small)})
