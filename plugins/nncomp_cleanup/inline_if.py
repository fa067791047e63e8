"""inline-if: a branch that is always taken stands where the If stood."""

from __future__ import annotations

from typing import ClassVar

from nncomp.ir import Graph, Op
from nncomp.passes import Context, Effect, Pass
from nncomp.rewrite import rewrite
from nncomp_cleanup.proven import is_rounded_late
from nncomp_cleanup.ranges import RANGES


class InlineIf(Pass):
    """Replace an If whose condition is constant by the branch that it takes."""

    name: ClassVar[str] = "inline-if"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Inline outer Ifs first: what stood in an untaken branch is never looked at."""
        pending = [graph]
        changed = False
        while pending:
            part = pending.pop()
            fired = [_inline(part, op, ctx) for op in part.ops() if op.is_a("If")]
            if any(fired):  # the branch may have brought in further Ifs
                changed = True
                pending.append(part)
            else:
                pending.extend(body for op in part.ops() for body in op.bodies.values())
        if changed:
            rewrite(graph, RANGES, ctx)


def _inline(graph: Graph, op: Op, ctx: Context) -> bool:
    condition = graph.array(op.input(0))
    if condition is None or condition.size != 1:
        ctx.note("declined", InlineIf.name, node=op.label, reason="its condition is computed")
        return False
    body = op.bodies["then_branch" if condition.any() else "else_branch"]
    if any(is_rounded_late(body, value) for value in body.outputs):
        ctx.note("declined", InlineIf.name, node=op.label, reason="its border makes ONNX Runtime round to float16")
        return False
    copied = graph.insert_copy(body, body.captures)
    for old, result in zip(op.outputs, body.outputs, strict=True):
        if not old.name:
            continue
        new = copied[result]
        if new.type is None:
            graph.set_type(new, old.type)
        graph.replace_uses(old, new)
    graph.remove(op)
    for result in body.outputs:
        graph.remove_unused([copied[result]])
    ctx.note("fired", InlineIf.name, node=op.label)
    return True
