"""Reductions and running sums: one operation for each element read."""

from __future__ import annotations

from nncomp.ops.counting import per_input
from nncomp.ops.roles import ELEMENTWISE, PASSTHROUGH, sensitive
from nncomp.ops.semantics import OpSemantics, rows

_SQUARES = sensitive("squares magnify rounding errors")

ROWS: tuple[OpSemantics, ...] = (
    *rows("ReduceMean ReduceSum ReduceL1", cost=per_input(), quant=ELEMENTWISE),
    *rows("ReduceMax ReduceMin ArgMax ArgMin", cost=per_input(), quant=PASSTHROUGH),
    *rows("ReduceL2 ReduceSumSquare", cost=per_input(2), quant=_SQUARES),
    *rows("ReduceLogSum", cost=per_input(), quant=sensitive("steep near zero, where 8 bits have no values left")),
    *rows("ReduceLogSumExp", cost=per_input(2), quant=sensitive("exponentials magnify rounding errors")),
    *rows("ReduceProd CumProd", cost=per_input(), quant=sensitive("products magnify rounding errors")),
    *rows("CumSum", cost=per_input(), quant=sensitive("sums grow, with their errors, along the axis")),
)
