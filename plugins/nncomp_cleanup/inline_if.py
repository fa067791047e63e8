"""inline-if: a branch that is always taken stands where the If stood."""

from __future__ import annotations

from typing import ClassVar

from nncomp.ir import Graph, Op, Value
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
            reasons = {op: _refusal(part, op) for op in part.ops() if op.is_a("If")}
            taken = [op for op, reason in reasons.items() if not reason]
            for op in taken:
                _inline(part, op)
                ctx.note("fired", self.name, node=op.label)
            if taken:  # the branches may have brought in further Ifs
                changed = True
                pending.append(part)
                continue
            for op, reason in reasons.items():
                ctx.note("declined", self.name, node=op.label, reason=reason)
            pending.extend(body for op in part.ops() for body in op.bodies.values())
        if changed:
            rewrite(graph, RANGES, ctx)


def _refusal(graph: Graph, op: Op) -> str:
    condition = graph.array(op.input(0))
    if condition is None or condition.size != 1:
        return "its condition is computed"
    body = _taken_branch(graph, op)
    if any(is_rounded_late(body, value) for value in body.outputs):
        return "its border makes ONNX Runtime round to float16"
    return ""


def _taken_branch(graph: Graph, op: Op) -> Graph:
    condition = graph.array(op.input(0))
    return op.bodies["then_branch" if condition is not None and condition.any() else "else_branch"]


def _inline(graph: Graph, op: Op) -> None:
    body = _taken_branch(graph, op)
    read = {*op.inputs, *(outer for branch in op.bodies.values() for outer in branch.captures.values())}
    copied = graph.insert_copy(body, body.captures)
    for old, result in zip(op.outputs, body.outputs, strict=True):
        if old.name:
            graph.replace_uses(old, copied[result])
    graph.remove(op)
    graph.remove_unused([*(copied[result] for result in body.outputs), *sorted(read, key=_name)])


def _name(value: Value | None) -> str:
    return "" if value is None else value.name
