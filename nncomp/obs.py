"""Optimal brain surgeon, column by column: decide the inputs of a layer in turn, and let those left make up for it.

A linear layer y = W x with inputs of second moment H = E[x x^T] changes its output by tr(dW H dW^T) when its weight
changes by dW. Once columns of W are decided (rounded, set to zero), the best that the columns still free can do is the
Gauss-Newton step of the optimal brain surgeon, and a Cholesky factor of H^-1 holds all steps of a fixed order at once:

    H^-1 = U^T U,  U upper triangular;   e = (w_j - q_j) / U_jj;   W_:,k -= e U_jk  for all k behind j

(Frantar et al., "GPTQ", ICLR 2023, section 3; Frantar and Alistarh, "SparseGPT", ICML 2023, section 3, the same sweep
with another decision.) What is decided, and how, is the caller's: :class:`Decision`.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

BLOCK = 128
"""Columns between two updates of all the columns behind them."""


class Decision(Protocol):
    """What becomes of each column."""

    def begin(self, columns: npt.NDArray[np.intp], weights: Floats, pivots: Floats) -> None:
        """Look at a block of columns before the first of it is decided.

        Args:
            columns: (B,) indices into the weight as it was given.
            weights: (O, B), with the corrections of all blocks before.
            pivots: (B,) U_jj: deciding column j as q costs ((w_j - q) / U_jj)^2 / 2 a row.
        """

    def column(self, index: int, weights: Floats) -> Floats:
        """Return what column ``index`` becomes, (O,), given what it is after all corrections, (O,)."""


def sweep(
    weight: npt.NDArray[Any],
    factor: Floats,
    decision: Decision,
    *,
    order: npt.NDArray[np.intp] | None = None,
    block: int = BLOCK,
) -> Floats:
    """Decide all columns of ``weight`` in turn; return the decided weight, float64, (O, K).

    O(O K^2): in matrix products, but for ``block`` columns at a time.

    Args:
        weight: (O, K), output channels by inputs.
        factor: (K, K) from :func:`inverse_factor`, of the moments in the order given.
        decision: Called block by block, and column by column.
        order: (K,) the order in which columns are decided; default: as they stand.
        block: Columns a block.
    """
    columns = np.arange(weight.shape[1]) if order is None else order
    left = np.asarray(weight, np.float64)[:, columns]  # a copy
    for start in range(0, len(columns), block):
        stop = min(start + block, len(columns))
        inside = left[:, start:stop]
        local = factor[start:stop, start:stop]
        errors = np.empty_like(inside)
        decision.begin(columns[start:stop], inside.copy(), np.diagonal(local))
        for j in range(stop - start):
            decided = decision.column(int(columns[start + j]), inside[:, j])
            errors[:, j] = (inside[:, j] - decided) / local[j, j]
            inside[:, j] = decided
            inside[:, j + 1 :] -= np.outer(errors[:, j], local[j, j + 1 :])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    result = np.empty_like(left)
    result[:, columns] = left
    return result


def inverse_factor(moments: npt.NDArray[Any], *, damping: float = 0.01) -> Floats:
    """Return U, upper triangular, with (H + damping * mean(diag H) * I)^-1 = U^T U; float64, (K, K).

    H = R R^T with R upper triangular is the Cholesky factorization from the last row up, and U = R^-1: H itself is
    never inverted.

    Args:
        moments: (K, K) H, symmetric and positive semi-definite, rows and columns in the order of the sweep. An input
            that was always zero takes part in nothing.
        damping: Relative to the mean of the diagonal; grown tenfold as long as the matrix is not positive definite.

    Raises:
        ValueError: ``moments`` holds NaN or infinity.
    """
    matrix = np.array(moments, np.float64)
    if not np.isfinite(matrix).all():
        raise ValueError("moments that are not finite")
    diagonal = np.diagonal(matrix).copy()
    typical = float(diagonal.mean()) or 1.0
    diagonal[diagonal == 0] = typical
    while True:
        np.fill_diagonal(matrix, diagonal + damping * typical)
        try:
            # From the last row up: reverse rows and columns, factorize, reverse back.
            upper = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
            break
        except np.linalg.LinAlgError:
            damping = 10 * damping or 1e-6
    return np.triu(np.linalg.solve(upper, np.eye(len(matrix))))
