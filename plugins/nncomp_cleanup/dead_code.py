"""dead-code: what no output depends on goes away."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import ClassVar, Final

import onnx
from onnx.defs import OpSchema

from nncomp.ir import Graph, Op, Value
from nncomp.passes import Context, Effect, Pass
from nncomp_cleanup.purity import called_functions, may_have_effects, named_elsewhere

_INDEPENDENT_OUTPUTS: Final = frozenset(
    {
        ("", "BatchNormalization"),
        ("", "Dropout"),
        ("", "GRU"),
        ("", "LSTM"),
        ("", "LayerNormalization"),
        ("", "MaxPool"),
        ("", "RNN"),
        ("", "Unique"),
        ("com.microsoft", "EmbedLayerNormalization"),
        ("com.microsoft", "SkipLayerNormalization"),
        ("com.microsoft", "SkipSimplifiedLayerNormalization"),
    }
)
"""Ops whose optional outputs may be left out one by one (those of Attention, for instance, come in pairs)."""


class DeadCode(Pass):
    """Remove ops, constants, captures, optional outputs and functions that no graph output depends on.

    Graph inputs are the interface and stay, read or not; so do inputs of bodies. An op that nobody knows may do more
    than compute, and stays too.
    """

    name: ClassVar[str] = "dead-code"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Sweep from the innermost bodies outwards: what a body no longer reads is dead outside."""
        if graph.info.training_info:
            ctx.note("skipped", self.name, node=graph.name, reason="training information may speak of any value")
            return
        effects = may_have_effects(graph, ctx.ops)
        for part in reversed(list(graph.graphs())):
            _sweep(part, ctx, effects)
        _remove_functions(graph, ctx)


def _sweep(graph: Graph, ctx: Context, effects: set[Op]) -> None:
    outputs = set(graph.outputs)
    for op in reversed(graph.ops()):
        if any(graph.uses(value) or value in outputs for value in op.outputs):
            for slot in reversed(range(len(op.outputs))):
                value = op.outputs[slot]
                if value.name and not graph.uses(value) and value not in outputs and _may_drop(graph, op, slot):
                    graph.drop_output(op, slot)
                    ctx.note("fired", "drop-output", node=op.label, reason=f"nobody reads output {slot}")
        elif op in effects:
            ctx.note("declined", "remove-op", node=op.label, reason=f"{op.kind} is unknown, it may have effects")
        else:
            graph.remove(op)
            ctx.note("fired", "remove-op", node=op.label)
    kept = outputs | set(graph.inputs)
    named = named_elsewhere(graph)
    for value in _sources(graph):
        if graph.uses(value) or value in kept or value.name in named:
            continue
        if value in graph.captures:
            graph.release(value)
        else:
            graph.remove_unused([value])
            ctx.note("fired", "remove-constant", node=value.name)


def _sources(graph: Graph) -> Iterator[Value]:
    return (value for value in graph.values() if value.producer is None)


def _may_drop(graph: Graph, op: Op, slot: int) -> bool:
    if (op.domain, op.kind) not in _INDEPENDENT_OUTPUTS:
        return False
    if op.is_a("BatchNormalization") and (graph.opsets[""] < 14 or op.attr("training_mode", 0)):
        return False  # before opset 14 it is these outputs that say that the op trains
    if op.domain:
        return slot > 0  # onnx has no schema of these ops; the first output is the one that they must have
    schema = onnx.defs.get_schema(op.kind, graph.opsets[""], "")
    return slot < len(schema.outputs) and schema.outputs[slot].option == OpSchema.FormalParameterOption.Optional


def _remove_functions(graph: Graph, ctx: Context) -> None:
    functions = graph.info.functions
    if not functions:
        return
    called = called_functions(graph)
    kept = {key: data for key, data in functions.items() if key in called}
    if len(kept) < len(functions):
        for key in functions:
            if key not in called:
                ctx.note("fired", "remove-function", node=f"{key[0]}.{key[1]}")
        graph.set_info(functions=MappingProxyType(kept))
