"""A matrix as a tensor train over its rows, whole, and its columns, split in two.

That is an SVD whose second factor is a train. Columns often have a structure that rows have not: behind a Flatten they
are channels times positions, while the neurons of a layer lie in any order. So the split saves most of what an SVD
spends on the columns, at little error, where trains of small matrices, which split both, lose much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product as pairs
from typing import ClassVar, Final

import numpy as np

from nncomp.ir import Graph, Op, Value
from nncomp_lowrank.contraction import contractions, write_contractions
from nncomp_lowrank.forms import Form, graded, leading
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.lowering import Floats
from nncomp_lowrank.network import fitted, product, regressed, regression, weighted
from nncomp_lowrank.svd import Array, square_root

_SPEC: Final = "mr,ras,sb->mab"
_MET: Final = ("sb", "ras", "mr")
_NAMES: Final = ("v", "core", "u")
"""Factors in the order in which the data meets them, and what is added to the names of the layer and its weight."""
_BONDS_TRIED: Final = (4, 8, 12, 16, 24)
_SMALLEST: Final = 1 << 12
"""Elements of a matrix that is worth it."""
_WIDEST: Final = 512
"""Largest r, for memory's sake: with more an SVD is not much larger."""
_MOST_UNKNOWNS: Final = 2048
"""Largest a s: A is solved for, for each of its rows, in that many unknowns."""
_MOST_OBLONG: Final = 4
"""Largest ratio of the two column modes."""


