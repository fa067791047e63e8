"""Ops that are already quantized: conversions, integer products, and the runtime's QLinear ops.

Folding DequantizeLinear is right by its meaning, but turns integer weights back into floats: a pass that folds
constants decides for itself whether it wants that.
"""

from __future__ import annotations

from nncomp.ir import Op
from nncomp.ops.attention import packed_attention_cost
from nncomp.ops.convolution import convolution_cost
from nncomp.ops.counting import SOFTMAX_STEPS, Counted, free, per_input, per_output, size
from nncomp.ops.coupling import stays
from nncomp.ops.inference import (
    broadcast_inputs,
    concatenated,
    convolved,
    dequantized,
    gemm_type,
    global_pooled,
    like_input,
    matmul_type,
    packed_attention_type,
    packed_matmul_type,
    quantized,
)
from nncomp.ops.labels.joining import concat_of
from nncomp.ops.labels.pointwise import pointwise_of, unary
from nncomp.ops.labels.products import gemm_of, matmul_of
from nncomp.ops.labels.scaling import scaled
from nncomp.ops.labels.spatial import convolution_of, pool
from nncomp.ops.matmul import product_cost
from nncomp.ops.nest_rules import convolution_nest, packed_product_nest, product_nest
from nncomp.ops.pooling import window_cost
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

DYNAMIC_STEPS = 3
"""Scalar operations an element: smallest, largest, scale."""

_CONVERTS = barrier("converts between floats and integers", weight=0)
_DONE = barrier("already quantized")
_PRODUCT = barrier("already quantized", weight=1)
_MS = "com.microsoft"


def _dynamic_product(op: Op) -> Counted:
    """Count the product, and quantizing the left operand."""
    counted, read = product_cost(bias=4)(op), size(op.input(0))
    return None if counted is None or read is None else (counted[0], counted[1] + DYNAMIC_STEPS * read)


def packed_product_cost(op: Op) -> Counted:
    """Count rows * K * N: the weight is packed, so attributes say how large it is."""
    elements = size(op.output)
    return None if elements is None else (elements * op.attr("K", 0), elements if op.input(5) is not None else 0)


ROWS: tuple[OpSemantics, ...] = (
    *rows("QuantizeLinear DequantizeLinear", axes=scaled, quant=_CONVERTS),
    *rows(
        "DynamicQuantizeLinear",
        axes=stays("its scale is taken over all elements"),
        cost=per_input(DYNAMIC_STEPS),
        quant=_CONVERTS,
    ),
    *rows(
        "ConvInteger",
        axes=convolution_of(bias=None, zero=2, by_output=(3,)),
        cost=convolution_cost(bias=None),
        quant=_PRODUCT,
        nest=convolution_nest(),
    ),
    *rows(
        "QLinearConv",
        axes=convolution_of(0, 3, 8, zero=2, by_output=(4, 5)),
        cost=convolution_cost(3, 8),
        quant=barrier("already quantized", weight=3, bias=8),
        nest=convolution_nest(weight=3),
    ),
    *rows(
        "MatMulInteger",
        axes=matmul_of(zero=2, by_column=(3,)),
        cost=product_cost(),
        quant=_PRODUCT,
        nest=product_nest(),
    ),
    *rows(
        "QLinearMatMul",
        axes=matmul_of(0, 3, zero=2, by_column=(4, 5)),
        cost=product_cost(),
        quant=barrier("already quantized", weight=3),
        nest=product_nest(weight=3),
    ),
    *rows("QuantizeLinear", axes=scaled, domain=_MS, infer=quantized, quant=_CONVERTS),
    *rows("DequantizeLinear", axes=scaled, domain=_MS, infer=dequantized, quant=_CONVERTS),
    *rows(
        "QLinearConv",
        axes=convolution_of(0, 3, 8, zero=2, by_output=(4, 5)),
        domain=_MS,
        infer=convolved(dtype=7),
        cost=convolution_cost(3, 8),
        quant=barrier("already quantized", weight=3, bias=8),
        nest=convolution_nest(weight=3),
    ),
    *rows("MatMulInteger16", axes=matmul_of(), domain=_MS, cost=product_cost(), quant=_PRODUCT, nest=product_nest()),
    *rows(
        "DynamicQuantizeMatMul",
        axes=matmul_of(by_column=(2, 3, 4), whole_rows=True),
        domain=_MS,
        infer=matmul_type(),
        cost=_dynamic_product,
        quant=barrier("already quantized", weight=1, bias=4),
        nest=product_nest(),
    ),
    *rows(
        "MatMulIntegerToFloat",
        axes=matmul_of(zero=4, by_column=(3, 5, 6)),
        domain=_MS,
        infer=matmul_type(dtype=2),
        cost=product_cost(bias=6),
        quant=barrier("already quantized", weight=1, bias=6),
        nest=product_nest(),
    ),
    *rows(
        "QGemm",
        axes=gemm_of(0, 3, 6, zero=2, by_column=(4, 5)),
        domain=_MS,
        infer=gemm_type(right=3, dtype=(8, 1)),
        cost=product_cost(bias=6),
        quant=barrier("already quantized", weight=3, bias=6),
        nest=product_nest(weight=3),
    ),
    *rows(
        "MatMulNBits MatMulBnb4",
        axes=stays("its weight is packed in blocks"),
        domain=_MS,
        infer=packed_matmul_type,
        cost=packed_product_cost,
        quant=_PRODUCT,
        nest=packed_product_nest,
    ),
    *rows(
        "GatherBlockQuantized",
        axes=stays("its weight is packed in blocks"),
        domain=_MS,
        cost=per_output(1),
        quant=barrier("already quantized", weight=0),
    ),
    *rows("QLinearAdd QLinearMul", axes=pointwise_of(0, 3), domain=_MS, infer=broadcast_inputs(0, 3), quant=_DONE),
    *rows("QLinearWhere", axes=pointwise_of(0, 1, 4), domain=_MS, infer=broadcast_inputs(1, 4, 0), quant=_DONE),
    *rows("QLinearSigmoid QLinearLeakyRelu", axes=unary, domain=_MS, infer=like_input(0), quant=_DONE),
    *rows(
        "QLinearSoftmax",
        axes=stays("exponentials are summed over one axis"),
        domain=_MS,
        infer=like_input(0),
        cost=per_output(SOFTMAX_STEPS),
        quant=_DONE,
    ),
    *rows(
        "QLinearConcat", axes=concat_of(2, 3), domain=_MS, infer=concatenated(first=2, step=3), cost=free, quant=_DONE
    ),
    *rows("QLinearAveragePool", axes=pool, domain=_MS, cost=window_cost, quant=_DONE),
    *rows("QLinearGlobalAveragePool", axes=pool, domain=_MS, infer=global_pooled, cost=per_input(), quant=_DONE),
    *rows("QLinearReduceMean", axes=stays("means depend on each element"), domain=_MS, cost=per_input(), quant=_DONE),
    *rows("ReduceSumInteger", axes=stays("its axes are not followed"), domain=_MS, cost=per_input(), quant=_DONE),
    *rows(
        "QAttention",
        axes=stays("query, key and value are packed and quantized"),
        domain=_MS,
        infer=packed_attention_type(dtype=3),
        cost=packed_attention_cost(past=8),
        quant=_PRODUCT,
    ),
)
