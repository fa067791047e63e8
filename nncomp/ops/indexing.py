"""Ops that select elements, or write some into others."""

from __future__ import annotations

from nncomp.ops.counting import free, per_input
from nncomp.ops.roles import ELEMENTWISE_PAIR, PASSTHROUGH, barrier, sensitive
from nncomp.ops.semantics import OpSemantics, QuantRole, Role, rows

_SCATTER = QuantRole(Role.ELEMENTWISE, data=(0, 2))  # updates keep a scale of their own, as in Concat

ROWS: tuple[OpSemantics, ...] = (
    *rows("Slice Split Compress", cost=free, quant=PASSTHROUGH),
    *rows("Gather GatherElements GatherND", cost=free, quant=PASSTHROUGH),
    *rows("Scatter ScatterElements ScatterND", cost=free, quant=_SCATTER),
    *rows("TensorScatter", cost=free, quant=ELEMENTWISE_PAIR),
    *rows("TopK", cost=per_input(), quant=PASSTHROUGH),
    *rows("NonZero", cost=per_input(), quant=barrier("gives indices")),
    *rows("Unique", cost=per_input(), quant=barrier("equality of rounded values is not equality")),
    *rows("OneHot", cost=free, quant=barrier("reads indices")),
    *rows("NonMaxSuppression", quant=sensitive("box coordinates need more than 8 bits", data=(0, 1))),
    *rows("GatherND", domain="com.microsoft", cost=free, quant=PASSTHROUGH),
    *rows("Unique", domain="com.microsoft", quant=barrier("equality of rounded values is not equality")),
)
