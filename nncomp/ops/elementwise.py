"""Arithmetic at each element: sums, products, powers, roots, trigonometry, rounding, casts and choices."""

from __future__ import annotations

from nncomp.ir import Op
from nncomp.ops.counting import Counted, size
from nncomp.ops.coupling import stays
from nncomp.ops.inference import like_input
from nncomp.ops.labels.pointwise import pointwise, typed_like, unary
from nncomp.ops.roles import ELEMENTWISE, ELEMENTWISE_ALL, ELEMENTWISE_PAIR, barrier, sensitive
from nncomp.ops.semantics import OpSemantics, QuantRole, Role, Scaling, rows


def _combine_all(op: Op) -> Counted:
    """Count one operation for each pair of operands, at each output element; a lone operand is copied."""
    elements = size(op.output)
    return None if elements is None else (0, max(len(op.inputs) - 1, 0) * elements)


ROWS: tuple[OpSemantics, ...] = (
    *rows("Add Sub", axes=pointwise, quant=ELEMENTWISE_PAIR, scaling=Scaling.SUM),
    *rows("Mul", axes=pointwise, quant=ELEMENTWISE_PAIR),
    *rows("Sum Mean Min Max", axes=pointwise, cost=_combine_all, quant=ELEMENTWISE_ALL, scaling=Scaling.SUM),
    *rows("Abs Neg", axes=pointwise, quant=ELEMENTWISE, scaling=Scaling.CHANNELWISE),
    *rows("Where", axes=pointwise, quant=QuantRole(Role.ELEMENTWISE, data=(1, 2))),
    *rows("Div", axes=pointwise, quant=sensitive("a small divisor magnifies rounding errors", data=(0, 1))),
    *rows("Reciprocal", axes=pointwise, quant=sensitive("a small divisor magnifies rounding errors")),
    *rows("Pow", axes=pointwise, quant=sensitive("powers magnify rounding errors", data=(0, 1))),
    *rows("Exp Sinh Cosh", axes=pointwise, quant=sensitive("exponentials magnify rounding errors")),
    *rows("Sqrt Log", axes=pointwise, quant=sensitive("steep near zero, where 8 bits have no values left")),
    *rows("Erf", axes=pointwise, quant=sensitive("part of a Gelu, whose small negative outputs matter")),
    *rows(
        "Sin Cos Tan Asin Acos Atan Asinh Acosh Atanh",
        axes=pointwise,
        quant=sensitive("angles and their inverses need precision"),
    ),
    *rows("Sign Floor Ceil Round", axes=pointwise, quant=sensitive("a rounding error may become a whole step")),
    *rows("Mod", axes=pointwise, quant=sensitive("a rounding error may become a whole step", data=(0, 1))),
    *rows("Cast BitCast", axes=unary, quant=barrier("changes the element type")),
    *rows("CastLike", axes=typed_like, quant=barrier("changes the element type")),
    *rows(
        "ComplexMul ComplexMulConj",
        axes=stays("complex numbers are pairs of elements"),
        domain="com.microsoft",
        quant=sensitive("complex numbers", data=(0, 1)),
    ),
    *rows(
        "BiasAdd",
        axes=pointwise,
        domain="com.microsoft",
        infer=like_input(0),
        quant=QuantRole(Role.ELEMENTWISE, data=(0, 2)),
    ),
)
