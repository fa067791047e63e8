"""Comparisons, Boolean and bitwise ops: nothing in them has a scale."""

from __future__ import annotations

from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

ROWS: tuple[OpSemantics, ...] = (
    *rows("Equal Less LessOrEqual Greater GreaterOrEqual", quant=barrier("compares")),
    *rows("IsNaN IsInf", quant=barrier("asks about values that integers do not have")),
    *rows("And Or Xor Not", quant=barrier("works on truth values")),
    *rows("BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot", quant=barrier("works on bits")),
)
