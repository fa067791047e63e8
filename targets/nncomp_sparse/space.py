"""The iteration space of one layer: its dims, and which elements of each tensor a point of it touches.

Dims: n batch, g group, m output channel, c input channel, then p0 r0, p1 r1, ... for each spatial axis. An axis of the
input is ``stride * p + dilation * r``, each other axis of a tensor is one dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from nncomp.ops import LoopNest

Axis: TypeAlias = tuple[tuple[int, int], ...]
"""Terms of an axis: (index of the dim, coefficient); one term, or two for a sliding window."""


@dataclass(frozen=True)
class Space:
    """Dims with their sizes, and the axes of the three tensors.

    Attributes:
        dims, sizes: By position.
        tensors: Axes of ``weight``, ``input`` and ``output``.
    """

    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    tensors: Mapping[str, tuple[Axis, ...]]

    @classmethod
    def of(cls, nest: LoopNest) -> Space:
        """Return the space of a loop nest."""
        dims, sizes = ["n", "g", "m", "c"], [nest.batch, nest.groups, nest.outputs, nest.inputs]
        weight: list[Axis] = [((1, 1),), ((2, 1),), ((3, 1),)]
        data: list[Axis] = [((0, 1),), ((1, 1),), ((3, 1),)]
        output: list[Axis] = [((0, 1),), ((1, 1),), ((2, 1),)]
        for number, (positions, kernel, stride, dilation) in enumerate(
            zip(nest.spatial, nest.kernel, nest.strides, nest.dilations, strict=True)
        ):
            p, r = len(dims), len(dims) + 1
            dims += [f"p{number}", f"r{number}"]
            sizes += [positions, kernel]
            weight.append(((r, 1),))
            data.append(((p, stride), (r, dilation)))
            output.append(((p, 1),))
        return cls(tuple(dims), tuple(sizes), {"weight": tuple(weight), "input": tuple(data), "output": tuple(output)})

    @cached_property
    def macs(self) -> int:
        """Points of the space."""
        return math.prod(self.sizes)

    def index(self, dim: str) -> int:
        """Return the position of a dim."""
        return self.dims.index(dim)

    def relevant(self, tensor: str) -> frozenset[int]:
        """Return the dims that a tensor's elements depend on."""
        return frozenset(dim for axis in self.tensors[tensor] for dim, _ in axis)

    def elements(self, tensor: str, sizes: Sequence[int] | None = None) -> int:
        """Return how many elements of a tensor a box of the space touches; the whole space by default."""
        extents = self.sizes if sizes is None else sizes
        return math.prod(touched(axis, extents) for axis in self.tensors[tensor])


def touched(axis: Axis, extents: Sequence[int]) -> int:
    """Return how many places of an axis a box touches.

    Of the pairs (p, r), those that have a twin (p + d, r - s) with the same ``s p + d r``, s and d without their common
    factor, count once: ``P R - max(P - d, 0) max(R - s, 0)``.
    """
    if len(axis) == 1:
        return extents[axis[0][0]]
    (p, stride), (r, dilation) = axis
    common = math.gcd(stride, dilation)
    return extents[p] * extents[r] - max(extents[p] - dilation // common, 0) * max(extents[r] - stride // common, 0)
