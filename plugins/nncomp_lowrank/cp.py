"""CP (CANDECOMP/PARAFAC): a sum of outer products, by alternating least squares (ALS).

Kolda, Bader, "Tensor decompositions and applications", SIAM Review 51 (2009), section 3.4.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp_lowrank.svd import Array, column_signs, leading_basis


def cp_als(
    tensor: npt.NDArray[Any], rank: int, *, sweeps: int = 200, tolerance: float = 1e-8, seed: int = 0
) -> list[Array]:
    """Return tensor[i1, ..., id] ~ sum_r prod_k factors[k][ik, r].

    Starts from the leading singular vectors of each unfolding; where a mode has fewer than ``rank``, the rest is random
    with a fixed seed. A rank that suffices for any tensor of this shape gives an exact decomposition without iterating.

    Args:
        tensor: (n1, ..., nd).
        rank: Terms.
        sweeps: Iterations at most.
        tolerance: Stop when the relative error falls by less.
        seed: Of what is random.

    Returns:
        One (nk, rank) a mode. The norm of each term is spread evenly over its factors; in all but the first factor the
        entry of largest size is positive.
    """
    w = np.asarray(tensor, np.float64)
    if rank >= math.prod(w.shape) // max(w.shape):
        return _balanced(_one_term_a_fibre(w, rank))
    rng = np.random.default_rng(seed)
    factors = [_start(w, mode, rank, rng) for mode in range(w.ndim)]
    norm = float(np.linalg.norm(w)) or 1.0
    before = math.inf
    grams = [factor.T @ factor for factor in factors]
    for _ in range(sweeps):
        for mode in range(w.ndim):
            others = math.prod(gram for k, gram in enumerate(grams) if k != mode)
            image = _khatri_rao_product(w, factors, mode)
            factors[mode] = _solved(np.asarray(others), image)
            grams[mode] = factors[mode].T @ factors[mode]
        # ||w - w~||^2 = ||w||^2 - 2 <w, w~> + ||w~||^2, with the last mode's product at hand.
        inner = float((image * factors[-1]).sum())
        square = norm**2 - 2 * inner + float(np.asarray(math.prod(grams)).sum())
        error = math.sqrt(max(square, 0.0)) / norm
        if before - error < tolerance:
            break
        before = error
    return _balanced(factors)


def _start(w: Array, mode: int, rank: int, rng: np.random.Generator) -> Array:
    basis = leading_basis(np.moveaxis(w, mode, 0).reshape(w.shape[mode], -1), rank)
    missing = rank - basis.shape[1]
    return np.hstack([basis, rng.standard_normal((w.shape[mode], missing))]) if missing > 0 else basis


def _khatri_rao_product(w: Array, factors: list[Array], mode: int) -> Array:
    """Return (n_mode, R): the tensor contracted with the other factors, term by term.

    The largest of the other modes goes first, by one matrix product; what is left is small.
    """
    others = [k for k in range(w.ndim) if k != mode]
    first = max(others, key=lambda k: w.shape[k])
    rest = [k for k in others if k != first]
    partly = np.tensordot(np.moveaxis(w, first, -1), factors[first], (-1, 0))  # (the others in order..., R)
    letters = "abcdefgh"
    left = [k for k in range(w.ndim) if k != first]
    spec = "".join(letters[k] for k in left) + "r," + ",".join(f"{letters[k]}r" for k in rest) + f"->{letters[mode]}r"
    return np.asarray(np.einsum(spec, partly, *(factors[k] for k in rest), optimize=True))


def _solved(gram: Array, image: Array) -> Array:
    """Return image gram^+, by Cholesky's method where the Gram matrix is well conditioned."""
    try:
        lower = np.linalg.cholesky(gram)
        if lower.diagonal().min() > 1e-6 * lower.diagonal().max():
            return np.asarray(np.linalg.solve(gram, image.T).T)
    except np.linalg.LinAlgError:
        pass
    return np.asarray(image @ np.linalg.pinv(gram, rcond=1e-13, hermitian=True))


def _one_term_a_fibre(w: Array, rank: int) -> list[Array]:
    """Return exact factors: a term for each fibre along the longest mode, unit vectors in the others."""
    longest = int(np.argmax(w.shape))
    others = [k for k in range(w.ndim) if k != longest]
    places = np.indices([w.shape[k] for k in others]).reshape(len(others), -1)
    factors = [np.zeros((size, rank)) for size in w.shape]
    factors[longest][:, : places.shape[1]] = np.moveaxis(w, longest, 0).reshape(w.shape[longest], -1)
    for k, where in zip(others, places, strict=True):
        factors[k][where, np.arange(places.shape[1])] = 1.0
    return factors


def _balanced(factors: list[Array]) -> list[Array]:
    norms = [np.linalg.norm(factor, axis=0) for factor in factors]
    size = np.asarray(math.prod(norms)) ** (1 / len(factors))
    scaled = [
        factor * (size / np.maximum(norm, np.finfo(np.float64).tiny))
        for factor, norm in zip(factors, norms, strict=True)
    ]
    for k in range(1, len(scaled)):
        sign = column_signs(scaled[k])
        scaled[k], scaled[0] = scaled[k] * sign, scaled[0] * sign
    return scaled
