"""Ops with bodies. The table prices and judges what is in a body, op by op; the op around it costs nothing itself."""

from __future__ import annotations

from nncomp.ops.counting import free
from nncomp.ops.coupling import stays
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

# Not deterministic: a body may hold random ops.
ROWS: tuple[OpSemantics, ...] = rows(
    "If Loop Scan SequenceMap",
    axes=stays("its bodies are walked on their own"),
    cost=free,
    quant=barrier("its bodies are walked on their own"),
    foldable=False,
    deterministic=False,
)
