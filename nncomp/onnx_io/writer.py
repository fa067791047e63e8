"""Graph -> ModelProto: what was read is written back, sorted, with unique names, at a version that suffices."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Final, TypeAlias, cast

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

from nncomp.ir import Attribute, AttributeType, DataType, Graph, Op, Tensor, TensorType, Value
from nncomp.onnx_io.tensors import SparseConstant, tensor_to_proto
from nncomp.onnx_io.types import type_to_proto

WriteTensor: TypeAlias = Callable[[Tensor, str], TensorProto]
"""How a constant of a given name becomes a message: with its data, or as a reference to data kept elsewhere."""

_IR_WITH_FREE_INITIALIZERS: Final = 4
_IR_BY_DTYPE: Final[Mapping[DataType, int]] = {
    DataType.FLOAT8E4M3FN: 9,
    DataType.FLOAT8E4M3FNUZ: 9,
    DataType.FLOAT8E5M2: 9,
    DataType.FLOAT8E5M2FNUZ: 9,
    DataType.INT4: 10,
    DataType.UINT4: 10,
    DataType.FLOAT4E2M1: 11,
    DataType.FLOAT8E8M0: 12,
    DataType.INT2: 13,
    DataType.UINT2: 13,
    DataType.FLOAT6E2M3: 14,
    DataType.FLOAT6E3M2: 14,
}


def graph_to_proto(graph: Graph, *, write_tensor: WriteTensor = tensor_to_proto) -> ModelProto:
    """Return the model as a message.

    Args:
        graph: A model's own graph, valid.
        write_tensor: Called for each dense constant of the graph and of its bodies.
    """
    info = graph.info
    model = ModelProto(
        ir_version=max(info.ir_version, needed_ir_version(graph)),
        model_version=info.model_version or None,
    )
    _set(
        model,
        producer_name=info.producer_name,
        producer_version=info.producer_version,
        domain=info.domain,
        doc_string=info.doc,
    )
    for domain, version in info.opsets.items():
        model.opset_import.add(domain=domain, version=version)
    _write_metadata(model.metadata_props, info.metadata)
    for data in info.functions.values():
        model.functions.append(FunctionProto.FromString(data))
    for data in info.training_info:
        model.training_info.append(onnx.TrainingInfoProto.FromString(data))
    for data in info.configuration:
        model.configuration.add().ParseFromString(data)
    _GraphWriter(graph, {}, frozenset(), write_tensor).write(model.graph)
    return model


def needed_ir_version(graph: Graph) -> int:
    """Return the lowest IR version that can hold what the graph holds."""
    types = {id(value.type): value.type for part in graph.graphs() for value in part.values()}  # hashing them is slow
    needed = max(
        (_IR_BY_DTYPE.get(type_.dtype, 1) for type_ in types.values() if isinstance(type_, TensorType)), default=1
    )
    if any(value.const is not None for value in graph.values()):
        needed = max(needed, _IR_WITH_FREE_INITIALIZERS)
    return max(needed, 8) if graph.info.functions else needed


class _GraphWriter:
    """Writes one graph, given the written names of the values around it."""

    def __init__(
        self, graph: Graph, outer: Mapping[Value, str], taken: frozenset[str], write_tensor: WriteTensor
    ) -> None:
        self.graph = graph
        self.write_tensor = write_tensor
        self.names = {value: value.name for value in graph.values()}
        self.types: dict[int, TypeProto] = {}  # by id: the graph keeps them
        own = set(self.names.values())
        suffixes: dict[str, int] = {}
        for value in graph.values() if taken else ():
            if value.name in taken:
                self.names[value] = _free(value.name, taken, own, suffixes)
        for inner, captured in graph.captures.items():
            self.names[inner] = outer[captured]
        self.taken = taken | set(self.names.values()) if any(op.bodies for op in graph.ops()) else taken

    def write(self, proto: GraphProto) -> None:
        graph = self.graph
        proto.name = graph.name
        _set(proto, doc_string=graph.doc)
        _write_metadata(proto.metadata_props, graph.metadata)
        for data in graph.quantization_annotations:
            proto.quantization_annotation.add().ParseFromString(data)
        for value in graph.inputs:
            self._write_info(proto.input.add(), value)
            if value.default is not None:
                self._write_constant(proto, value.default, self.names[value])
        for value in graph.outputs:
            self._write_info(proto.output.add(), value)
        interface = {*graph.inputs, *graph.outputs}
        for value in graph.values():
            if value.const is not None:
                self._write_constant(proto, value.const, self.names[value])
            described = value.producer is not None and value.type is not None
            if value.name and (described or value.doc or value.metadata) and value not in interface:
                self._write_info(proto.value_info.add(), value)
        own = {op.name for op in graph.ops()}
        used: set[str] = set()
        suffixes: dict[str, int] = {}
        for op in graph.ops():
            name = _free(op.name, used, own, suffixes) if op.name in used else op.name
            if name:
                used.add(name)
            self._write_node(proto.node.add(), op, name)

    def _write_info(self, proto: onnx.ValueInfoProto, value: Value) -> None:
        proto.name = self.names[value]
        if value.doc:
            proto.doc_string = value.doc
        if value.type is not None:
            type_ = self.types.get(id(value.type))
            if type_ is None:
                type_ = self.types[id(value.type)] = type_to_proto(value.type)
            proto.type.CopyFrom(type_)
        if value.metadata:
            _write_metadata(proto.metadata_props, value.metadata)

    def _write_constant(self, proto: GraphProto, tensor: Tensor, name: str) -> None:
        if isinstance(tensor, SparseConstant):
            sparse = proto.sparse_initializer.add()
            sparse.CopyFrom(tensor.proto)
            sparse.values.name = name
        else:
            proto.initializer.append(self.write_tensor(tensor, name))

    def _write_node(self, node: NodeProto, op: Op, name: str) -> None:
        names = self.names
        node.op_type = op.kind
        if name:
            node.name = name
        if op.domain or op.overload or op.doc:
            _set(node, domain=op.domain, overload=op.overload, doc_string=op.doc)
        node.input.extend(["" if value is None else names[value] for value in op.inputs])
        node.output.extend([names[value] for value in op.outputs])
        for key, attr in op.attrs.items():
            node.attribute.append(attribute_to_proto(key, attr))
        for key, body in op.bodies.items():
            writer = _GraphWriter(body, self.names, self.taken, self.write_tensor)
            base, bracket, _ = key.partition("[")
            if not bracket:
                attr_proto = node.attribute.add(name=key, type=AttributeProto.GRAPH)
                writer.write(attr_proto.g)
                continue
            lists = [found for found in node.attribute if found.name == base]
            attr_proto = lists[0] if lists else node.attribute.add(name=base, type=AttributeProto.GRAPHS)
            writer.write(attr_proto.graphs.add())
        if op.metadata:
            _write_metadata(node.metadata_props, op.metadata)
        for data in op.devices:
            node.device_configurations.add().ParseFromString(data)


def attribute_to_proto(name: str, attr: Attribute) -> AttributeProto:
    """Return the message of an attribute."""
    proto = AttributeProto(name=name, type=cast("AttributeProto.AttributeType", attr.type.value))
    _set(proto, doc_string=attr.doc)
    if attr.ref:
        proto.ref_attr_name = attr.ref
        return proto
    value: Any = attr.value
    match attr.type:
        case AttributeType.INT:
            proto.i = value
        case AttributeType.FLOAT:
            proto.f = value
        case AttributeType.STRING:
            proto.s = _bytes(value)
        case AttributeType.TENSOR:
            proto.t.CopyFrom(tensor_to_proto(value, getattr(value, "name", None) or ""))
        case AttributeType.SPARSE_TENSOR:
            proto.sparse_tensor.CopyFrom(value)
        case AttributeType.TYPE_PROTO:
            proto.tp.CopyFrom(type_to_proto(value))
        case AttributeType.INTS:
            proto.ints.extend(value)
        case AttributeType.FLOATS:
            proto.floats.extend(value)
        case AttributeType.STRINGS:
            proto.strings.extend(_bytes(item) for item in value)
        case AttributeType.TENSORS:
            proto.tensors.extend(tensor_to_proto(item, getattr(item, "name", None) or "") for item in value)
        case AttributeType.SPARSE_TENSORS:
            proto.sparse_tensors.extend(value)
        case AttributeType.TYPE_PROTOS:
            proto.type_protos.extend(type_to_proto(item) for item in value)
        case AttributeType.GRAPHS if not value:
            pass
        case _:
            raise AssertionError(f"attribute {name!r} has type {attr.type}")
    return proto


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _free(name: str, taken: Container[str], also: Container[str], suffixes: dict[str, int]) -> str:
    """Return ``name_1`` or the next that is in neither; ``suffixes`` remembers how far each name has come."""
    if not name:
        return name
    number = suffixes.get(name, 1)
    while f"{name}_{number}" in taken or f"{name}_{number}" in also:
        number += 1
    suffixes[name] = number + 1
    return f"{name}_{number}"


def _set(proto: Any, **texts: str) -> None:
    """Set the text fields that are not empty: an ONNX message tells an empty text from none."""
    for name, text in texts.items():
        if text:
            setattr(proto, name, text)


def _write_metadata(props: Any, metadata: Mapping[str, str]) -> None:
    for key, value in metadata.items():
        props.add(key=key, value=value)
