"""Ops that put the same elements somewhere else: reshapes, transposes, concatenation, padding, repetition."""

from __future__ import annotations

from nncomp.ir import Op
from nncomp.ops.counting import free
from nncomp.ops.coupling import stays
from nncomp.ops.inference import like_input
from nncomp.ops.labels.enlarging import center_crop_pad, expand, pad, tile
from nncomp.ops.labels.joining import concat, transpose
from nncomp.ops.labels.pointwise import unary
from nncomp.ops.labels.reshaping import depth_to_space, reinterpreted, reshape, space_to_depth, squeeze, unsqueeze
from nncomp.ops.labels.selecting import reverse_sequence, trilu
from nncomp.ops.roles import ELEMENTWISE, ELEMENTWISE_ALL, PASSTHROUGH
from nncomp.ops.semantics import OpSemantics, QuantRole, Scaling, rows


def _pad_role(op: Op) -> QuantRole:
    """Let zeros and copies of elements through; any other constant may lie outside the input's range.

    Zero is a value of every scale: its zero point.
    """
    if op.attr("mode", "constant") != "constant" or not _may_differ_from_zero(op):
        return PASSTHROUGH
    return ELEMENTWISE


def _may_differ_from_zero(op: Op) -> bool:
    value = op.input(2)
    if value is None:
        return bool(op.attr("value", 0.0))  # the form before opset 11
    return value.const is None or bool(value.const.numpy().any())


ROWS: tuple[OpSemantics, ...] = (
    *rows("Identity", axes=unary, cost=free, quant=PASSTHROUGH, scaling=Scaling.CHANNELWISE),
    *rows("Reshape", axes=reshape, cost=free, quant=PASSTHROUGH),
    *rows("Flatten", axes=reinterpreted, cost=free, quant=PASSTHROUGH),
    *rows("Squeeze", axes=squeeze, cost=free, quant=PASSTHROUGH),
    *rows("Unsqueeze", axes=unsqueeze, cost=free, quant=PASSTHROUGH),
    *rows("Transpose", axes=transpose, cost=free, quant=PASSTHROUGH),
    *rows("Expand", axes=expand, cost=free, quant=PASSTHROUGH),
    *rows("Tile", axes=tile, cost=free, quant=PASSTHROUGH),
    *rows("DepthToSpace", axes=depth_to_space, cost=free, quant=PASSTHROUGH),
    *rows("SpaceToDepth", axes=space_to_depth, cost=free, quant=PASSTHROUGH),
    *rows("Trilu", axes=trilu, cost=free, quant=PASSTHROUGH),
    *rows("CenterCropPad", axes=center_crop_pad, cost=free, quant=PASSTHROUGH),
    *rows("ReverseSequence", axes=reverse_sequence, cost=free, quant=PASSTHROUGH),
    *rows("Concat", axes=concat, cost=free, quant=ELEMENTWISE_ALL),
    *rows("Pad", axes=pad, cost=free, quant=_pad_role),
    *rows("Pad", axes=pad, domain="com.microsoft", cost=free, quant=_pad_role),
    *rows(
        "ExpandDims",
        axes=stays("which axis is added is computed"),
        domain="com.microsoft",
        cost=free,
        quant=PASSTHROUGH,
    ),
    *rows("Trilu", axes=trilu, domain="com.microsoft", infer=like_input(0), cost=free, quant=PASSTHROUGH),
)
