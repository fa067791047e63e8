"""How fusion passes apply their rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from nncomp import Context, Graph
from nncomp.rewrite import Rule, rewrite

OLDEST_OPSET: Final = 7
"""Before it, operands broadcast by attributes, and runtimes no longer read it."""


def apply_rules(graph: Graph, rules: Sequence[tuple[Rule, ...]], ctx: Context, pass_name: str) -> int:
    """Apply ``rules`` until none fires; return how often one fired."""
    version = graph.opsets.get("")
    if version is None:
        return 0
    if version < OLDEST_OPSET:
        ctx.note("skipped", pass_name, reason=f"needs opset {OLDEST_OPSET} or later, the model imports {version}")
        return 0
    with np.errstate(all="ignore"):  # rules decline results that are not finite; no warning is needed beside that
        return rewrite(graph, rules, ctx)
