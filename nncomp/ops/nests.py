"""The loop nests of ops that multiply and accumulate: what an accelerator, or anything else that tiles loops, asks for.

All of them are grouped convolutions, matrix products too (no spatial axes)::

    y[n, g, m, p...] += x[n, g, c, stride * p + dilation * r ...] * w[g, m, c, r...]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import Op


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNest:
    """One nest of an op.

    Attributes:
        batch, groups, outputs, inputs: Bounds of n, g, m and c; ``outputs`` and ``inputs`` are those of one group.
        spatial: Bounds of p, one a spatial axis; empty for matrix products.
        kernel, strides, dilations: One a spatial axis.
        sizes: Spatial sizes of x without padding; empty for matrix products.
        data, weight: Input slots of x and w; None for a value inside of the op (attention's probabilities).
        channel_axis: Axis of x that holds g and c, or c alone; None when no axis does.
        weight_shape, weight_axes: ``w.reshape(weight_shape).transpose(weight_axes)`` is (g, m, c, r...); empty when w
            has no such form.
    """

    batch: int = 1
    groups: int = 1
    outputs: int = 1
    inputs: int = 1
    spatial: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    data: int | None = 0
    weight: int | None = 1
    channel_axis: int | None = None
    weight_shape: tuple[int, ...] = ()
    weight_axes: tuple[int, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates, padding counted as data."""
        positions = self.batch * math.prod(self.spatial)
        return positions * self.groups * self.outputs * self.inputs * math.prod(self.kernel)

    def arranged(self, weight: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """Return a view of the op's weight as (g, m, c, r...); None when it has no such form."""
        if not self.weight_shape or weight.size != math.prod(self.weight_shape):
            return None
        return np.transpose(weight.reshape(self.weight_shape), self.weight_axes)


NestRule: TypeAlias = Callable[[Op], tuple[LoopNest, ...] | None]
"""The nests of an op, one behind the other; None when a shape that they need is not static."""
