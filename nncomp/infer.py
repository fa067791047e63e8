"""Types of all values: onnx's shape inference for what it knows, table rules for what it does not."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import TensorProto

from nncomp.errors import ModelError
from nncomp.ir import Graph, Op, SequenceType, Tensor, TensorType, Type, Value
from nncomp.onnx_io import graph_to_proto
from nncomp.onnx_io.tensors import tensor_to_proto
from nncomp.onnx_io.types import TypeReader, type_from_proto, type_to_proto
from nncomp.onnx_io.writer import attribute_to_proto
from nncomp.ops import OpTable
from nncomp.propagation import MAX_NUMBERS, followed, is_leash


def infer_types(
    graph: Graph, ops: OpTable | None = None, *, input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> None:
    """Set the type of every value that can be inferred, in bodies too; known types are only ever refined.

    Weights are not serialized: large constants enter as typed inputs. What onnx finds contradictory is left as it is.

    Args:
        graph: A model's own graph.
        ops: Table whose ``infer`` rules cover ops that onnx has no schema for.
        input_shapes: Sizes to assume for graph inputs, by name. The graph's own input types stay as they are.

    Raises:
        ModelError: types contradict each other (NNC-M040).
    """
    found = inferred_types(graph, input_shapes=input_shapes)
    for part in graph.graphs():
        for value in part.values():
            seen = found.get(value) or (part.captures[value].type if value in part.captures else None)
            if seen is not None:
                part.set_type(value, merged_type(value.type, seen))
    if ops is not None:
        _apply_table_rules(graph, ops)


def inferred_types(
    graph: Graph, *, input_shapes: Mapping[str, tuple[int, ...]] | None = None, declared: bool = True
) -> dict[Value, Type]:
    """Return what onnx's shape inference finds for op outputs of the outermost graph and its bodies.

    Args:
        graph: A model's own graph.
        input_shapes: Sizes to assume for graph inputs, by name.
        declared: Start from the known types of all values. False: from those of graph inputs and constants only, for
            who must not rely on what a file says about values inside.
    """
    weights: list[tuple[str, Tensor]] = []

    def as_input(tensor: Tensor, name: str) -> TensorProto:
        if tensor.size <= MAX_NUMBERS:
            return tensor_to_proto(tensor, name)
        weights.append((name, tensor))
        return TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape)

    model = graph_to_proto(graph, write_tensor=as_input)
    for domain in sorted({op.domain for _, op in graph.walk()} - graph.opsets.keys()):
        model.opset_import.add(domain=domain, version=1)  # onnx would stop at an op of a domain that is not imported
    if not declared:
        _forget_declared(model.graph, outermost=True)
    _move_weights_to_inputs(model, {name for name, _ in weights})
    _forget_defaults(model.graph)
    _say_defaults(model.graph)
    for item in model.graph.input:
        if input_shapes and item.name in input_shapes:
            del item.type.tensor_type.shape.dim[:]
            for size in input_shapes[item.name]:
                item.type.tensor_type.shape.dim.add(dim_value=size)
    if input_shapes:
        del model.graph.value_info[:]
        for item in model.graph.output:
            if item.type.HasField("tensor_type"):
                item.type.tensor_type.ClearField("shape")
    try:
        inferred = followed(model)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"types do not fit: {str(error).splitlines()[0]}", code="NNC-M040") from None
    result: dict[Value, Type] = {}
    _collect(graph, inferred.graph, TypeReader(), result)
    return result


def contradiction(graph: Graph) -> str:
    """Return what onnx's shape inference, told to be strict, finds wrong with a model's own graph, "" if nothing.

    For explaining a refusal: strict inference complains of models that run, too.
    """
    model = graph_to_proto(graph, write_tensor=_small_or_described)
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        lines = [line.strip() for line in str(error).splitlines() if "(op_type:" in line]
        found = lines[0].removeprefix("[ShapeInferenceError]").removeprefix("[TypeInferenceError]") if lines else ""
        return found.strip()
    return ""


def _small_or_described(tensor: Tensor, name: str) -> TensorProto:
    if tensor.size <= MAX_NUMBERS:
        return tensor_to_proto(tensor, name)
    return TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape)


def _move_weights_to_inputs(model: onnx.ModelProto, names: set[str]) -> None:
    def move(proto: onnx.GraphProto) -> None:
        gone = [tensor for tensor in proto.initializer if tensor.name in names]
        kept = [tensor for tensor in proto.initializer if tensor.name not in names]
        present = {item.name for item in proto.input}
        for tensor in gone:
            if tensor.name not in present:
                info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                (proto.input if proto is model.graph else proto.value_info).append(info)
        del proto.initializer[:]
        proto.initializer.extend(kept)
        for node in proto.node:
            for attr in node.attribute:
                for body in (attr.g, *attr.graphs) if attr.type in (5, 10) else ():
                    move(body)

    if names:
        move(model.graph)


def _forget_declared(proto: onnx.GraphProto, *, outermost: bool) -> None:
    del proto.value_info[:]
    for item in (*proto.output, *(() if outermost else proto.input)):
        item.ClearField("type")
    for node in proto.node:
        for attr in node.attribute:
            for body in (attr.g, *attr.graphs) if attr.type in (5, 10) else ():
                _forget_declared(body, outermost=False)


def _forget_defaults(proto: onnx.GraphProto) -> None:
    """Drop the data of inputs that a caller may override: onnx would take it for fixed, and derive shapes from it."""
    inputs = {item.name for item in proto.input}
    kept = [tensor for tensor in proto.initializer if tensor.name not in inputs]
    if len(kept) < len(proto.initializer):
        del proto.initializer[:]
        proto.initializer.extend(kept)


def _say_defaults(proto: onnx.GraphProto) -> None:
    """Write down that a spectrum is one-sided unless it says otherwise: onnx's rule for STFT takes it for whole."""
    for node in proto.node:
        if node.op_type == "STFT" and not node.domain and all(attr.name != "onesided" for attr in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("onesided", 1))
        for attr in node.attribute:
            for body in (attr.g, *attr.graphs) if attr.type in (5, 10) else ():
                _say_defaults(body)


