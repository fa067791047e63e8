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
    schemas = _Schemas(graph.opsets)
    functions = graph.info.functions
    for part in graph.graphs():
        if part.owner is not None:
            cycle = _cycle(part)
            if cycle:
                yield cycle
                return
        yield from _structure(part)
        for op in part.ops():
            called = bool(functions) and (op.domain, op.kind, op.overload) in functions
            yield from (() if called else list(schemas.broken(part, op))) or _quantization(part, op)


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
    for value in op.inputs:
        if value is not None and value not in graph:
            yield _error(graph, op, f"{op.label!r} reads {value.name!r}, which is not of its graph", "NNC-M032")
            return
    expected: set[tuple[Node, int | CaptureKey]] = {
        (value, slot) for slot, value in enumerate(op.inputs) if value is not None
    }
    for name, body in op.bodies.items():
        expected |= {(outer, CaptureKey(name, inner)) for inner, outer in body.captures.items()}
    if expected != graph.edges_into(op):
        yield _error(graph, op, f"edges into {op.label!r} do not match its inputs", "NNC-M032")


class _Form:
    """What onnx's schema of an operator asks of an op; read once, for onnx makes its lists anew each time."""

    def __init__(self, schema: OpSchema) -> None:
        self.inputs = range(schema.min_input, schema.max_input + 1)
        self.outputs = range(schema.min_output, schema.max_output + 1)
        self.formals = [(formal.name, formal.option in (_OPTIONAL, _VARIADIC)) for formal in schema.inputs]
        self.attributes = {name: _attribute_type(formal) for name, formal in schema.attributes.items()}
        self.required = [name for name, formal in schema.attributes.items() if formal.required]


class _Schemas:
    """Holds ops to onnx's schemas."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._opsets = opsets
        self._forms: dict[tuple[str, str], _Form | None] = {}

    def broken(self, graph: Graph, op: Op) -> Iterator[ModelError]:
        """Yield what an op, which calls no function of the model, does against its schema."""
        if op.domain not in self._opsets:
            if op.domain == "":
                yield _error(graph, op, "the model imports no opset of ONNX's own domain", "NNC-M036")
            return
        form = self._form(op)
        if form is None:
            newer = _exists_later(op)
            if newer:
                imported = f"the model imports {self._opsets[op.domain]}"
                yield _error(graph, op, f"{op.label!r}: {op.kind} came with opset {newer}, {imported}", "NNC-M038")
            return
        if len(op.inputs) not in form.inputs:
            takes = f"{op.kind} takes {form.inputs.start} to {form.inputs.stop - 1} inputs, got {len(op.inputs)}"
            yield _error(graph, op, f"{op.label!r}: {takes}", "NNC-M035")
        for value, (name, optional) in zip(op.inputs, form.formals, strict=False):
            if value is None and not optional:
                yield _error(graph, op, f"{op.label!r}: input {name!r} is required", "NNC-M035")
        if len(op.outputs) not in form.outputs:
            gives = f"{op.kind} gives {form.outputs.start} to {form.outputs.stop - 1} outputs, got {len(op.outputs)}"
            yield _error(graph, op, f"{op.label!r}: {gives}", "NNC-M035")
        for name, attr in op.attrs.items():
            expected = form.attributes.get(name)
            if expected is None:
                if op.domain == "":
                    yield _error(graph, op, f"{op.label!r}: {op.kind} has no attribute {name!r}", "NNC-M035")
            elif attr.type is not expected:
                found = f"attribute {name!r} is {attr.type.name}, expected {expected.name}"
                yield _error(graph, op, f"{op.label!r}: {found}", "NNC-M035")
        if form.required:
            bodies = {name.partition("[")[0] for name in op.bodies}
            for name in form.required:
                if name not in op.attrs and name not in bodies:
                    yield _error(graph, op, f"{op.label!r}: attribute {name!r} is required", "NNC-M035")

    def _form(self, op: Op) -> _Form | None:
        key = op.domain, op.kind
        if key not in self._forms:
            try:
                schema = onnx.defs.get_schema(op.kind, self._opsets[op.domain], op.domain)
            except SchemaError:
                self._forms[key] = None
            else:
                self._forms[key] = _Form(schema)
        return self._forms[key]


def _error(graph: Graph, op: Op, message: str, code: str) -> ModelError:
    return ModelError(message, code=code, where=Where(graph=graph.name, node=op.label))


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


def _exists_later(op: Op) -> int:
    try:
        return int(onnx.defs.get_schema(op.kind, op.domain).since_version)
    except SchemaError:
        return 0


def _attribute_type(formal: OpSchema.Attribute) -> AttributeType:
    number: Any = formal.type  # an enum, whatever onnx's stub says
    return AttributeType(number.value)
