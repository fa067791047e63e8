"""Matrix products: MatMul, Gemm, Einsum and the runtime's fused forms."""

from __future__ import annotations

from nncomp.ir import Op
from nncomp.ops.counting import Counted, shape, size
from nncomp.ops.einsum import einsum_cost, einsum_role
from nncomp.ops.inference import gemm_type, matmul_type
from nncomp.ops.labels.einsum import einsum
from nncomp.ops.labels.products import gemm, matmul, matmul_of
from nncomp.ops.matrix import product_view
from nncomp.ops.nest_rules import einsum_nest, product_nest
from nncomp.ops.semantics import CostRule, OpSemantics, QuantRole, Role, Scaling, rows


def product_cost(*, data: int = 0, bias: int | None = None) -> CostRule:
    """Return the rule: output elements * contracted elements, and a bias added to each output element.

    Batch axes, broadcast or not, are in the output; ``transA`` and ``transBatchA`` say where the contracted axis is.
    """

    def count(op: Op) -> Counted:
        elements, left = size(op.output), shape(op.input(data))
        if elements is None or not left:
            return None
        has_bias = bias is not None and op.input(bias) is not None
        axis = contracted_axis(op) if len(left) > 1 else 0
        return elements * left[axis], elements if has_bias else 0

    return count


def contracted_axis(op: Op) -> int:
    """Axis of a left operand of rank 2 or more that a product sums over.

    ``transBatchA`` puts what should be the last axis but one first; ``transA`` swaps these two meanings.
    """
    if not op.attr("transA", 0):
        return -1
    return 0 if op.attr("transBatchA", 0) else -2


def last_axis(op: Op) -> int:
    """Axis of a right operand's output channels, (..., K, N); -1 when its rank is not known."""
    value = op.input(1)
    return -1 if value is None or value.shape is None else len(value.shape) - 1


def gemm_output_channels(op: Op) -> int:
    """Axis of Gemm's output channels in its weight: (K, N), or (N, K) under ``transB``."""
    return 0 if op.attr("transB", 0) else 1


def _matmul_role(op: Op) -> QuantRole:
    """Product of two activations, or of one and a weight at slot 1.

    A vector on the right has no output channels. A constant on the left counts as an activation whose range is known
    beforehand: rows of the result, not its channels, would get the scales.
    """
    right = op.input(1)
    is_vector = right is not None and right.shape is not None and len(right.shape) == 1
    return QuantRole(Role.COMPUTE, data=(0, 1), weight=1, weight_axis=None if is_vector else last_axis)


def _fused_matmul_role(op: Op) -> QuantRole:
    if op.attr("transBatchB", 0):
        return QuantRole(Role.COMPUTE, data=(0, 1), weight=1)
    if op.attr("transB", 0):
        return QuantRole(Role.COMPUTE, data=(0, 1), weight=1, weight_axis=lambda product: last_axis(product) - 1)
    return _matmul_role(op)


_GEMM = QuantRole(Role.COMPUTE, data=(0, 1), weight=1, weight_axis=gemm_output_channels, bias=2)

ROWS: tuple[OpSemantics, ...] = (
    *rows("MatMul", axes=matmul, cost=product_cost(), quant=_matmul_role, matrix=product_view, nest=product_nest()),
    *rows(
        "Gemm",
        axes=gemm,
        cost=product_cost(bias=2),
        quant=_GEMM,
        scaling=Scaling.LINEAR,
        matrix=product_view,
        nest=product_nest(),
    ),
    *rows("Einsum", axes=einsum, cost=einsum_cost, quant=einsum_role, nest=einsum_nest),
    *rows(
        "FusedMatMul TransposeMatMul FusedMatMulActivation",
        axes=matmul,
        domain="com.microsoft",
        infer=matmul_type(),
        cost=product_cost(),
        quant=_fused_matmul_role,
        nest=product_nest(),
    ),
    *rows(
        "FusedGemm",
        axes=gemm,
        domain="com.microsoft",
        infer=gemm_type(),
        cost=product_cost(bias=2),
        quant=_GEMM,
        nest=product_nest(),
    ),
    *rows(
        "GemmFastGelu",
        axes=matmul_of(by_column=(2,)),
        domain="com.microsoft",
        infer=matmul_type(),
        cost=product_cost(bias=2),
        quant=_matmul_role,
        nest=product_nest(),
    ),
)
