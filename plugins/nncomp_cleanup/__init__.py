"""The cleanup plugin: passes that make a graph smaller without changing a bit of what it computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nncomp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nncomp.passes import Pass

NNCOMP_API = 1


@nncomp.hookimpl
def nncomp_passes() -> Iterable[type[Pass]]:
    """Return the passes of this plugin."""
    from nncomp_cleanup.cleanup import Cleanup
    from nncomp_cleanup.dead_code import DeadCode
    from nncomp_cleanup.eliminate_noops import EliminateNoops
    from nncomp_cleanup.fold_constants import FoldConstants
    from nncomp_cleanup.inline_functions import InlineFunctions
    from nncomp_cleanup.inline_if import InlineIf
    from nncomp_cleanup.lift_constants import LiftConstants
    from nncomp_cleanup.merge_duplicates import MergeDuplicates
    from nncomp_cleanup.simplify_shapes import SimplifyShapes

    return [
        Cleanup,
        DeadCode,
        EliminateNoops,
        FoldConstants,
        InlineFunctions,
        InlineIf,
        LiftConstants,
        MergeDuplicates,
        SimplifyShapes,
    ]
