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
    """Apply ``rules`` until none fires, or note that the model is too old; return how often one fired."""
    if not is_recent_enough(graph, ctx, pass_name):
        return 0
    return apply_phase(graph, rules, ctx)


def is_recent_enough(graph: Graph, ctx: Context, pass_name: str) -> bool:
    """True when rules can read the model's opset; a model that imports none has nothing for them."""
    version = graph.opsets.get("", 0)
    if 0 < version < OLDEST_OPSET:
        ctx.note("skipped", pass_name, reason=f"needs opset {OLDEST_OPSET} or later, the model imports {version}")
    return version >= OLDEST_OPSET


def apply_phase(graph: Graph, rules: Sequence[tuple[Rule, ...]], ctx: Context) -> int:
    """Apply ``rules`` until none fires; return how often one fired."""
    with np.errstate(all="ignore"):  # rules decline results that are not finite; no warning is needed beside that
        return rewrite(graph, rules, ctx)
