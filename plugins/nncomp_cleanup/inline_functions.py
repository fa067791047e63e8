"""inline-functions: calls of model-local functions become what the functions say."""

from __future__ import annotations

from types import MappingProxyType
from typing import ClassVar, Final

from nncomp.ir import Graph, Op
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp_cleanup.function_bodies import FunctionTable
from nncomp_cleanup.purity import FunctionKey, called_functions, function_key, is_call

_MAX_DEPTH: Final = 1000


class InlineFunctions(Pass):
    """Replace calls of model-local functions by their bodies, attributes filled in, functions within functions too.

    A function is inlined wherever the graph calls it, or nowhere: not when it is written for another opset than the
    model, and not when the model would come to hold more than ``max_ops`` ops.
    """

    name: ClassVar[str] = "inline-functions"
    effect: ClassVar[Effect] = Effect.EXACT

    max_ops: int = option(1_000_000, ge=0, help="ops that the model may come to hold")
    skip: tuple[str, ...] = option((), help="names of functions to keep")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Inline calls, then the calls that came with them; drop functions that nothing calls any more."""
        if not graph.info.functions:
            return
        table = FunctionTable(graph.info.functions, graph.opsets)
        refused = self._refused(graph, table)
        size = sum(table.size(function_key(op)) if is_call(graph, op) else 1 for _, op in graph.walk())
        if size > self.max_ops:
            ctx.note("declined", self.name, reason=f"the model would hold {size} ops, max_ops allows {self.max_ops}")
            return
        for _ in range(_MAX_DEPTH):  # functions do not call themselves: the loader refuses such models
            if not self._inline_once(graph, table, refused, ctx):
                break
        for key, reason in refused.items():
            if reason:
                ctx.note("declined", self.name, node=f"{key[0]}.{key[1]}", reason=reason)
        called = called_functions(graph)
        kept = {key: data for key, data in graph.info.functions.items() if key in called or refused[key]}
        if len(kept) < len(graph.info.functions):
            graph.set_info(functions=MappingProxyType(kept))

    def _refused(self, graph: Graph, table: FunctionTable) -> dict[FunctionKey, str]:
        refused: dict[FunctionKey, str] = {}
        imported = dict(graph.opsets)
        for key in graph.info.functions:
            refused[key] = "the user keeps it" if key[1] in self.skip else table.refusal(key, imported)
            if not refused[key]:  # a domain that only functions import is imported as the first of them does
                imported = {**table.opsets(key), **imported}
        given_graphs = [function_key(op) for part, op in graph.walk() if is_call(part, op) and op.bodies]
        return refused | dict.fromkeys(given_graphs, "it is given a graph")

    def _inline_once(self, graph: Graph, table: FunctionTable, refused: dict[FunctionKey, str], ctx: Context) -> int:
        found = [(part, op) for part, op in graph.walk() if is_call(part, op) and not op.bodies]
        calls = [(part, op) for part, op in found if not refused[function_key(op)]]
        for part, op in calls:
            _inline(part, op, table)
            ctx.note("fired", self.name, node=op.label)
        return len(calls)


def _inline(graph: Graph, op: Op, table: FunctionTable) -> None:
    body = table.body(op)
    for domain, version in table.opsets(function_key(op)).items():
        graph.root.import_opset(domain, version)
    given = dict(zip(body.inputs, (value for value in op.inputs if value is not None), strict=True))
    copied = graph.insert_copy(body, given)
    for old, result in zip(op.outputs, body.outputs, strict=False):
        if old.name:
            graph.replace_uses(old, copied[result])
    graph.remove(op)
    graph.remove_unused([*(copied[result] for result in body.outputs), *op.inputs])
