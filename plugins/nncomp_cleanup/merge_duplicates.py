"""merge-duplicates: equal constants become one, and equal ops are computed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import Any, ClassVar

from nncomp.ir import Attribute, AttributeType, Graph, Op, Tensor, Value
from nncomp.onnx_io.tensors import SparseConstant
from nncomp.ops import OpTable
from nncomp.passes import Context, Effect, Pass
from nncomp.text import digest
from nncomp_cleanup.purity import is_call, named_elsewhere


class MergeDuplicates(Pass):
    """Merge constants with equal type, shape and bytes, and deterministic ops with equal kind, attributes and inputs.

    Each graph and body for itself, in one sweep over a hash table. Ops with bodies, calls of functions and ops without
    a table row are left alone.
    """

    name: ClassVar[str] = "merge-duplicates"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Merge outside before inside, so that bodies see captures that have become one."""
        for part in list(graph.graphs()):
            _merge_captures(part)
            _merge_constants(part, ctx)
            _merge_ops(part, ctx)


def _merge_captures(graph: Graph) -> None:
    first: dict[Value, Value] = {}
    for inner, outer in list(graph.captures.items()):
        kept = first.setdefault(outer, inner)
        if kept is not inner and not graph.is_output(inner):
            graph.replace_uses(inner, kept)
            graph.release(inner)


def _merge_constants(graph: Graph, ctx: Context) -> None:
    named = named_elsewhere(graph)
    alike: dict[Hashable, list[Value]] = defaultdict(list)
    for value in graph.constants():
        if value.name not in named and not isinstance(value.const, SparseConstant):
            alike[value.type].append(value)
    outputs = set(graph.outputs)
    for group in alike.values():
        if len(group) == 1:  # nothing is read and hashed that nothing can equal
            continue
        first: dict[Hashable, Value] = {}
        for value in sorted(group, key=lambda value: value not in outputs):  # what is an output is what stays
            assert value.const is not None
            kept = first.setdefault(contents(value.const), value)
            if kept is value:
                continue
            if value in outputs:
                ctx.note("declined", "merge-constants", node=value.name, reason="the graph interface needs both names")
                continue
            graph.replace_uses(value, kept)
            graph.remove_unused([value])
            ctx.note("fired", "merge-constants", node=value.name)


def _merge_ops(graph: Graph, ctx: Context) -> None:
    first: dict[Hashable, Op] = {}
    for op in graph.ops():
        if not _may_merge(graph, op, ctx.ops):
            continue
        kept = first.setdefault(_key(op), op)
        if kept is op:
            continue
        if op.is_a("Identity") and graph.is_output(op.output) and graph.is_output(kept.output):
            ctx.note("declined", "merge-ops", node=op.label, reason="the graph interface needs both names")
            continue
        for old, new in zip(op.outputs, kept.outputs, strict=True):
            if old.name:
                graph.replace_uses(old, new)
        graph.remove(op)
        ctx.note("fired", "merge-ops", node=op.label)


def _may_merge(graph: Graph, op: Op, ops: OpTable) -> bool:
    if op.bodies or is_call(graph, op):
        return False
    row = ops.row(op, graph.opsets)
    return row is not None and row.deterministic


def _key(op: Op) -> Hashable:
    attrs = tuple(sorted((name, _attribute_key(attr)) for name, attr in op.attrs.items()))
    return op.domain, op.kind, attrs, op.inputs, tuple(bool(value.name) for value in op.outputs)


def _attribute_key(attr: Attribute) -> str:
    """Return a text that tells attributes apart; tensors by their digest."""
    value: Any = attr.value
    match attr.type:
        case AttributeType.TENSOR:
            value = contents(value)
        case AttributeType.TENSORS:
            value = [contents(item) for item in value]
        case AttributeType.SPARSE_TENSOR:
            value = value.SerializeToString()
        case AttributeType.SPARSE_TENSORS:
            value = [item.SerializeToString() for item in value]
    return f"{attr.type.name} {value!r}"


def contents(tensor: Tensor) -> Hashable:
    """Return a key that two tensors share exactly when type, shape and data are equal (SHA-256)."""
    return tensor.dtype, tensor.shape, digest(tensor)
