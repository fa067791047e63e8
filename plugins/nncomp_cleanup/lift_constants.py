"""lift-constants: Constant nodes become constants of the graph, where every pass and runtime looks for them."""

from __future__ import annotations

from typing import ClassVar

from nncomp.ir import Graph, Op
from nncomp.passes import Context, Effect, Pass


class LiftConstants(Pass):
    """Turn Constant nodes, in all their forms, into constants of the graph (initializers).

    Sparse ones are left as they are written, and so is one that is a graph output, which an op must compute.
    """

    name: ClassVar[str] = "lift-constants"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Lift in the graph and its bodies."""
        for part in list(graph.graphs()):
            for op in part.ops():
                if op.is_a("Constant"):
                    _lift(part, op, ctx)


def _lift(graph: Graph, op: Op, ctx: Context) -> None:
    old = op.output
    data = graph.constant(old)
    if data is None:
        ctx.note("declined", LiftConstants.name, node=op.label, reason="sparse data stays as it is written")
        return
    if graph.is_output(old):
        ctx.note("declined", LiftConstants.name, node=op.label, reason="the graph interface needs this name")
        return
    name = old.name
    graph.rename(old, graph.fresh_name(f"{name}_before"))
    graph.replace_uses(old, graph.add_constant(name, data, doc=old.doc or op.doc))
    graph.remove(op)
    ctx.note("fired", LiftConstants.name, node=op.label)
