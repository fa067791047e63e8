"""Ops that put the same elements somewhere else: reshapes, transposes, concatenation, padding, repetition."""

from __future__ import annotations

from nncomp.ir import Op
from nncomp.ops.counting import free
from nncomp.ops.inference import like_input
from nncomp.ops.labels.joining import concat, transpose
from nncomp.ops.labels.pointwise import unary
from nncomp.ops.labels.reshaping import reinterpreted, reshape
from nncomp.ops.roles import ELEMENTWISE, ELEMENTWISE_ALL, PASSTHROUGH
from nncomp.ops.semantics import OpSemantics, QuantRole, rows


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
    *rows("Identity", axes=unary, cost=free, quant=PASSTHROUGH),
    *rows("Reshape", axes=reshape, cost=free, quant=PASSTHROUGH),
    *rows("Flatten Squeeze Unsqueeze", axes=reinterpreted, cost=free, quant=PASSTHROUGH),
    *rows("Transpose", axes=transpose, cost=free, quant=PASSTHROUGH),
    *rows("Expand Tile", cost=free, quant=PASSTHROUGH),
    *rows("DepthToSpace SpaceToDepth Trilu CenterCropPad", cost=free, quant=PASSTHROUGH),
    *rows("ReverseSequence", cost=free, quant=PASSTHROUGH),
    *rows("Concat", axes=concat, cost=free, quant=ELEMENTWISE_ALL),
    *rows("Pad", cost=free, quant=_pad_role),
    *rows("Pad", domain="com.microsoft", cost=free, quant=_pad_role),
    *rows("ExpandDims", domain="com.microsoft", cost=free, quant=PASSTHROUGH),
    *rows("Trilu", domain="com.microsoft", infer=like_input(0), cost=free, quant=PASSTHROUGH),
)
