"""Convolutions.

Weights are (out channels, in channels / group, kernel...), of transposed ones (in, out / group, kernel...).
"""

from __future__ import annotations

import math

from nncomp.ir import Op
from nncomp.ops.counting import Counted, shape, size
from nncomp.ops.coupling import stays
from nncomp.ops.inference import convolved
from nncomp.ops.labels.spatial import causal_convolution, convolution, convolution_of, transposed_convolution
from nncomp.ops.matrix import conv_view
from nncomp.ops.nest_rules import convolution_nest, transposed_nest
from nncomp.ops.roles import sensitive
from nncomp.ops.semantics import CostRule, OpSemantics, QuantRole, Role, Scaling, rows

BILINEAR_STEPS = 8
"""Scalar operations to read one element between pixels: four products, four sums."""


def convolution_cost(weight: int = 1, bias: int | None = 2) -> CostRule:
    """Return the rule: output elements * in channels / group * kernel.

    It holds wherever output channels are the weight's first axis, whatever the layout of the rest.
    """

    def count(op: Op) -> Counted:
        elements, weights = size(op.output), shape(op.input(weight))
        if elements is None or not weights:
            return None
        has_bias = bias is not None and op.input(bias) is not None
        return elements * math.prod(weights[1:]), elements if has_bias else 0

    return count


def transposed_cost(bias: int) -> CostRule:
    """Return the rule: input elements * out channels / group * kernel."""

    def count(op: Op) -> Counted:
        read, weights, written = size(op.input(0)), shape(op.input(1)), size(op.output)
        if read is None or not weights or written is None:
            return None
        return read * math.prod(weights[1:]), written if op.input(bias) is not None else 0

    return count


def _deformable(op: Op) -> Counted:
    """Count a convolution, and for each output position, input channel and kernel element a read between pixels."""
    out, weights, read = shape(op.output), shape(op.input(1)), shape(op.input(0))
    if out is None or weights is None or read is None or min(len(out), len(weights), len(read)) < 3:
        return None
    samples = math.prod(out[2:]) * out[0] * read[1] * math.prod(weights[2:])
    return math.prod(out) * math.prod(weights[1:]), samples * BILINEAR_STEPS


def output_channels(op: Op) -> int:
    """Axis of a convolution's output channels in its weight."""
    return 0


def transposed_output_channels(op: Op) -> int:
    """Axis of a transposed convolution's output channels in its weight.

    The axis holds out channels / group: with ``group`` > 1 each of its scales is that of one channel in every group, so
    whatever has a scale for each output channel (an int32 bias) repeats the scales ``group`` times.
    """
    return 1


_CONV = QuantRole(Role.COMPUTE, weight=1, weight_axis=output_channels, bias=2)
_FUSED = QuantRole(Role.COMPUTE, data=(0, 3), weight=1, weight_axis=output_channels, bias=2)  # input 3 is added
_STATEFUL = sensitive("its state carries rounding errors along the sequence")

ROWS: tuple[OpSemantics, ...] = (
    *rows(
        "Conv",
        axes=convolution,
        cost=convolution_cost(),
        quant=_CONV,
        scaling=Scaling.LINEAR,
        matrix=conv_view,
        nest=convolution_nest(),
    ),
    *rows(
        "ConvTranspose",
        axes=transposed_convolution,
        cost=transposed_cost(bias=2),
        quant=QuantRole(Role.COMPUTE, weight=1, weight_axis=transposed_output_channels, bias=2),
        matrix=conv_view,
        nest=transposed_nest,
    ),
    *rows(
        "DeformConv",
        axes=stays("samples lie where offsets say"),
        cost=_deformable,
        quant=QuantRole(Role.COMPUTE, weight=1, weight_axis=output_channels, bias=3),
    ),
    *rows("CausalConvWithState", axes=causal_convolution, cost=convolution_cost(), quant=_STATEFUL),
    *rows(
        "CausalConvWithState", axes=causal_convolution, domain="com.microsoft", cost=convolution_cost(), quant=_STATEFUL
    ),
    *rows(
        "FusedConv",
        axes=convolution_of(added=3),
        domain="com.microsoft",
        infer=convolved(),
        cost=convolution_cost(),
        quant=_FUSED,
        nest=convolution_nest(),
    ),
    *rows(
        "NhwcFusedConv",
        axes=stays("keeps channels last"),
        domain="com.microsoft",
        infer=convolved(),
        cost=convolution_cost(),
        quant=_FUSED,
        nest=convolution_nest(),
    ),
    *rows("NhwcConv", axes=stays("keeps channels last"), domain="com.microsoft", cost=convolution_cost(), quant=_CONV),
    *rows(
        "ConvTransposeWithDynamicPads",
        axes=stays("its padding is computed"),
        domain="com.microsoft",
        cost=transposed_cost(bias=3),
        quant=QuantRole(Role.COMPUTE, weight=1, weight_axis=transposed_output_channels, bias=3),
    ),
)
