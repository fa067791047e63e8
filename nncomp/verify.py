"""What a valid graph is: edges and fields agree, names are unique, every op follows its schema, types fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx.defs import OpSchema, SchemaError

from nncomp.errors import ModelError, Where
from nncomp.ir import AttributeType, CaptureKey, Graph, Node, Op, TensorType

_VARIADIC: Final = OpSchema.FormalParameterOption.Variadic
_OPTIONAL: Final = OpSchema.FormalParameterOption.Optional


def verify(graph: Graph) -> None:
    """Check a model's own graph and all bodies in it. Linear in ops.

    Raises:
        ModelError: the first thing found wrong (NNC-M030 to NNC-M051); ``print_graph`` with the error's place shows it.
    """
    for problem in problems(graph):
        raise problem


def problems(graph: Graph) -> Iterator[ModelError]:
    """Yield everything that is wrong with ``graph``, the structure before the schemas."""
    cycle = _cycle(graph)
    if cycle:
        yield cycle
        return
    for part in graph.graphs():
        if part.owner is not None:
            cycle = _cycle(part)
            if cycle:
                yield cycle
                return
        yield from _structure(part)
        for op in part.ops():
            yield from list(_schema(part, op)) or _quantization(part, op)


def _cycle(graph: Graph) -> ModelError | None:
    try:
        graph.ops()
    except ValueError:
        import networkx as nx

        loop = [node.label for node, *_ in nx.find_cycle(graph.nx) if isinstance(node, Op)]
        return ModelError(
            f"the graph has a cycle: {' -> '.join([*loop, loop[0]])}",
            code="NNC-M030",
            where=Where(graph=graph.name, node=loop[0]),
        )
    return None


def _structure(graph: Graph) -> Iterator[ModelError]:
    def wrong(message: str, code: str, node: str = "", tensor: str = "") -> ModelError:
        return ModelError(message, code=code, where=Where(graph=graph.name, node=node, tensor=tensor))

    sources = {*graph.inputs, *graph.captures}
    if len(set(graph.inputs)) != len(graph.inputs):
        yield wrong("a graph input is listed twice", "NNC-M034")
    seen: set[str] = set()
    for value in graph.values():
        if value.name in seen:
            yield wrong(f"two things produce {value.name!r}", "NNC-M031", tensor=value.name)
        if value.name:
            seen.add(value.name)
        if value.const is None and value.producer is None and value not in sources:
            yield wrong(f"{value.name!r} is read, but nothing produces it", "NNC-M032", tensor=value.name)
        if value.producer is not None and value.producer not in graph:
            yield wrong(f"{value.name!r} comes from an op that is gone", "NNC-M032", tensor=value.name)
        if value.const is not None and isinstance(value.type, TensorType):
            shape = value.const.shape
            if value.type.static_shape != shape or value.type.dtype != value.const.dtype:
                yield wrong(
                    f"constant {value.name!r} is {value.const.dtype.name} {list(shape)}, but typed {value.type}",
                    "NNC-M040",
                    tensor=value.name,
                )
    for value in graph.outputs:
        if value not in graph:
            yield wrong(f"graph output {value.name!r} is not produced", "NNC-M032", tensor=value.name)
    for op in graph.ops():
        yield from _edges(graph, op)


def _edges(graph: Graph, op: Op) -> Iterator[ModelError]:
    where = Where(graph=graph.name, node=op.label)
    for value in op.inputs:
        if value is not None and value not in graph:
            yield ModelError(
                f"{op.label!r} reads {value.name!r}, which is not of its graph", code="NNC-M032", where=where
            )
            return
    expected: set[tuple[Node, int | CaptureKey]] = {
        (value, slot) for slot, value in enumerate(op.inputs) if value is not None
    }
    for name, body in op.bodies.items():
        expected |= {(outer, CaptureKey(name, inner)) for inner, outer in body.captures.items()}
    if expected != graph.edges_into(op):
        yield ModelError(f"edges into {op.label!r} do not match its inputs", code="NNC-M032", where=where)


def _schema(graph: Graph, op: Op) -> Iterator[ModelError]:
    where = Where(graph=graph.name, node=op.label)
    if (op.domain, op.kind, op.overload) in graph.info.functions:
        return
    if op.domain not in graph.opsets:
        if op.domain == "":
            yield ModelError("the model imports no opset of ONNX's own domain", code="NNC-M036", where=where)
        return
    schema = _find_schema(op, graph.opsets)
    if schema is None:
        newer = _exists_later(op)
        if newer:
            yield ModelError(
                f"{op.label!r}: {op.kind} came with opset {newer}, the model imports {graph.opsets[op.domain]}",
                code="NNC-M038",
                where=where,
            )
        return
    given = len(op.inputs)
    if given < schema.min_input or given > schema.max_input:
        yield ModelError(
            f"{op.label!r}: {op.kind} takes {schema.min_input} to {schema.max_input} inputs, got {given}",
            code="NNC-M035",
            where=where,
        )
    for slot, formal in enumerate(schema.inputs[:given]):
        if op.inputs[slot] is None and formal.option not in (_OPTIONAL, _VARIADIC):
            yield ModelError(f"{op.label!r}: input {formal.name!r} is required", code="NNC-M035", where=where)
    if len(op.outputs) < schema.min_output or len(op.outputs) > schema.max_output:
        yield ModelError(
            f"{op.label!r}: {op.kind} gives {schema.min_output} to {schema.max_output} outputs, got {len(op.outputs)}",
            code="NNC-M035",
            where=where,
        )
    yield from _attributes(op, schema, where)


def _attributes(op: Op, schema: OpSchema, where: Where) -> Iterator[ModelError]:
    for name, attr in op.attrs.items():
        formal = schema.attributes.get(name)
        if formal is None:
            if op.domain == "":
                yield ModelError(f"{op.label!r}: {op.kind} has no attribute {name!r}", code="NNC-M035", where=where)
        elif attr.type is not (expected := _attribute_type(formal)):
            yield ModelError(
                f"{op.label!r}: attribute {name!r} is {attr.type.name}, expected {expected.name}",
                code="NNC-M035",
                where=where,
            )
    bodies = {name.partition("[")[0] for name in op.bodies}
    for name, formal in schema.attributes.items():
        if formal.required and name not in op.attrs and name not in bodies:
            yield ModelError(f"{op.label!r}: attribute {name!r} is required", code="NNC-M035", where=where)


def _quantization(graph: Graph, op: Op) -> Iterator[ModelError]:
    if op.kind not in ("QuantizeLinear", "DequantizeLinear") or op.domain not in ("", "com.microsoft"):
        return
    where = Where(graph=graph.name, node=op.label)
    scale = graph.array(op.input(1))
    if scale is None:
        return
    numbers = scale.astype(np.float64)
    if not ((numbers > 0) & (numbers < np.inf)).all():
        yield ModelError(
            f"{op.label!r}: a scale must be positive and finite", code="NNC-M051", where=where, hint="recalibrate"
        )
    zero = graph.array(op.input(2))
    if zero is not None and zero.shape != scale.shape and not zero.size == scale.size == 1:
        yield ModelError(
            f"{op.label!r}: scale has shape {list(scale.shape)}, zero_point {list(zero.shape)}",
            code="NNC-M051",
            where=where,
        )
    data = op.input(0)
    shape = data.shape if data is not None else None
    if scale.ndim == 1 and scale.size > 1 and shape is not None and not op.attr("block_size", 0):
        axis = op.attr("axis", 1)
        size = shape[axis] if -len(shape) <= axis < len(shape) else -1
        if isinstance(size, int) and size != scale.size:
            yield ModelError(
                f"{op.label!r}: {scale.size} scales along axis {axis}, which has size {size}",
                code="NNC-M051",
                where=where,
            )


def _find_schema(op: Op, opsets: Mapping[str, int]) -> OpSchema | None:
    try:
        return onnx.defs.get_schema(op.kind, opsets[op.domain], op.domain)
    except SchemaError:
        return None


def _exists_later(op: Op) -> int:
    try:
        return int(onnx.defs.get_schema(op.kind, op.domain).since_version)
    except SchemaError:
        return 0


def _attribute_type(formal: OpSchema.Attribute) -> AttributeType:
    number: Any = formal.type  # an enum, whatever onnx's stub says
    return AttributeType(number.value)
