"""Forms for large matrix products: trains and trees of small tensors, written as Reshape, Transpose and MatMul.

Rows and columns of the matrix are split into modes, m_1 ... m_d and n_1 ... n_d. Of the ranks of these forms the first
is d, the second the rank of every bond.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import ClassVar, Final

import numpy as np

from nncomp.ir import Graph, Op, Value
from nncomp_lowrank.contraction import bond_sizes, contractions, write_contractions
from nncomp_lowrank.forms import Form
from nncomp_lowrank.ht import ht_matrix
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.lowering import Floats
from nncomp_lowrank.network import fitted, output_error, product
from nncomp_lowrank.svd import Array
from nncomp_lowrank.tt import near_square_modes, tt_matrix

ROWS: Final = "mnop"
COLUMNS: Final = "abcd"
BONDS: Final = "rstuvw"

_BONDS_TRIED: Final = (4, 8, 16, 32, 64)
_SMALLEST: Final = 1 << 16
"""Elements of a matrix that is worth it: a product with less costs hardly more than the movements around it."""


class NetworkForm(Form):
    """A matrix as a network of small tensors."""

    orders: ClassVar[tuple[int, ...]]

    @abstractmethod
    def letters(self, order: int) -> list[str]:
        """Return the axes of each factor, in the order in which the data meets them."""

    @abstractmethod
    def start(self, weight: Array, ranks: tuple[int, ...]) -> list[Array]:
        """Return factors of a matrix (O, I)."""

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """Matrix products."""
        return not kernel and groups == 1

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`Form`; ``step`` does not matter, for bonds are contracted together with a mode."""
        if math.prod(shape) < _SMALLEST:
            return []
        found = [(order, bond) for order in self.orders for bond in _BONDS_TRIED]
        return [
            ranks
            for ranks in found
            if min(*near_square_modes(shape[0], ranks[0]), *near_square_modes(shape[1], ranks[0])) > 1
            and sum(map(math.prod, self.shapes(shape, ranks))) < math.prod(shape) / 2
        ]

    def fitted(self, weight: Array, ranks: tuple[int, ...], gram: Array, *, sweeps: int) -> list[Array]:
        """See :class:`Form`."""
        order = ranks[0]
        modes = (*near_square_modes(weight.shape[0], order), *near_square_modes(weight.shape[1], order))
        factors = self.start(weight, ranks)
        return fitted(self._spec(order), factors, weight.reshape(modes), gram, sweeps=sweeps, outputs=order)

    def errors(self, weight: Array, ranks: Sequence[tuple[int, ...]], gram: Array) -> list[float]:
        """See :class:`Form`: what the factors miss before any fit, each input weighted by its own moment alone.

        The whole matrix of moments would cost as much for each rank as the final fit.
        """
        own = gram if gram.ndim == 1 else np.diagonal(gram)
        scale = output_error(weight, gram) / max(output_error(weight, own), np.finfo(np.float64).tiny)
        widest = {ranks_of_order[0]: ranks_of_order for ranks_of_order in sorted(ranks)}
        starts = {order: self.start(weight, one) for order, one in widest.items()}
        found = []
        for order, bond in ranks:
            # Bonds are in the order of what they are worth: narrower ones are the beginning of wider ones.
            shapes = self.shapes(weight.shape, (order, bond))
            cut = [factor[tuple(map(slice, shape))] for factor, shape in zip(starts[order], shapes, strict=True)]
            found.append(scale * output_error(self.product(cut, weight.shape) - weight, own))
        return found

    def product(self, factors: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """See :class:`Form`."""
        order = next(order for order in self.orders if len(self.letters(order)) == len(factors))
        return product(self._spec(order), factors).reshape(shape)

    def arrays(self, layer: Layer, factors: Sequence[Sequence[Array]]) -> dict[str, Floats]:
        """See :class:`Form`: each factor as the matrix that the data meets, (contracted, new axes)."""
        (parts,) = factors
        steps = contractions(self.letters(self._order(len(parts))), COLUMNS)
        return {
            name: np.ascontiguousarray(step.matrix(part), np.float32)
            for name, step, part in zip(_names(len(parts)), steps, _evenly(parts), strict=True)
        }

    def write(self, graph: Graph, op: Op, layer: Layer, weights: Sequence[Value]) -> None:
        """See :class:`Form`."""
        order = self._order(len(weights))
        modes = (near_square_modes(size, order) for size in layer.shape)
        known = dict(zip(ROWS[:order] + COLUMNS[:order], chain(*modes), strict=True))
        steps = contractions(self.letters(order), COLUMNS[:order])
        columns = [int(weight.shape[1] or 0) for weight in weights if weight.shape is not None]
        sizes = bond_sizes(steps, known, columns)
        named = dict(zip(_names(len(weights)), weights, strict=True))
        write_contractions(graph, op, steps, named, sizes, data=COLUMNS[:order], result=ROWS[:order])

    def _order(self, factors: int) -> int:
        return next(order for order in self.orders if len(self.letters(order)) == factors)

    def _spec(self, order: int) -> str:
        return ",".join(self.letters(order)) + f"->{ROWS[:order]}{COLUMNS[:order]}"


class TrainOfMatrices(NetworkForm):
    """TT-matrix: a train of small matrices, the last column mode first."""

    name: ClassVar[str] = "tt-matrix"
    orders: ClassVar[tuple[int, ...]] = (2, 3, 4)

    def letters(self, order: int) -> list[str]:
        """See :class:`NetworkForm`."""
        inner = range(order)
        cores = [
            (BONDS[k - 1] if k else "") + ROWS[k] + COLUMNS[k] + (BONDS[k] if k < order - 1 else "") for k in inner
        ]
        return cores[::-1]

    def start(self, weight: Array, ranks: tuple[int, ...]) -> list[Array]:
        """See :class:`NetworkForm`."""
        order, bond = ranks
        modes = [near_square_modes(size, order) for size in weight.shape]
        cores = tt_matrix(weight, modes[0], modes[1], [bond] * (order - 1))
        return [cores[-1][..., 0], *(core for core in cores[-2:0:-1]), cores[0][0]]

    def shapes(self, shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[tuple[int, ...]]:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        order, bond = ranks
        pairs = list(zip(*(near_square_modes(size, order) for size in shape), strict=True))
        left, bonds = 1, []
        for k, pair in enumerate(pairs[:-1]):
            left = min(bond, left * math.prod(pair), math.prod(map(math.prod, pairs[k + 1 :])))
            bonds.append(left)
        found = [(*bonds[k - 1 : k], *pairs[k], *bonds[k : k + 1]) for k in range(order)]
        return found[::-1]


class TreeOfMatrices(NetworkForm):
    """Hierarchical Tucker: two leaves and what joins them, or four leaves and three joints."""

    name: ClassVar[str] = "ht-matrix"
    orders: ClassVar[tuple[int, ...]] = (2, 4)

    def letters(self, order: int) -> list[str]:
        """See :class:`NetworkForm`."""
        if order == 2:
            return ["mar", "nbs", "rs"]
        return ["mar", "nbs", "rsv", "oct", "pdu", "tuw", "vw"]

    def start(self, weight: Array, ranks: tuple[int, ...]) -> list[Array]:
        """See :class:`NetworkForm`."""
        order, bond = ranks
        modes = [near_square_modes(size, order) for size in weight.shape]
        leaves, joints = ht_matrix(weight, modes[0], modes[1], bond)
        if order == 2:
            return [*leaves, joints[0][..., 0]]
        return [leaves[0], leaves[1], joints[0], leaves[2], leaves[3], joints[1], joints[2][..., 0]]

    def shapes(self, shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[tuple[int, ...]]:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        order, bond = ranks
        pairs = list(zip(*(near_square_modes(size, order) for size in shape), strict=True))
        leaves = [(*pair, min(bond, math.prod(pair))) for pair in pairs]
        if order == 2:
            return [*leaves, (leaves[0][2], leaves[1][2])]
        joints = [(a, b, min(bond, a * b)) for a, b in ((leaves[k][2], leaves[k + 1][2]) for k in (0, 2))]
        return [*leaves[:2], joints[0], *leaves[2:], joints[1], (joints[0][2], joints[1][2])]


def _names(factors: int) -> list[str]:
    """Return what is added to the names of the layer and its weight, in the order in which the data meets factors."""
    return [f"core{number + 1}" for number in range(factors)]


def _evenly(factors: Sequence[Array]) -> list[Array]:
    """Give all factors the same norm."""
    norms = [max(float(np.linalg.norm(factor)), np.finfo(np.float64).tiny) for factor in factors]
    mean = math.exp(sum(map(math.log, norms)) / len(norms))
    return [factor * (mean / norm) for factor, norm in zip(factors, norms, strict=True)]
