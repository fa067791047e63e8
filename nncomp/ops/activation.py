"""Activation functions: one input, one output, one curve (and the gated ones of two inputs)."""

from __future__ import annotations

from nncomp.ops.counting import per_output
from nncomp.ops.inference import like_input
from nncomp.ops.labels.pointwise import pointwise, unary
from nncomp.ops.roles import ACTIVATION, ELEMENTWISE, ELEMENTWISE_PAIR, sensitive
from nncomp.ops.semantics import OpSemantics, Scaling, rows

_GELU = sensitive("its small negative outputs need a finer scale than its large positive ones")

ROWS: tuple[OpSemantics, ...] = (
    *rows("Relu", axes=unary, quant=ACTIVATION, scaling=Scaling.CHANNELWISE),
    *rows("Clip", axes=unary, quant=ACTIVATION, scaling=Scaling.CLIP),
    *rows("LeakyRelu", axes=unary, quant=ELEMENTWISE, scaling=Scaling.CHANNELWISE),
    *rows("PRelu", axes=pointwise, quant=ELEMENTWISE, scaling=Scaling.CHANNELWISE),
    *rows("ThresholdedRelu Shrink", axes=unary, quant=ELEMENTWISE),
    *rows("Sigmoid HardSigmoid HardSwish Swish Mish Elu Celu Selu Softplus Softsign", axes=unary, quant=ELEMENTWISE),
    *rows("SwiGLU", axes=pointwise, cost=per_output(2), quant=ELEMENTWISE_PAIR),
    *rows("Tanh", axes=unary, quant=sensitive("steep at zero, where gates and heads need precision")),
    *rows("Gelu", axes=unary, quant=_GELU),
    *rows("Gelu FastGelu QuickGelu BiasGelu", axes=pointwise, domain="com.microsoft", infer=like_input(0), quant=_GELU),
)
