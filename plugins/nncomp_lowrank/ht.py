"""Hierarchical Tucker of a matrix: bases of index groups, nested in a binary tree.

Grasedyck, "Hierarchical singular value decomposition of tensors", SIAM J. Matrix Anal. Appl. 31 (2010), the
leaves-to-root truncation of section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp_lowrank.svd import Array, leading_basis


def ht_matrix(
    matrix: npt.NDArray[Any], rows: Sequence[int], columns: Sequence[int], rank: int
) -> tuple[list[Array], list[Array]]:
    """Return a matrix in hierarchical Tucker form over the pairs (m_k, n_k), on a balanced binary tree.

    Args:
        matrix: (M, N).
        rows: m_1 ... m_d with product M; d is a power of two.
        columns: n_1 ... n_d with product N.
        rank: Of every node below the root; more than a node can have means all.

    Returns:
        leaves, d of shape (m_k, n_k, r);  transfers, from the lowest level to the root, of shape (r_left, r_right, r),
        the root's r being 1. Neighbours are joined, so level by level the nodes are in order.
    """
    order = len(rows)
    if order & (order - 1):
        raise ValueError(f"hierarchical Tucker: expected a power of two of modes, got {order}")
    paired = np.asarray(matrix, np.float64).reshape(*rows, *columns)
    paired = paired.transpose([axis for k in range(order) for axis in (k, order + k)])
    rest = paired.reshape([m * n for m, n in zip(rows, columns, strict=True)])
    bases, rest = _projected(rest, rank)
    leaves = [basis.reshape(m, n, basis.shape[1]) for basis, m, n in zip(bases, rows, columns, strict=True)]
    transfers: list[Array] = []
    while rest.ndim > 1:
        sizes = rest.shape
        joined = rest.reshape([sizes[k] * sizes[k + 1] for k in range(0, rest.ndim, 2)])
        if joined.ndim == 1:
            bases, rest = [joined[:, None]], np.ones(1)
        else:
            bases, rest = _projected(joined, rank)
        transfers += [basis.reshape(sizes[2 * k], sizes[2 * k + 1], basis.shape[1]) for k, basis in enumerate(bases)]
    return leaves, transfers


def _projected(tensor: Array, rank: int) -> tuple[list[Array], Array]:
    """Return an orthonormal basis of each unfolding's leading space, and the tensor in these bases."""
    bases = [leading_basis(np.moveaxis(tensor, k, 0).reshape(tensor.shape[k], -1), rank) for k in range(tensor.ndim)]
    for k, basis in enumerate(bases):
        tensor = np.moveaxis(np.tensordot(basis.T, tensor, (1, k)), 0, k)
    return bases, tensor
