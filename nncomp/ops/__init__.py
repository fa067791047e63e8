"""Op semantics: one table that says what each operator means, by family; and accessors for attributes."""

from nncomp.ops.accessors import (
    ConvGeometry,
    channel_axis,
    clip_bounds,
    conv_geometry,
    is_training_batchnorm,
    kernel_shape,
    pads,
    perm,
    reduce_axes,
    softmax_axis,
    squeeze_axes,
)
from nncomp.ops.bias import LayerBias, layer_bias, set_layer_bias
from nncomp.ops.builtin import builtin_table
from nncomp.ops.coupling import AxesRule
from nncomp.ops.matrix import MatrixView
from nncomp.ops.nests import LoopNest, NestRule
from nncomp.ops.semantics import Cost, CostRule, Infer, OpSemantics, QuantRole, QuantRule, Role, Scaling, rows
from nncomp.ops.table import NO_ROW, OpTable

__all__ = [
    "NO_ROW",
    "AxesRule",
    "ConvGeometry",
    "Cost",
    "CostRule",
    "Infer",
    "LayerBias",
    "LoopNest",
    "MatrixView",
    "NestRule",
    "OpSemantics",
    "OpTable",
    "QuantRole",
    "QuantRule",
    "Role",
    "Scaling",
    "builtin_table",
    "channel_axis",
    "clip_bounds",
    "conv_geometry",
    "is_training_batchnorm",
    "kernel_shape",
    "layer_bias",
    "pads",
    "perm",
    "reduce_axes",
    "rows",
    "set_layer_bias",
    "softmax_axis",
    "squeeze_axes",
]
