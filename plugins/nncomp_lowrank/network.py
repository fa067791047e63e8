"""A weight as a product of factors, written as an einsum; and the factors that serve a layer's data best.

A form of decomposition is a string such as ``oa,abhw,bi->oihw``. The first factor carries the output channels. With T
the weight wanted, (O, K), C = E[x x^T] the second moments of its K inputs, and W(F) the weight that factors make, the
error is that of the layer's output:

    E ||T x - W(F) x||^2 = tr((T - W(F)) C (T - W(F))^T)

It is quadratic in each factor alone: the first is solved for exactly, the others descend by conjugate gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from nncomp_lowrank.svd import Array

_TINY: Final = np.finfo(np.float64).tiny
_RIDGE: Final = 1e-9


def product(spec: str, factors: Sequence[Array]) -> Array:
    """Return the weight that the factors make."""
    path = _path(spec, tuple(factor.shape for factor in factors))
    return np.asarray(np.einsum(spec, *factors, optimize=path))


@lru_cache(maxsize=256)
def _path(spec: str, shapes: tuple[tuple[int, ...], ...]) -> Any:
    """Return the order of contraction, which costs more to find than a small product itself."""
    return np.einsum_path(spec, *(np.broadcast_to(0.0, shape) for shape in shapes), optimize="greedy")[0]


def output_error(difference: Array, gram: Array) -> float:
    """Return tr(D C D^T) for a weight difference of shape (O, K), or (O, ...) of K elements in all."""
    rows = difference.reshape(difference.shape[0], -1)
    return max(float((weighted(rows, gram) * rows).sum()), 0.0)


def weighted(rows: Array, gram: Array) -> Array:
    """Return rows C, (O, K); second moments of shape (K,) are a diagonal."""
    return rows * gram if gram.ndim == 1 else rows @ gram


def fitted(
    spec: str,
    factors: Sequence[Array],
    target: Array,
    gram: Array,
    *,
    sweeps: int = 2,
    steps: int = 12,
    outputs: int = 1,
) -> list[Array]:
    """Improve factors; the output error never grows.

    Args:
        spec: Einsum of the factors to the shape of ``target``.
        factors: Where to start.
        target: The weight wanted, (O..., K...).
        gram: Second moments of the inputs, (K, K), or (K,) for a diagonal; K is all of ``target`` behind the outputs.
        sweeps: Rounds over all factors; 0 solves for the first one only.
        steps: Conjugate-gradient steps a factor and round.
        outputs: How many leading axes of ``target`` are outputs. The first factor is solved for exactly only when it
            carries all of them, as one axis.
    """
    found = list(factors)
    wanted = target.reshape(-1, gram.shape[0])
    image = weighted(wanted, gram)
    exact = outputs == 1
    if exact:
        found[0] = _solved_first(spec, found, image, gram)
    for _ in range(sweeps):
        for index in range(len(found) - 1, 0 if exact else -1, -1):
            found[index] = _descended(spec, found, index, image.reshape(target.shape), gram, steps=steps)
        if exact:
            found[0] = _solved_first(spec, found, image, gram)
    return found


def _solved_first(spec: str, factors: Sequence[Array], image: Array, gram: Array) -> Array:
    """Return the first factor that minimises the error: F = T C B^T (B C B^T)^+, where W = F B."""
    shape = factors[0].shape[1:]
    unknowns = math.prod(shape)
    basis = product(spec, [np.eye(unknowns).reshape(unknowns, *shape), *factors[1:]]).reshape(unknowns, -1)
    return regression(basis, image, gram).reshape(-1, *shape)


def regression(basis: Array, image: Array, gram: Array) -> Array:
    """Return F (O, r) with the least output error of F B for a basis B (r, K); ``image`` is T C, (O, K)."""
    return regressed(weighted(basis, gram) @ basis.T, image @ basis.T)


def regressed(inner: Array, wanted: Array) -> Array:
    """Return F (O, r) with F inner = wanted, for moments ``inner`` (r, r), on which a little ridge is put."""
    inner = inner + (_RIDGE * float(np.trace(inner)) / len(inner) + _TINY) * np.eye(len(inner))
    try:
        return np.asarray(np.linalg.solve(inner, wanted.T).T)
    except np.linalg.LinAlgError:
        return np.asarray(wanted @ np.linalg.pinv(inner, hermitian=True))


def _descended(spec: str, factors: Sequence[Array], index: int, image: Array, gram: Array, *, steps: int) -> Array:
    """Take conjugate-gradient steps in one factor f: L^T(L(f) C) = L^T(T C), L the weight as a function of f."""
    inputs, output = spec.split("->")
    letters = inputs.split(",")
    others = [factor for k, factor in enumerate(factors) if k != index]
    back = ",".join([output, *(one for k, one in enumerate(letters) if k != index)]) + f"->{letters[index]}"
    shape, columns = image.shape, gram.shape[0]
    scale = np.asarray(1.0 / np.maximum(np.sqrt(_curvature(back, others, gram, shape)), _TINY))

    def weight(factor: Array) -> Array:
        return product(spec, [*factors[:index], factor, *factors[index + 1 :]]).reshape(-1, columns)

    def gradient(rows: Array) -> Array:
        return product(back, [rows.reshape(shape), *others]) * scale

    start = factors[index]
    residual = gradient(image.reshape(-1, columns) - weighted(weight(start), gram))
    direction, change = residual, np.zeros_like(start)
    size = float(np.square(residual).sum())
    first = size
    for _ in range(min(steps, start.size)):
        if size <= 1e-16 * first or size <= _TINY:
            break
        rows = weight(direction * scale)
        image_rows = weighted(rows, gram)
        curvature = float((rows * image_rows).sum())
        if curvature <= _TINY:
            break
        step = size / curvature
        change = change + step * direction
        residual = residual - step * gradient(image_rows)
        before, size = size, float(np.square(residual).sum())
        direction = residual + (size / before) * direction
    return start + change * scale


def _curvature(back: str, others: Sequence[Array], gram: Array, shape: tuple[int, ...]) -> Array:
    """Return about the diagonal of the normal equations, L^T diag(C) L, squares for signs: it evens the steps out."""
    squares = [np.square(factor) for factor in others]
    own = gram if gram.ndim == 1 else np.diagonal(gram)
    diagonal = np.broadcast_to(own, (math.prod(shape) // len(gram), len(gram))).reshape(shape)
    found = product(back, [diagonal, *squares])
    return np.asarray(np.maximum(found, 1e-9 * float(found.max(initial=0.0))))
