"""Forms of decomposition: which factors a layer becomes, where they start from, and which ranks are worth a look.

A form is an einsum over the axes o (output channels), i (input channels of the group) and one letter a spatial axis.
Factors run from the output to the input, so the last one meets the data first. Each factor's first axis is what it
writes and, unless it works channel by channel, its second what it reads: it is a layer of its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from nncomp.ir import Graph, Op, Value
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.lowering import Floats, Stage, balanced, stage_weight, write_chain
from nncomp_lowrank.network import fitted, output_error, product, regression, weighted
from nncomp_lowrank.svd import Array, column_signs, square_root

SPATIAL: Final = "hwd"
"""Letters of the spatial axes, in order."""

MAX_CHOICES: Final = 12
"""Ranks looked at along one axis, at most; fewer of forms that take long to judge."""


class Form(ABC):
    """One way to decompose a layer.

    Class attributes:
        name: As in the option ``forms``.
        sweeps_to_judge: Rounds of improvement without which its error would be judged too high.
    """

    name: ClassVar[str]
    sweeps_to_judge: ClassVar[int] = 0

    @abstractmethod
    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """True when layers with this kernel, () for matrix products, can take the form."""

    @abstractmethod
    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """Return ranks to choose from for a weight (O, I, kernel...), multiples of ``step``."""

    @abstractmethod
    def shapes(self, shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Return the shapes of the factors of a weight (O, I, kernel...)."""

    @abstractmethod
    def fitted(self, weight: Array, ranks: tuple[int, ...], gram: Array, *, sweeps: int) -> list[Array]:
        """Return factors of a weight with little output error.

        Args:
            weight: (O, I, kernel...), of one group.
            ranks: From :meth:`ranks`.
            gram: Second moments of what the weight multiplies, (K, K), or (K,) for a diagonal where there is no kernel.
            sweeps: Rounds of improvement over all factors.
        """

    def errors(self, weight: Array, ranks: Sequence[tuple[int, ...]], gram: Array) -> list[float]:
        """Return the squared output error at each of ``ranks``, as little work tells it.

        What is written in the end is fitted better. Arguments are those of :meth:`fitted`.
        """
        found = []
        for one in ranks:
            factors = self.fitted(weight, one, gram, sweeps=self.sweeps_to_judge)
            found.append(output_error(self.product(factors, weight.shape) - weight, gram))
        return found

    @abstractmethod
    def product(self, factors: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """Return the weight (O, I, kernel...) that factors of one group make."""

    @abstractmethod
    def arrays(self, layer: Layer, factors: Sequence[Sequence[Array]]) -> dict[str, Floats]:
        """Return the factors of all groups as they are stored, by what is added to the name of the weight."""

    @abstractmethod
    def write(self, graph: Graph, op: Op, layer: Layer, weights: Sequence[Value]) -> None:
        """Write ops in place of ``op``, which read ``weights``, values of ``graph`` in the order of :meth:`arrays`."""


class ChainForm(Form):
    """A form whose factors are layers of the kind of the one that they replace, one behind the other."""

    @abstractmethod
    def spec(self, spatial: int) -> str:
        """Return the einsum of the factors to the weight; rank letters appear in the order of the ranks."""

    @abstractmethod
    def stages(self, spatial: int) -> list[Stage]:
        """Return a stage for each factor, in the order of the factors."""

    @abstractmethod
    def start(self, weight: Array, ranks: tuple[int, ...], gram: Array) -> list[Array]:
        """Return factors to improve on; see :meth:`fitted`."""

    exact: ClassVar[bool] = False
    """:meth:`start` is the optimum already."""

    def shapes(self, shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[tuple[int, ...]]:
        """See :class:`Form`."""
        inputs, output = self.spec(len(shape) - 2).split("->")
        sizes = dict(zip(output, shape, strict=True))
        sizes |= dict(zip(dict.fromkeys(one for one in inputs if one not in "," + output), ranks, strict=True))
        return [tuple(sizes[one] for one in letters) for letters in inputs.split(",")]

    def fitted(self, weight: Array, ranks: tuple[int, ...], gram: Array, *, sweeps: int) -> list[Array]:
        """See :class:`Form`."""
        factors = self.start(weight, ranks, gram)
        return factors if self.exact else fitted(self.spec(weight.ndim - 2), factors, weight, gram, sweeps=sweeps)

    def product(self, factors: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """See :class:`Form`."""
        return product(self.spec(len(shape) - 2), factors)

    def arrays(self, layer: Layer, factors: Sequence[Sequence[Array]]) -> dict[str, Floats]:
        """See :class:`Form`; factors are balanced."""
        stages = self.stages(len(layer.kernel))
        joined = [np.concatenate(parts) for parts in zip(*factors, strict=True)]
        return {
            stage.suffix: stage_weight(layer, factor, stage)
            for stage, factor in zip(stages, balanced(joined, stages), strict=True)
        }

    def write(self, graph: Graph, op: Op, layer: Layer, weights: Sequence[Value]) -> None:
        """See :class:`Form`."""
        write_chain(graph, op, layer, weights, self.stages(len(layer.kernel)))


class Svd(ChainForm):
    """A k x k layer with r outputs, then a 1 x 1 one: principal components of the output (reduced-rank regression).

    Matrix products: W ~ U V. (Zhang et al., "Accelerating very deep convolutional networks for classification and
    detection", TPAMI 2016, without the nonlinearity; data-free it is the truncated SVD.)
    """

    name: ClassVar[str] = "svd"
    exact: ClassVar[bool] = True

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """All layers."""
        return len(kernel) <= len(SPATIAL)

    def spec(self, spatial: int) -> str:
        """See :class:`Form`."""
        return f"or,ri{SPATIAL[:spatial]}->oi{SPATIAL[:spatial]}"

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`Form`."""
        return [(r,) for r in graded(min(shape[0], math.prod(shape[1:])) - 1, step)]

    def errors(self, weight: Array, ranks: Sequence[tuple[int, ...]], gram: Array) -> list[float]:
        """See :class:`Form`: the eigenvalues of T C T^T that are left out."""
        rows = weight.reshape(weight.shape[0], -1)
        values = np.linalg.eigvalsh(weighted(rows, gram) @ rows.T)
        return [max(float(values[: len(values) - r].sum()), 0.0) for (r,) in ranks]

    def start(self, weight: Array, ranks: tuple[int, ...], gram: Array) -> list[Array]:
        """See :class:`Form`: U has the leading eigenvectors of T C T^T, V = U^T T."""
        rows = weight.reshape(weight.shape[0], -1)
        u = leading(weighted(rows, gram) @ rows.T, ranks[0])
        return [u, (u.T @ rows).reshape(-1, *weight.shape[1:])]

    def stages(self, spatial: int) -> list[Stage]:
        """See :class:`Form`."""
        return [Stage("u"), Stage("v", tuple(range(spatial)))]


class SvdOfInputs(ChainForm):
    """A 1 x 1 layer that reduces the inputs to r, then the k x k one."""

    name: ClassVar[str] = "svd-in"

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """Convolutions that are larger than 1 x 1: elsewhere it is the SVD."""
        return 1 <= len(kernel) <= len(SPATIAL) and math.prod(kernel) > 1

    def spec(self, spatial: int) -> str:
        """See :class:`Form`."""
        return f"or{SPATIAL[:spatial]},ri->oi{SPATIAL[:spatial]}"

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`Form`."""
        return [(r,) for r in choices(shape[1] - 1, step)]

    def start(self, weight: Array, ranks: tuple[int, ...], gram: Array) -> list[Array]:
        """See :class:`Form`; the k x k factor is solved for afterwards."""
        v, lift = input_basis(weight, ranks[0], gram)
        return [np.einsum("oi...,ir->or...", weight, lift), v]

    def stages(self, spatial: int) -> list[Stage]:
        """See :class:`Form`."""
        return [Stage("u", tuple(range(spatial))), Stage("v")]


class Spatial(ChainForm):
    """A k x 1 layer with r outputs, then a 1 x k one.

    (Jaderberg, Vedaldi, Zisserman, "Speeding up convolutional neural networks with low rank expansions", BMVC 2014.)
    """

    name: ClassVar[str] = "spatial"

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """Convolutions over two axes, both longer than one."""
        return len(kernel) == 2 and min(kernel) > 1

    def spec(self, spatial: int) -> str:
        """See :class:`Form`."""
        return "orw,rih->oihw"

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`Form`."""
        return [(r,) for r in choices(min(shape[0] * shape[3], shape[1] * shape[2]) - 1, step)]

    def start(self, weight: Array, ranks: tuple[int, ...], gram: Array) -> list[Array]:
        """See :class:`Form`: SVD of the matrix (i h), (o w), its rows whitened by the moments of columns alike."""
        outputs, inputs, high, wide = weight.shape
        moments = gram.reshape(inputs * high, wide, inputs * high, wide)
        root, inverse = square_root(np.einsum("awbw->ab", moments))
        rows = weight.transpose(1, 2, 0, 3).reshape(inputs * high, outputs * wide)
        basis = leading(root @ rows @ rows.T @ root, ranks[0])
        second = (basis.T @ root @ rows).reshape(-1, outputs, wide)
        return [second.transpose(1, 0, 2), (basis.T @ inverse).reshape(-1, inputs, high)]

    def stages(self, spatial: int) -> list[Stage]:
        """See :class:`Form`."""
        return [Stage("u", (1,)), Stage("v", (0,))]


class Tucker(ChainForm):
    """1 x 1 to b channels, k x k to a, 1 x 1 to the outputs: :mod:`nncomp_lowrank.tucker` in the data's metric."""

    name: ClassVar[str] = "tucker"

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """As :class:`SvdOfInputs`."""
        return 1 <= len(kernel) <= len(SPATIAL) and math.prod(kernel) > 1

    def spec(self, spatial: int) -> str:
        """See :class:`Form`."""
        return f"oa,ab{SPATIAL[:spatial]},bi->oi{SPATIAL[:spatial]}"

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`Form`: pairs within a factor of two of the layer's own proportion."""
        wide, narrow = choices(shape[0] - 1, step), choices(shape[1] - 1, step, 6)
        share = shape[0] / shape[1]
        return [(a, b) for a in wide for b in narrow if 0.5 <= a / (b * share) <= 2]

    def errors(self, weight: Array, ranks: Sequence[tuple[int, ...]], gram: Array) -> list[float]:
        """See :class:`Form`: for each rank of the inputs, the eigenvalues of the outputs that are not taken."""
        whole = output_error(weight, gram)
        kept = {b: np.linalg.eigvalsh(self._given_inputs(weight, b, gram)[2])[::-1] for b in {b for _, b in ranks}}
        return [max(whole - float(kept[b][:a].sum()), 0.0) for a, b in ranks]

    def start(self, weight: Array, ranks: tuple[int, ...], gram: Array) -> list[Array]:
        """See :class:`Form`: given the input basis, the two other factors are the optimum in closed form."""
        v, best, outputs = self._given_inputs(weight, ranks[1], gram)
        u = leading(outputs, ranks[0])
        return [u, (u.T @ best).reshape(-1, ranks[1], *weight.shape[2:]), v]

    def _given_inputs(self, weight: Array, rank: int, gram: Array) -> tuple[Array, Array, Array]:
        """Return an input basis, the best layer on top of it, (O, b k k), and the moments of its outputs, (O, O)."""
        axes = SPATIAL[: weight.ndim - 2]
        v, _ = input_basis(weight, rank, gram)
        unit = np.eye(rank * math.prod(weight.shape[2:])).reshape(-1, rank, *weight.shape[2:])
        basis = product(f"ab{axes},bi->ai{axes}", [unit, v]).reshape(len(unit), -1)
        best = regression(basis, weight.reshape(weight.shape[0], -1) @ gram, gram)
        return v, best, best @ (basis @ gram @ basis.T) @ best.T

    def stages(self, spatial: int) -> list[Stage]:
        """See :class:`Form`."""
        return [Stage("u"), Stage("core", tuple(range(spatial))), Stage("v")]


def choices(most: int, step: int, count: int = MAX_CHOICES) -> list[int]:
    """Return multiples of ``step`` up to ``most``, evenly thinned to ``count``."""
    found = list(range(step, most + 1, step))
    if len(found) <= count:
        return found
    picked = np.unique(np.rint(np.linspace(0, len(found) - 1, count)).astype(int))
    return [found[place] for place in picked]


def graded(most: int, step: int, count: int = 24) -> list[int]:
    """Return multiples of ``step`` up to ``most``, thinned to ``count`` at most, in equal ratios.

    A large matrix that is to keep a fiftieth of its weights chooses between ranks of which the first even step is ten
    times too large. For forms to which many ranks are no more work than one.
    """
    found = list(range(step, most + 1, step))
    if len(found) <= count:
        return found
    picked = np.unique(np.rint(np.geomspace(1, len(found), count)).astype(int)) - 1
    return [found[place] for place in picked]


def leading(gram: Array, rank: int) -> Array:
    """Return the ``rank`` leading eigenvectors of a symmetric matrix, in columns, signs fixed."""
    basis = np.linalg.eigh(gram)[1][:, ::-1][:, :rank]
    return basis * column_signs(basis)


def input_basis(weight: Array, rank: int, gram: Array) -> tuple[Array, Array]:
    """Return what reduces the input channels to ``rank``, (r, I), and what lifts them back, (I, r).

    The leading space of the input unfolding, whitened by the channels' second moments: the sum, over kernel positions,
    of the moments of channels at one position.
    """
    inputs, count = weight.shape[1], math.prod(weight.shape[2:])
    moments = np.einsum("ikjk->ij", gram.reshape(inputs, count, inputs, count))
    root, inverse = square_root(moments)
    unfolded = np.moveaxis(weight, 1, 0).reshape(inputs, -1)
    basis = leading(root @ (unfolded @ unfolded.T) @ root, rank)
    return basis.T @ inverse, root @ basis
