"""Ops that make values out of shapes and scalars, and those that read shapes."""

from __future__ import annotations

from nncomp.ops.counting import free
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

ROWS: tuple[OpSemantics, ...] = (
    *rows("Constant ConstantOfShape EyeLike Range", cost=free, quant=barrier("makes values, and reads no activation")),
    *rows("Shape Size", cost=free, quant=barrier("reads a shape")),
    *rows("HannWindow HammingWindow BlackmanWindow MelWeightMatrix", quant=barrier("makes a table")),
    *rows("Range", domain="com.microsoft", cost=free, quant=barrier("makes values, and reads no activation")),
)
