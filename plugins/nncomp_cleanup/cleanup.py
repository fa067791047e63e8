"""cleanup: the passes of this plugin, in an order in which they help each other, until nothing changes."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from nncomp.ir import Graph
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp_cleanup.dead_code import DeadCode
from nncomp_cleanup.eliminate_noops import EliminateNoops
from nncomp_cleanup.fold_constants import FoldConstants
from nncomp_cleanup.inline_functions import InlineFunctions
from nncomp_cleanup.inline_if import InlineIf
from nncomp_cleanup.lift_constants import LiftConstants
from nncomp_cleanup.merge_duplicates import MergeDuplicates
from nncomp_cleanup.proven import ProvenContext
from nncomp_cleanup.simplify_shapes import SimplifyShapes

_SHAPE_BYTES: Final = 65536
"""What ``level="shapes"`` folds at most: shape arithmetic, but no weights."""


class Cleanup(Pass):
    """Run all cleanup passes until nothing changes."""

    name: ClassVar[str] = "cleanup"
    effect: ClassVar[Effect] = Effect.EXACT

    level: Literal["dead", "shapes", "all"] = option(
        "all", help="'dead': dead code only; 'shapes': also shape arithmetic and no-ops; 'all': everything"
    )
    max_bytes: int = option(67108864, ge=0, help="largest folded constant, in bytes")
    rounds: int = option(10, ge=1, help="how often the passes are run at most")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Run the passes of the level, round by round."""
        shared = ProvenContext.of(ctx)
        for _ in range(self.rounds):
            version = graph.version
            with shared.fresh_notes() as notes:
                for step in self._steps():
                    step.run(graph, shared)
                if graph.version != version:  # what was declined is said by the last round
                    notes[:] = [note for note in notes if note.event not in ("declined", "skipped")]
            if graph.version == version:
                return

    def _steps(self) -> tuple[Pass, ...]:
        fold = FoldConstants(max_bytes=self.max_bytes)
        if self.level == "dead":
            return (DeadCode(),)
        if self.level == "shapes":
            fold = FoldConstants(max_bytes=min(self.max_bytes, _SHAPE_BYTES), dequantize=False)
            return LiftConstants(), fold, SimplifyShapes(), EliminateNoops(), DeadCode()
        return (
            InlineFunctions(),
            LiftConstants(),
            InlineIf(),
            fold,
            SimplifyShapes(),
            EliminateNoops(),
            MergeDuplicates(),
            DeadCode(),
        )
