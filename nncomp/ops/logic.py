"""Comparisons, Boolean and bitwise ops: nothing in them has a scale."""

from __future__ import annotations

from nncomp.ops.labels.pointwise import pointwise
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

ROWS: tuple[OpSemantics, ...] = (
    *rows("Equal Less LessOrEqual Greater GreaterOrEqual", axes=pointwise, quant=barrier("compares")),
    *rows("IsNaN IsInf", axes=pointwise, quant=barrier("asks about values that integers do not have")),
    *rows("And Or Xor Not", axes=pointwise, quant=barrier("works on truth values")),
    *rows("BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot", axes=pointwise, quant=barrier("works on bits")),
)