class TrainOverColumns(Form):
    """W[m, (a b)] ~ sum_rs U[m, r] A[r, a, s] B[s, b], a train over (m, a, b).

    Ranks are the columns' modes a and b, the bond s between them, and r. (Oseledets, "Tensor-train decomposition", SIAM
    J. Sci. Comput. 33 (2011), in the data's metric.)
    """

    name: ClassVar[str] = "tt-columns"

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """Matrix products."""
        return not kernel and groups == 1

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`Form`: columns split near the square, in either order."""
        if math.prod(shape) < _SMALLEST:
            return []
        outer = graded(min(min(shape) - 1, _WIDEST), step, 16)
        return [
            (a, b, s, r)
            for a, b in near_square_pairs(shape[1])
            for s, r in pairs(_BONDS_TRIED, outer)
            if s < b
            and a * s <= _MOST_UNKNOWNS
            and sum(map(math.prod, self.shapes(shape, (a, b, s, r)))) < r * sum(shape)
        ]

    def shapes(self, shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[tuple[int, ...]]:
        """See :class:`Form`."""
        a, b, s, r = ranks
        return [(shape[0], r), (r, a, s), (s, b)]

    def fitted(self, weight: Array, ranks: tuple[int, ...], gram: Array, *, sweeps: int) -> list[Array]:
        """See :class:`Form`.

        U of the SVD is orthonormal, so what the train of its other factor V misses in V x is missed in the output: the
        fit of A and B is one of r rows. Then U is solved for again.
        """
        a, b, s, r = ranks
        image = weighted(weight, gram)
        u = leading(image @ weight.T, r)
        v = u.T @ weight
        second = _last_mode(v, (a, b), gram, s)
        start = [np.zeros((r, a, s)), second]
        first, second = fitted("ras,sb->rab", start, v.reshape(r, a, b), gram, sweeps=sweeps)
        rows = product("ras,sb->rab", [first, second]).reshape(r, -1)
        return [regression(rows, image, gram), first, second]

    def errors(self, weight: Array, ranks: Sequence[tuple[int, ...]], gram: Array) -> list[float]:
        """See :class:`Form`: the eigenvalues that an SVD leaves out, and what the train misses of each row it keeps.

        Rows of V are fitted each on its own once B is known, so that all r take one fit.
        """
        if not ranks:
            return []
        values, u = np.linalg.eigh(weighted(weight, gram) @ weight.T)
        values, u = np.maximum(values[::-1], 0.0), u[:, ::-1]
        widest = max(r for *_, r in ranks)
        v = u[:, :widest].T @ weight
        image = weighted(v, gram)
        missed = {}
        for modes_and_bond in dict.fromkeys(one[:3] for one in ranks):
            a, b, s = modes_and_bond
            kept = _kept(image.reshape(-1, a, b), _last_mode(v, (a, b), gram, s), gram)
            missed[modes_and_bond] = np.cumsum(np.maximum(values[:widest] - kept, 0.0))
        return [float(values[r:].sum() + missed[a, b, s][r - 1]) for a, b, s, r in ranks]

    def product(self, factors: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """See :class:`Form`."""
        return product(_SPEC, factors).reshape(shape)

    def arrays(self, layer: Layer, factors: Sequence[Sequence[Array]]) -> dict[str, Floats]:
        """See :class:`Form`: the channels between two factors get like size, as between those of an SVD."""
        ((u, first, second),) = factors
        bond = _evened(np.square(second).mean(axis=1), np.square(first).mean(axis=(0, 1)))
        first, second = first / bond, second * bond[:, None]
        outer = _evened(np.square(first).mean(axis=(1, 2)), np.square(u).mean(axis=0))
        u, first = u / outer, first * outer[:, None, None]
        parts = zip(_NAMES, contractions(_MET, "ab"), (second, first, u), strict=True)
        return {suffix: np.ascontiguousarray(step.matrix(part), np.float32) for suffix, step, part in parts}

    def write(self, graph: Graph, op: Op, layer: Layer, weights: Sequence[Value]) -> None:
        """See :class:`Form`."""
        modes = {"m": layer.shape[0], "a": layer.shape[1] // _size(weights[0], 0), "b": _size(weights[0], 0)}
        sizes = modes | {"s": _size(weights[0], 1), "r": _size(weights[1], 1)}
        steps = contractions(_MET, "ab")
        named = dict(zip(_NAMES, weights, strict=True))
        write_contractions(graph, op, steps, named, sizes, data="ab", result="m")


def near_square_pairs(size: int) -> list[tuple[int, int]]:
    """Return (a, b) with a b = size, near the square, in either order; the most square first, four at most."""
    found = [(a, size // a) for a in range(2, size // 2 + 1) if size % a == 0]
    found = [(a, b) for a, b in found if max(a, b) <= _MOST_OBLONG * min(a, b)]
    return sorted(found, key=lambda pair: (max(pair), -pair[0]))[:4]


def _last_mode(v: Array, modes: tuple[int, int], gram: Array, bond: int) -> Array:
    """Return B (s, b): the leading space of the last mode, whitened by its moments summed over the other one."""
    a, b = modes
    moments = (
        np.diag(gram.reshape(a, b).sum(axis=0)) if gram.ndim == 1 else np.einsum("abac->bc", gram.reshape(a, b, a, b))
    )
    root, inverse = square_root(moments)
    unfolded = v.reshape(-1, b)
    return np.asarray(leading(root @ (unfolded.T @ unfolded) @ root, bond).T @ inverse)


def _kept(image: Array, second: Array, gram: Array) -> Array:
    """Return, for each row of V, how much of its output's square is kept by the best train with this B.

    Args:
        image: V C, (r, a, b).
        second: B, (s, b).
        gram: C, (K, K) or (K,).
    """
    _, a, b = image.shape
    wanted = image @ second.T
    if gram.ndim == 1:
        inner = np.einsum("sb,ab,tb->ast", second, gram.reshape(a, b), second, optimize=True)
        best = np.stack([regressed(inner[k], wanted[:, k]) for k in range(a)], axis=1)
        return np.asarray((wanted * best).sum(axis=(1, 2)))
    half = np.tensordot(gram.reshape(a, b, a, b), second, (3, 1))  # (a, b, a', s')
    inner = np.tensordot(half, second, (1, 1)).transpose(0, 3, 1, 2).reshape(wanted[0].size, -1)
    flat = wanted.reshape(len(wanted), -1)
    return np.asarray((flat * regressed(inner, flat)).sum(axis=1))


def _size(value: Value, axis: int) -> int:
    assert value.shape is not None
    size = value.shape[axis]
    assert isinstance(size, int)
    return size


def _evened(written: Array, read: Array) -> Array:
    """Return what to multiply the writer of each channel by, for equal root mean squares on both sides."""
    usable = (written > 0) & (read > 0)
    return np.asarray(np.where(usable, read / np.where(usable, written, 1.0), 1.0) ** 0.25)
