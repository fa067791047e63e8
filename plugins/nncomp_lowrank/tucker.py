"""Tucker-2: a core between an output and an input basis, by HOSVD and higher-order orthogonal iteration (HOOI).

De Lathauwer, De Moor, Vandewalle, "On the best rank-1 and rank-(R1, ..., RN) approximation of higher-order tensors",
SIAM J. Matrix Anal. Appl. 21 (2000); for convolutions: Kim et al., "Compression of deep convolutional neural networks
for fast and low power mobile applications", ICLR 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp_lowrank.svd import Array, leading_basis


def tucker2(
    tensor: npt.NDArray[Any], ranks: tuple[int, int], *, sweeps: int = 50, tolerance: float = 1e-9
) -> tuple[Array, Array, Array]:
    """Return tensor[o, i, ...] ~ sum_ab u[o, a] core[a, b, ...] v[b, i].

    Args:
        tensor: (O, I, ...).
        ranks: (A, B), of outputs and of inputs.
        sweeps: Iterations at most; 0 is plain HOSVD.
        tolerance: Stop when the core's share of the norm grows by less.

    Returns:
        u, (O, A), orthonormal columns;  core, (A, B, ...);  v, (B, I), orthonormal rows.
    """
    w = np.asarray(tensor, np.float64)
    outputs, inputs = w.shape[:2]
    flat = w.reshape(outputs, inputs, -1)
    by_output = flat.reshape(outputs, -1)
    by_input = flat.transpose(1, 0, 2).reshape(inputs, -1)
    u, v = leading_basis(by_output, ranks[0]), leading_basis(by_input, ranks[1])
    norm = max(float(np.square(flat).sum()), np.finfo(np.float64).tiny)
    before = -1.0
    for _ in range(sweeps if u.shape[1] < outputs and v.shape[1] < inputs else 0):  # a full basis changes nothing
        partly = (v.T @ by_input).reshape(-1, outputs, flat.shape[2])  # (B, O, K)
        u = leading_basis(partly.transpose(1, 0, 2).reshape(outputs, -1), ranks[0])
        partly = (u.T @ by_output).reshape(-1, inputs, flat.shape[2])  # (A, I, K)
        v = leading_basis(partly.transpose(1, 0, 2).reshape(inputs, -1), ranks[1])
        share = float(np.square(np.tensordot(v.T, partly, (1, 1))).sum()) / norm
        if share - before < tolerance:
            break
        before = share
    half = (u.T @ by_output).reshape(-1, inputs, flat.shape[2])
    core = np.einsum("aik,ib->abk", half, v, optimize=True)
    return u, core.reshape(core.shape[0], core.shape[1], *w.shape[2:]), v.T
