"""eliminate-noops: ops that give back what they are given."""

from __future__ import annotations

from typing import ClassVar, Final

from nncomp.ir import Graph
from nncomp.passes import Context, Effect, Pass
from nncomp.rewrite import rewrite
from nncomp_cleanup.neutral import NEUTRAL
from nncomp_cleanup.noops import NOOPS
from nncomp_cleanup.proven import ProvenContext, proven_types
from nncomp_cleanup.ranges import RANGES

_MAX_ROUNDS: Final = 8


class EliminateNoops(Pass):
    """Remove ops that do nothing: identities, casts to the same type, reshapes to the same shape, neutral arithmetic.

    Each rule holds bit for bit, on every input that the model takes: x + 0.0 stays, since it turns -0.0 into 0.0.
    """

    name: ClassVar[str] = "eliminate-noops"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite until nothing fires; a composed op has no proven type before the next round."""
        rules = (*NOOPS, *NEUTRAL, *RANGES)
        known = ProvenContext.of(ctx)
        for _ in range(_MAX_ROUNDS):
            proven_types(graph, known)
            with known.fresh_notes() as notes:
                fired = rewrite(graph, rules, known)
                if fired:  # what was declined is said by the last round
                    notes[:] = [note for note in notes if note.event != "declined"]
            if not fired:
                break
