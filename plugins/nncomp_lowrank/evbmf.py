"""The rank of a noisy matrix: the global solution of empirical variational Bayesian matrix factorization (EVBMF).

Nakajima, Sugiyama, Babacan, Tomioka, "Global analytic solution of fully-observed variational Bayesian matrix
factorization", JMLR 14 (2013), theorem 2 and corollary 3. A noise variance is estimated, and singular values that
noise of that variance explains are not counted.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp_lowrank.svd import Array

_TAU: Final = 2.5129
"""tau_bar = _TAU sqrt(alpha), an approximation of the zero that the theorem asks for; given in the paper."""


def evbmf_rank(matrix: npt.NDArray[Any]) -> int:
    """Return how many singular values of ``matrix`` (m, n) stand out of noise; 0 for a matrix of zeros."""
    a = np.asarray(matrix, np.float64)
    if a.shape[0] > a.shape[1]:
        a = a.T
    rows, columns = a.shape
    squares = np.maximum(np.linalg.eigvalsh(a @ a.T)[::-1], 0.0)
    total = float(squares.sum())
    if total == 0.0:
        return 0
    alpha = rows / columns
    tau = _TAU * np.sqrt(alpha)
    threshold = (1 + tau) * (1 + alpha / tau)
    low, high = _noise_bounds(squares, columns, threshold, alpha)
    variance = _minimum(lambda noise: _free_energy(noise, squares, columns, alpha, threshold), low, high)
    return int(np.count_nonzero(squares > columns * variance * threshold))


def _noise_bounds(squares: Array, columns: int, threshold: float, alpha: float) -> tuple[float, float]:
    rows = squares.size
    tail = squares[min(int(np.ceil(rows / (1 + alpha))) - 1, rows - 1) :]  # what no solution can take for signal
    mean, edge = float(tail.mean()) / columns, float(tail[0]) / (columns * threshold)
    high = float(squares.sum()) / (rows * columns)
    low = max(edge, mean, 1e-12 * high)
    return min(low, high), high


def _free_energy(noise: float, squares: Array, columns: int, alpha: float, threshold: float) -> float:
    """Return the free energy, up to constants, as a function of the noise variance."""
    x = np.maximum(squares / (columns * noise), 1e-300)
    large = x > threshold
    kept, rest = x[large], x[~large]
    root = np.sqrt(np.maximum((kept - (1 + alpha)) ** 2 - 4 * alpha, 0.0))
    tau = 0.5 * (kept - (1 + alpha) + root)
    signal = (kept - tau) + np.log((tau + 1) / kept) + alpha * np.log(tau / alpha + 1)
    return float((rest - np.log(rest)).sum() + signal.sum())


def _minimum(function: Any, low: float, high: float) -> float:
    """Return where ``function`` is least on a logarithmic grid of [low, high], refined twice."""
    for _ in range(3):
        grid = np.geomspace(low, high, 65)
        best = int(np.argmin([function(float(point)) for point in grid]))
        low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, 64)])
    return float(np.sqrt(low * high))
