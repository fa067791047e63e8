"""Forms with a stage for each spatial axis: tensor trains, and CP as a depthwise-separable convolution."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from nncomp_lowrank.cp import cp_als
from nncomp_lowrank.forms import SPATIAL, ChainForm, choices, input_basis
from nncomp_lowrank.lowering import Stage
from nncomp_lowrank.svd import Array, square_root
from nncomp_lowrank.tt import tt_svd


class TensorTrain(ChainForm):
    """1 x 1, k x 1, 1 x k, 1 x 1, all dense: a tensor train over (i, h, w, o), with one rank throughout."""

    name: ClassVar[str] = "tt"
    sweeps_to_judge: ClassVar[int] = 1

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """Convolutions over two axes, both longer than one."""
        return len(kernel) == 2 and min(kernel) > 1

    def spec(self, spatial: int) -> str:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        return "oa,abw,bch,ci->oihw"

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        return [(r, r, r) for r in choices(min(shape[:2]) - 1, step, 5)]

    def start(self, weight: Array, ranks: tuple[int, ...], gram: Array) -> list[Array]:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        v, lift = input_basis(weight, ranks[2], gram)
        inner = np.einsum("oihw,ic->chwo", weight, lift)
        first, second, third = tt_svd(inner.reshape(-1, *inner.shape[2:]), (ranks[1], ranks[0]))
        core = first.reshape(ranks[2], weight.shape[2], -1).transpose(2, 0, 1)
        return [third[:, :, 0].T, second.transpose(2, 0, 1), core, v]

    def stages(self, spatial: int) -> list[Stage]:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        return [Stage("u"), Stage("core2", (1,)), Stage("core1", (0,)), Stage("v")]


class Cp(ChainForm):
    """1 x 1, depthwise k x 1, depthwise 1 x k, 1 x 1: a sum of r outer products.

    (Lebedev et al., "Speeding-up convolutional neural networks using fine-tuned CP-decomposition", ICLR 2015.)
    """

    name: ClassVar[str] = "cp"

    def fits(self, kernel: tuple[int, ...], groups: int) -> bool:
        """Convolutions over one axis or more that are larger than 1 x 1."""
        return 1 <= len(kernel) <= len(SPATIAL) and math.prod(kernel) > 1

    def spec(self, spatial: int) -> str:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        axes = SPATIAL[:spatial]
        return f"or,{','.join(f'r{axis}' for axis in reversed(axes))},ri->oi{axes}"

    def ranks(self, shape: tuple[int, ...], step: int) -> list[tuple[int, ...]]:
        """See :class:`~nncomp_lowrank.forms.Form`: up to three times the wider side."""
        return [(r,) for r in choices(min(3 * max(shape[:2]), math.prod(shape) // max(shape)), step, 4)]

    def start(self, weight: Array, ranks: tuple[int, ...], gram: Array) -> list[Array]:
        """See :class:`~nncomp_lowrank.forms.Form`: ALS on the weight with whitened input channels."""
        inputs, count = weight.shape[1], math.prod(weight.shape[2:])
        root, inverse = square_root(np.einsum("ikjk->ij", gram.reshape(inputs, count, inputs, count)))
        white = np.einsum("oi...,ij->oj...", weight, root)
        outputs, channels, *axes = cp_als(white, ranks[0], sweeps=15, tolerance=1e-4)
        return [outputs, *(axis.T for axis in reversed(axes)), (inverse @ channels).T]

    def stages(self, spatial: int) -> list[Stage]:
        """See :class:`~nncomp_lowrank.forms.Form`."""
        axes = [Stage(f"core{axis + 1}", (axis,), depthwise=True) for axis in reversed(range(spatial))]
        return [Stage("u"), *axes, Stage("v")]
