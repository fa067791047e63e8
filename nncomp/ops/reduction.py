"""Reductions and running sums: one operation for each element read."""

from __future__ import annotations

from nncomp.ops.counting import per_input
from nncomp.ops.labels.reducing import compared, running_product, running_sum, summed
from nncomp.ops.roles import ELEMENTWISE, PASSTHROUGH, sensitive
from nncomp.ops.semantics import OpSemantics, rows

_SQUARES = sensitive("squares magnify rounding errors")

ROWS: tuple[OpSemantics, ...] = (
    *rows("ReduceMean", axes=compared, cost=per_input(), quant=ELEMENTWISE),
    *rows("ReduceSum ReduceL1", axes=summed, cost=per_input(), quant=ELEMENTWISE),
    *rows("ReduceMax ReduceMin ArgMax ArgMin", axes=compared, cost=per_input(), quant=PASSTHROUGH),
    *rows("ReduceL2 ReduceSumSquare", axes=summed, cost=per_input(2), quant=_SQUARES),
    *rows(
        "ReduceLogSum",
        axes=summed,
        cost=per_input(),
        quant=sensitive("steep near zero, where 8 bits have no values left"),
    ),
    *rows("ReduceLogSumExp", axes=compared, cost=per_input(2), quant=sensitive("exponentials magnify rounding errors")),
    *rows("ReduceProd", axes=compared, cost=per_input(), quant=sensitive("products magnify rounding errors")),
    *rows("CumProd", axes=running_product, cost=per_input(), quant=sensitive("products magnify rounding errors")),
    *rows(
        "CumSum", axes=running_sum, cost=per_input(), quant=sensitive("sums grow, with their errors, along the axis")
    ),
)
