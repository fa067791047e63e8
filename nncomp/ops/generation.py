"""Ops that make values out of shapes and scalars, and those that read shapes."""

from __future__ import annotations

from nncomp.ops.counting import free
from nncomp.ops.coupling import stays
from nncomp.ops.labels.making import filled, shape, size
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

ROWS: tuple[OpSemantics, ...] = (
    *rows("ConstantOfShape", axes=filled, cost=free, quant=barrier("makes values, and reads no activation")),
    *rows(
        "Constant EyeLike Range",
        axes=stays("its elements are made in order"),
        cost=free,
        quant=barrier("makes values, and reads no activation"),
    ),
    *rows("Shape", axes=shape, cost=free, quant=barrier("reads a shape")),
    *rows("Size", axes=size, cost=free, quant=barrier("reads a shape")),
    *rows(
        "HannWindow HammingWindow BlackmanWindow MelWeightMatrix",
        axes=stays("its elements are made in order"),
        quant=barrier("makes a table"),
    ),
    *rows(
        "Range",
        axes=stays("its elements are made in order"),
        domain="com.microsoft",
        cost=free,
        quant=barrier("makes values, and reads no activation"),
    ),
)
