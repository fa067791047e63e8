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
from nncomp_lowrank.network import fitted, product, regression, weighted
from nncomp_lowrank.svd import Array, square_root

_SPEC: Final = "mr,ras,sb->mab"
_BONDS_TRIED: Final = (4, 8, 12, 16, 24)
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
        outer = graded(min(shape) - 1, step, 16)
        return [
            (a, b, s, r)
            for a, b in near_square_pairs(shape[1])
            for s, r in pairs(_BONDS_TRIED, outer)
            if s < b and sum(map(math.prod, self.shapes(shape, (a, b, s, r)))) < r * sum(shape)
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
        tails = np.concatenate([[0.0], np.cumsum(np.maximum(values, 0.0))])
        widest = max(r for *_, r in ranks)
        v = u[:, ::-1][:, :widest].T @ weight
        image = weighted(v, gram)
        missed = {}
        for a, b, s in dict.fromkeys(one[:3] for one in ranks):
            first = _first_modes(_last_mode(v, (a, b), gram, s), a, image, gram)
            rest = v - first
            missed[a, b, s] = np.cumsum(np.maximum((weighted(rest, gram) * rest).sum(axis=1), 0.0))
        return [float(tails[len(weight) - r] + missed[a, b, s][r - 1]) for a, b, s, r in ranks]

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
        steps = contractions(["sb", "ras", "mr"], "ab")
        parts = zip(("v", "core", "u"), steps, (second, first, u), strict=True)
        return {suffix: np.ascontiguousarray(step.matrix(part), np.float32) for suffix, step, part in parts}

    def write(self, graph: Graph, op: Op, layer: Layer, weights: Sequence[Value]) -> None:
        """See :class:`Form`."""
        (inner, bond), (_, outer) = [tuple(map(int, weight.shape or ())) for weight in weights[:2]]
        sizes = {"m": layer.shape[0], "a": layer.shape[1] // inner, "b": inner, "r": outer, "s": bond}
        steps = contractions(["sb", "ras", "mr"], "ab")
        write_contractions(graph, op, steps, weights, sizes, data="ab", result="m")


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


def _first_modes(second: Array, modes: int, image: Array, gram: Array) -> Array:
    """Return, given B, the rows (r, K) of the best train; ``image`` is V C."""
    basis = np.kron(np.eye(modes), second)
    return regression(basis, image, gram) @ basis


def _evened(written: Array, read: Array) -> Array:
    """Return what to multiply the writer of each channel by, for equal root mean squares on both sides."""
    usable = (written > 0) & (read > 0)
    return np.asarray(np.where(usable, read / np.where(usable, written, 1.0), 1.0) ** 0.25)
