"""simplify-shapes: shapes that the graph computes, written as constants where they mean the same for every size."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nncomp.ir import Graph, Op
from nncomp.passes import Context, Effect, Pass
from nncomp_cleanup.dims import Entry, Integers, dims_of, small_integers
from nncomp_cleanup.proven import proven_types
from nncomp_cleanup.reshape_target import reshape_target


class SimplifyShapes(Pass):
    """Give Reshape a constant target: numbers, 0 where it copies a dimension of its input, -1 for one that must follow.

    The new target is defined wherever the computed one was, zero-sized batches included, and means the same there. What
    is left of the arithmetic is removed when nothing else reads it.
    """

    name: ClassVar[str] = "simplify-shapes"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite each Reshape once; nothing that one does depends on another."""
        proven = proven_types(graph, ctx)
        known = small_integers(graph, proven)
        for part in list(graph.graphs()):
            for op in part.ops():
                if not op.is_a("Reshape") or len(op.inputs) < 2 or op.inputs[0] is None or op.inputs[1] is None:
                    continue
                if part.constant(op.inputs[1]) is None:
                    _simplify(part, op, dims_of(part, proven, op.inputs[0]), known.get(op.inputs[1]), ctx)


def _simplify(graph: Graph, op: Op, dims: tuple[Entry, ...] | None, wanted: Integers | None, ctx: Context) -> None:
    target, reason = reshape_target(dims, wanted, allow_zero=bool(op.attr("allowzero", 0)))
    if target is None:
        ctx.note("declined", SimplifyShapes.name, node=op.label, reason=reason)
        return
    old = op.inputs[1]
    assert old is not None
    shape = graph.add_constant(f"{op.output.name}_shape", np.array(target, np.int64))
    graph.set_input(op, 1, shape)
    graph.remove_unused([old])
    ctx.note("fired", SimplifyShapes.name, node=op.label)
