"""Random ops: never folded, never merged, even with a seed (the stream belongs to the runtime)."""

from __future__ import annotations

from nncomp.ops.coupling import stays
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import OpSemantics, rows

ROWS: tuple[OpSemantics, ...] = rows(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli",
    axes=stays("draws random numbers"),
    quant=barrier("draws random numbers"),
    foldable=False,
    deterministic=False,
)