def _collect(graph: Graph, proto: onnx.GraphProto, read: TypeReader, result: dict[Value, Type]) -> None:
    types = {item.name: item.type for item in (*proto.value_info, *proto.output)}
    nodes = (node for node in proto.node if not is_leash(node))
    for op, node in zip(graph.ops(), nodes, strict=True):
        for value, name in zip(op.outputs, node.output, strict=True):
            type_ = read(types[name]) if name in types else None
            if type_ is not None:
                result[value] = type_
        if not op.bodies:
            continue
        by_name = {attr.name: attr for attr in node.attribute}
        for name, body in op.bodies.items():
            base, bracket, index = name.partition("[")
            attr = by_name[base]
            _collect(body, attr.graphs[int(index.rstrip("]"))] if bracket else attr.g, read, result)


def merged_type(known: Type | None, found: Type) -> Type:
    """Return the more exact of two types of one value, dimension by dimension; ``known`` wins a contradiction."""
    if known is None or known == found or isinstance(known, SequenceType):
        return found if known is None else known
    if not isinstance(known, TensorType) or not isinstance(found, TensorType):
        return known
    if known.dtype != found.dtype or found.shape is None:
        return known if known.dtype.value else found
    if known.shape is None or len(known.shape) != len(found.shape):
        return TensorType(known.dtype, found.shape, known.denotation)
    dims = tuple(
        b if (a is None or (isinstance(a, str) and isinstance(b, int))) else a
        for a, b in zip(known.shape, found.shape, strict=True)
    )
    return TensorType(known.dtype, dims, known.denotation, known.dim_denotations)


def _apply_table_rules(graph: Graph, ops: OpTable) -> None:
    """Apply table rules where a type is not fully known, and onnx's rule for each op behind what they found. Linear."""
    found: set[Value] = set()
    for part, op in graph.walk():
        row = ops.row(op, graph.opsets)
        if row is not None and row.infer is not None and not all(_is_static(value) for value in op.outputs):
            types = row.infer(op)
        elif found.intersection(op.inputs) and not op.bodies:
            types = op_types(op, part)
        else:
            types = ()
        for value, type_ in zip(op.outputs, types, strict=False):
            if type_ is not None and value.name:
                _refine(part, value, type_, found)
        for body in op.bodies.values():
            for inner, outer in body.captures.items():
                if outer in found and outer.type is not None:
                    _refine(body, inner, outer.type, found)


def _refine(graph: Graph, value: Value, type_: Type, found: set[Value]) -> None:
    merged = merged_type(value.type, type_)
    if merged != value.type:
        graph.set_type(value, merged)
        found.add(value)


def _is_static(value: Value) -> bool:
    return not value.name or (value.tensor_type is not None and value.tensor_type.static_shape is not None)


def op_types(op: Op, graph: Graph, known: Mapping[Value, Tensor] | None = None) -> tuple[Type | None, ...]:
    """Return what onnx's rule for this one op says of its outputs; nothing where it has none, or contradicts.

    Args:
        op: An op without bodies whose inputs have types.
        graph: Where it stands.
        known: Data of computed inputs that is known all the same.
    """
    version = graph.opsets.get(op.domain, 1)
    node = onnx.NodeProto(op_type=op.kind, domain=op.domain)
    node.input.extend("" if value is None else f"in{slot}" for slot, value in enumerate(op.inputs))
    node.output.extend(f"out{slot}" if value.name else "" for slot, value in enumerate(op.outputs))
    node.attribute.extend(attribute_to_proto(name, attr) for name, attr in op.attrs.items())
    given = {f"in{slot}": value for slot, value in enumerate(op.inputs) if value is not None}
    constants = {name: (known or {}).get(value) or graph.constant(value) for name, value in given.items()}
    data = {name: tensor for name, tensor in constants.items() if tensor is not None and tensor.size <= MAX_NUMBERS}
    try:
        types = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(op.kind, version, op.domain),
            node,
            {name: type_to_proto(value.type) for name, value in given.items()},
            {name: tensor_to_proto(tensor, name) for name, tensor in data.items()},
            opset_imports=[onnx.helper.make_opsetid(domain, number) for domain, number in graph.opsets.items()],
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError):
        return ()
    return tuple(type_from_proto(types[name]) if name in types else None for name in node.output)
