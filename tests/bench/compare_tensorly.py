"""Compare the decompositions of the lowrank plugin with tensorly's: error and CPU time on the same tensors.

    python tests/bench/compare_tensorly.py

One JSON line a case: relative errors, and the median of pairwise ratios of tensorly's time over ours, taken in turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorly
from tensorly.decomposition import parafac, partial_tucker, tensor_train, tensor_train_matrix
from tensorly.tenalg import multi_mode_dot

from nncomp.bench import compare_latency
from nncomp_lowrank.cp import cp_als
from nncomp_lowrank.svd import truncated_svd
from nncomp_lowrank.tt import tt_matrix, tt_svd
from nncomp_lowrank.tucker import tucker2

Array = np.ndarray[Any, Any]


def chained(cores: list[Array]) -> Array:
    """Return the tensor that a train stands for, the outermost ranks dropped."""
    found = cores[0]
    for core in cores[1:]:
        found = np.tensordot(found, core, (-1, 0))
    return found[0, ..., 0]


def cases() -> dict[str, tuple[Array, Callable[[], Array], Callable[[], Array]]]:
    """Return for each case the tensor, our approximation of it, and tensorly's."""
    rng = np.random.default_rng(0)
    matrix, kernel = rng.standard_normal((512, 512)), rng.standard_normal((128, 128, 3, 3))
    small = rng.standard_normal((64, 64, 3, 3)).reshape(64, 64, 9)
    paired = matrix.reshape(8, 8, 8, 8, 8, 8)

    def ours_svd() -> Array:
        u, s, v = truncated_svd(matrix, 64)
        return (u * s) @ v

    def their_svd() -> Array:
        u, s, v = tensorly.tenalg.svd_interface(matrix, n_eigenvecs=64)
        return (u * s) @ v

    def our_tucker() -> Array:
        u, core, v = tucker2(kernel, (64, 64), sweeps=10, tolerance=0.0)
        return np.einsum("oa,abhw,bi->oihw", u, core, v, optimize=True)

    def their_tucker() -> Array:
        (core, factors), _ = partial_tucker(kernel, rank=[64, 64], modes=[0, 1], n_iter_max=10, tol=0)
        return multi_mode_dot(core, factors, modes=[0, 1])

    def our_cp() -> Array:
        return np.einsum("ar,br,cr->abc", *cp_als(small, 9, sweeps=20, tolerance=-1.0), optimize=True)

    def their_cp() -> Array:
        return tensorly.cp_to_tensor(parafac(small, 9, n_iter_max=20, init="svd", tol=0))

    def our_train() -> Array:
        return chained(tt_svd(kernel.transpose(0, 2, 3, 1), (64, 64, 64)))

    def their_train() -> Array:
        return chained(list(tensor_train(kernel.transpose(0, 2, 3, 1), [1, 64, 64, 64, 1])))

    def our_matrices() -> Array:
        return chained(tt_matrix(matrix, (8, 8, 8), (8, 8, 8), (16, 16))).transpose(0, 2, 4, 1, 3, 5)

    def their_matrices() -> Array:
        return chained(list(tensor_train_matrix(paired, [1, 16, 16, 1]))).transpose(0, 2, 4, 1, 3, 5)

    train = kernel.transpose(0, 2, 3, 1)
    return {
        "svd 512x512, rank 64": (matrix, ours_svd, their_svd),
        "tucker-2 128x128x3x3, ranks 64, 10 sweeps": (kernel, our_tucker, their_tucker),
        "cp 64x64x9, rank 9, 20 sweeps": (small, our_cp, their_cp),
        "train 128x3x3x128, ranks 64": (train, our_train, their_train),
        "train of matrices 512x512, ranks 16": (paired, our_matrices, their_matrices),
    }


def main() -> None:
    """Compare each case."""
    for name, (tensor, ours, theirs) in cases().items():
        norm = np.linalg.norm(tensor)
        errors = [float(np.linalg.norm(tensor - one()) / norm) for one in (ours, theirs)]
        found = compare_latency(ours, theirs, seconds=0.0, warmup=1, min_pairs=5)
        line = {"case": name, "error": errors[0], "error_tensorly": errors[1], "times_as_fast": round(found.ratio, 2)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
