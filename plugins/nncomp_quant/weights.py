"""How the weight of one op becomes INT8: which axis keeps its own scales, and how wide they are."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from nncomp.ir import Node, Op
from nncomp.ops import QuantRole
from nncomp_quant.scales import FloatArray, narrow_scale, pair_safe_scale, quantize_weight, symmetric_scale


@dataclass(frozen=True, slots=True)
class WeightQuantizer:
    """Weight quantization of a whole model.

    Attributes:
        per_channel: One scale an output channel; else one a tensor.
        pair_safe: Leave room for 16-bit pair sums; see :func:`nncomp_quant.scales.pair_safe_scale`.
        narrow: Ops whose weights get four bits.
        fixed: Scales of ops whose weights are rounded already.
    """

    per_channel: bool = True
    pair_safe: bool = True
    narrow: Set[Op] = frozenset()
    fixed: Mapping[Op, FloatArray] = field(default_factory=dict)

    def mapped(self, nodes: Mapping[Node, Node]) -> WeightQuantizer:
        """Return the same for a copy of the graph, given where each node went."""
        fixed = {cast(Op, nodes[op]): scale for op, scale in self.fixed.items()}
        return replace(self, narrow=frozenset(cast(Op, nodes[op]) for op in self.narrow), fixed=fixed)

    def with_scales(self, fixed: Mapping[Op, FloatArray]) -> WeightQuantizer:
        """Return the same with scales of ops that are not to be chosen again."""
        return replace(self, fixed={**self.fixed, **fixed})

    def bits(self, op: Op) -> int:
        """Return the width of the op's weight."""
        return 4 if op in self.narrow else 8

    def axis(self, op: Op, role: QuantRole) -> int | None:
        """Return the axis that keeps its own scales, None for one scale in all."""
        return role.weight_axis(op) if self.per_channel and role.weight_axis is not None else None

    def scale(self, op: Op, array: npt.NDArray[Any], role: QuantRole) -> FloatArray:
        """Return the weight's scales, float32, shape (C,) or ()."""
        if op in self.fixed:
            return self.fixed[op]
        axis = self.axis(op, role)
        if op in self.narrow:
            return narrow_scale(array, axis, bits=self.bits(op))
        # Depthwise kernels multiply one channel at a time, in 32 bits: they have no pairs. With several outputs a
        # channel, the kernel is the dense one.
        depthwise = array.ndim > 2 and array.shape[:2] == (op.attr("group", 1), 1)
        if role.weight_axis is None or depthwise or not self.pair_safe:
            return symmetric_scale(array, axis)
        return pair_safe_scale(array, role.weight_axis(op), per_channel=axis is not None)

    def rounded(self, op: Op, array: npt.NDArray[Any], role: QuantRole) -> FloatArray:
        """Return the float weight that the integers stand for, s * q, in the shape of ``array``."""
        axis = self.axis(op, role)
        codes, scale = quantize_weight(array, axis, bits=self.bits(op), scale=self.scale(op, array, role))
        if axis is None:
            return np.asarray(codes * scale, np.float32)
        shape = [1] * array.ndim
        shape[axis % array.ndim] = -1
        return np.asarray(codes * scale.reshape(shape), np.float32)
