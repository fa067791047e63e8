"""ModelProto -> Graph: everything is carried over; what no valid model can hold is refused with its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from nncomp.errors import ModelError, Where
from nncomp.ir import Attribute, AttributeType, Graph, ModelInfo, Op, Tensor, Value
from nncomp.onnx_io.external import ExternalFiles
from nncomp.onnx_io.tensors import SparseConstant, tensor_from_proto, tensor_to_proto
from nncomp.onnx_io.types import TypeReader, type_from_proto
from nncomp.onnx_io.utf8 import require_utf8

_KNOWN_OPSETS: Final = onnx.defs.onnx_opset_version()


def graph_from_proto(model: ModelProto, files: ExternalFiles | None = None) -> Graph:
    """Return the graph of ``model``.

    Nodes in any order are accepted. Bodies of control-flow ops become graphs whose captures are explicit.

    Args:
        model: The message; it may be dropped afterwards.
        files: Where external data lies.

    Raises:
        ModelError: the model is invalid (NNC-M0xx).
    """
    if not model.HasField("graph"):
        raise ModelError("the file holds no ONNX graph", code="NNC-M005")
    files = files or ExternalFiles()
    info = _model_info(model)
    graph = Graph(model.graph.name, info=info)
    _Reader(graph, model.graph, None, files, TypeReader()).read()
    return graph


@dataclass
class _Reader:
    """Reads one graph; ``outer`` is the reader of the graph around it."""

    graph: Graph
    proto: GraphProto
    outer: _Reader | None
    files: ExternalFiles
    type_of: TypeReader
    values: dict[str, Value] = field(default_factory=dict)

    def read(self) -> None:
        graph, proto = self.graph, self.proto
        require_utf8(proto.name, proto.doc_string)
        graph.doc = proto.doc_string
        graph.metadata = _metadata(proto.metadata_props, Where(graph=proto.name))
        graph.quantization_annotations = tuple(a.SerializeToString() for a in proto.quantization_annotation)
        self._read_constants_and_inputs()
        outputs = self._declare_outputs()
        self.graph.insert_all([self._read_node(node, values) for node, values in zip(proto.node, outputs, strict=True)])
        self._read_interface()

    def _read_constants_and_inputs(self) -> None:
        data: dict[str, Tensor] = {}
        for tensor in self.proto.initializer:
            self._claim(tensor.name, data)
            data[tensor.name] = tensor_from_proto(tensor, self.files)
        for sparse in self.proto.sparse_initializer:
            self._claim(sparse.values.name, data)
            data[sparse.values.name] = _checked_sparse(sparse, self.files)
        for item in self.proto.input:
            require_utf8(item.name, item.doc_string)
            if item.name in self.values or not item.name:
                raise self._error(f"graph input {item.name!r} is listed twice", "NNC-M034", tensor=item.name)
            self._refuse_shadow(item.name)
            value = self.graph.add_input(
                item.name, self.type_of(item.type), default=data.pop(item.name, None), doc=item.doc_string
            )
            _set_metadata(value, item)
            self.values[item.name] = value
        types = {item.name: item for item in self.proto.value_info}
        for name, tensor in data.items():
            value = self.graph.add_constant(name, tensor)
            if name in types:
                _set_metadata(value, types[name])
            self.values[name] = value

    def _declare_outputs(self) -> list[tuple[Value, ...]]:
        declared = {item.name: item for item in (*self.proto.value_info, *self.proto.output)}
        outputs = []
        for node in self.proto.node:
            values = []
            for name in node.output:
                value = Value(name)
                if name:
                    self._claim(name, self.values, node)
                    self.values[name] = value
                    if name in declared:
                        value = self._typed(name, declared[name])
                        self.values[name] = value
                values.append(value)
            outputs.append(tuple(values))
        return outputs

    def _typed(self, name: str, item: ValueInfoProto) -> Value:
        require_utf8(item.doc_string)
        return Value(name, self.type_of(item.type), doc=item.doc_string, metadata=_metadata(item.metadata_props, None))

    def _read_node(self, node: NodeProto, outputs: tuple[Value, ...]) -> Op:
        require_utf8(node.op_type, node.domain, node.overload, node.name, node.doc_string)
        domain = normal_domain(node.domain)
        label = node.name or f"{node.op_type}({node.output[0] if node.output else ''})"
        if not node.op_type:
            raise self._error(f"node {label!r} has no operator", "NNC-M035", node=label)
        inputs = [self._resolve(name, label) if name else None for name in node.input]
        while inputs and inputs[-1] is None:
            inputs.pop()
        attrs: dict[str, Attribute] = {}
        bodies: dict[str, Graph] = {}
        place = Where(node=label) if node.attribute else None
        for attr in node.attribute:
            require_utf8(attr.name, attr.doc_string, attr.ref_attr_name, where=place)
            if attr.name in attrs or attr.name in bodies:
                raise self._error(f"attribute {attr.name!r} of {label!r} is given twice", "NNC-M035", node=label)
            if attr.type == AttributeProto.GRAPH:
                bodies[attr.name] = self._read_body(attr.g)
            elif attr.type == AttributeProto.GRAPHS and not attr.graphs:
                attrs[attr.name] = Attribute(AttributeType.GRAPHS, (), doc=attr.doc_string)
            elif attr.type == AttributeProto.GRAPHS:
                bodies |= {f"{attr.name}[{i}]": self._read_body(g) for i, g in enumerate(attr.graphs)}
            else:
                attrs[attr.name] = attribute_from_proto(attr, self.files, label)
        return Op(
            node.op_type,
            tuple(inputs),
            outputs,
            attrs=MappingProxyType(attrs),
            bodies=MappingProxyType(bodies),
            domain=domain,
            overload=node.overload,
            name=node.name,
            doc=node.doc_string,
            metadata=_metadata(node.metadata_props, Where(node=label)) if node.metadata_props else _NO_METADATA,
            devices=tuple(item.SerializeToString() for item in node.device_configurations)
            if node.device_configurations
            else (),
        )

    def _read_body(self, proto: GraphProto) -> Graph:
        body = Graph(proto.name, info=self.graph.info)
        _Reader(body, proto, self, self.files, self.type_of).read()
        return body

    def _resolve(self, name: str, reader: str) -> Value:
        if name in self.values:
            return self.values[name]
        require_utf8(name)
        outer = None if self.outer is None else self.outer._find_for_body(name)
        if outer is None:
            raise self._error(
                f"{reader!r} reads {name!r}, which nothing produces", "NNC-M032", node=reader, tensor=name
            )
        value = self.graph.declare_capture(outer, name)
        self.values[name] = value
        return value

    def _find_for_body(self, name: str) -> Value | None:
        if name in self.values:
            return self.values[name]
        found = None if self.outer is None else self.outer._find_for_body(name)
        if found is None:
            return None
        value = self.graph.declare_capture(found, name)
        self.values[name] = value
        return value

    def _read_interface(self) -> None:
        outputs = []
        for item in self.proto.output:
            value = self._resolve(item.name, "the graph output list")
            if value.type is None and value.producer is not None:
                self.graph.set_type(value, self.type_of(item.type))
            outputs.append(value)
        self.graph.set_outputs(outputs)

    def _claim(self, name: str, taken: Mapping[str, object], node: NodeProto | None = None) -> None:
        require_utf8(name)
        if name in taken:
            place = node.name or node.op_type if node is not None else ""
            raise self._error(f"two things produce {name!r}", "NNC-M031", node=place, tensor=name)
        self._refuse_shadow(name)

    def _refuse_shadow(self, name: str) -> None:
        outer = self.outer
        while outer is not None:
            if name in outer.values:
                raise self._error(f"{name!r} shadows a name of graph {outer.graph.name!r}", "NNC-M033", tensor=name)
            outer = outer.outer

    def _error(self, message: str, code: str, *, node: str = "", tensor: str = "") -> ModelError:
        return ModelError(message, code=code, where=Where(graph=self.graph.name, node=node, tensor=tensor))


def attribute_from_proto(attr: AttributeProto, files: ExternalFiles, label: str) -> Attribute:
    """Return an attribute that is not a graph.

    Raises:
        ModelError: its type is unknown (NNC-M035).
    """
    type_ = AttributeType(attr.type) if attr.type in AttributeType._value2member_map_ else AttributeType.UNDEFINED
    if attr.ref_attr_name:
        return Attribute(type_, None, attr.ref_attr_name, attr.doc_string)
    value: Any
    match type_:
        case AttributeType.INT:
            value = attr.i
        case AttributeType.FLOAT:
            value = attr.f
        case AttributeType.STRING:
            value = _text(attr.s)
        case AttributeType.TENSOR:
            value = tensor_from_proto(attr.t, files)
        case AttributeType.SPARSE_TENSOR:
            value = _sparse_on_its_own(attr.sparse_tensor, files)
        case AttributeType.TYPE_PROTO:
            value = type_from_proto(attr.tp)
        case AttributeType.INTS:
            value = tuple(attr.ints)
        case AttributeType.FLOATS:
            value = tuple(attr.floats)
        case AttributeType.STRINGS:
            value = tuple(_text(item) for item in attr.strings)
        case AttributeType.TENSORS:
            value = tuple(tensor_from_proto(item, files) for item in attr.tensors)
        case AttributeType.SPARSE_TENSORS:
            value = tuple(_sparse_on_its_own(item, files) for item in attr.sparse_tensors)
        case AttributeType.TYPE_PROTOS:
            value = tuple(type_from_proto(item) for item in attr.type_protos)
        case _:
            raise ModelError(
                f"attribute {attr.name!r} of {label!r} has no type", code="NNC-M035", where=Where(node=label)
            )
    return Attribute(type_, value, "", attr.doc_string)


def normal_domain(domain: str) -> str:
    """Return "" for ONNX's own domain, by either of its names."""
    return "" if domain == "ai.onnx" else domain


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


_NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})


def _metadata(props: Sequence[onnx.StringStringEntryProto], where: Where | None) -> Mapping[str, str]:
    if not props:
        return _NO_METADATA
    items: dict[str, str] = {}
    for prop in props:
        require_utf8(prop.key, prop.value, where=where)
        if prop.key in items:
            raise ModelError(f"metadata key {prop.key!r} is given twice", code="NNC-M034", where=where)
        items[prop.key] = prop.value
    return MappingProxyType(items)


def _set_metadata(value: Value, item: ValueInfoProto) -> None:
    from nncomp.ir.nodes import set_field

    require_utf8(item.doc_string)
    if item.metadata_props:
        set_field(value, "metadata", _metadata(item.metadata_props, Where(tensor=item.name)))
    if item.doc_string:
        set_field(value, "doc", item.doc_string)


def _model_info(model: ModelProto) -> ModelInfo:
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise ModelError(f"IR version {model.ir_version} is unknown", code="NNC-M037")
    require_utf8(model.producer_name, model.producer_version, model.domain, model.doc_string)
    opsets: dict[str, int] = {}
    for item in model.opset_import:
        require_utf8(item.domain)
        domain = normal_domain(item.domain)
        if domain in opsets:
            raise ModelError(f"domain {domain or 'ai.onnx'!r} is imported twice", code="NNC-M036")
        if not 1 <= item.version <= (_KNOWN_OPSETS if domain == "" else 2**31):
            raise ModelError(f"opset {item.version} of {domain or 'ai.onnx'!r} is unknown", code="NNC-M036")
        opsets[domain] = item.version
    if not opsets and model.ir_version >= 3:
        raise ModelError("the model imports no opset", code="NNC-M036")
    functions: dict[tuple[str, str, str], FunctionProto] = {}
    for function in model.functions:
        require_utf8(function.domain, function.name, function.overload)
        key = (normal_domain(function.domain), function.name, function.overload)
        if key in functions:
            raise ModelError(f"function {key[1]!r} of {key[0]!r} is defined twice", code="NNC-M031")
        functions[key] = function
    _refuse_recursion(functions)
    return ModelInfo(
        ir_version=model.ir_version,
        opsets=MappingProxyType(opsets or {"": 1}),
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        domain=model.domain,
        model_version=model.model_version,
        doc=model.doc_string,
        metadata=_metadata(model.metadata_props, Where()),
        functions=MappingProxyType({key: function.SerializeToString() for key, function in functions.items()}),
        training_info=tuple(item.SerializeToString() for item in model.training_info),
        configuration=tuple(item.SerializeToString() for item in model.configuration),
    )


def _refuse_recursion(functions: Mapping[tuple[str, str, str], FunctionProto]) -> None:
    calls = {
        key: {(normal_domain(node.domain), node.op_type, node.overload) for node in _all_nodes(function.node)}
        & functions.keys()
        for key, function in functions.items()
    }
    done: set[tuple[str, str, str]] = set()
    while ready := {key for key, called in calls.items() if key not in done and called <= done}:
        done |= ready
    for key in (key for key in calls if key not in done):
        raise ModelError(f"function {key[1]!r} of {key[0]!r} calls itself", code="NNC-M039", where=Where(node=key[1]))


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in nodes:
        yield node
        for attr in node.attribute:
            for graph in (attr.g, *attr.graphs) if attr.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) else ():
                yield from _all_nodes(graph.node)


def _checked_sparse(proto: onnx.SparseTensorProto, files: ExternalFiles) -> SparseConstant:
    name = proto.values.name
    dense = 1
    for dim in proto.dims:
        if dim < 0:
            raise ModelError(f"sparse tensor {name!r} has a negative dimension", code="NNC-M024")
        dense *= dim
    indices = tensor_from_proto(proto.indices, files).numpy()
    count = tensor_from_proto(proto.values, files).size
    linear = indices.ndim == 1 and indices.shape[0] == count
    tuples = indices.ndim == 2 and indices.shape == (count, len(proto.dims))
    limits = [dense] if linear else list(proto.dims)
    inside = (linear or tuples) and bool(((indices >= 0) & (indices < limits)).all())
    if not inside:
        raise ModelError(f"sparse tensor {name!r} has indices out of range", code="NNC-M024", where=Where(tensor=name))
    return SparseConstant(_sparse_on_its_own(proto, files), files)


def _sparse_on_its_own(proto: onnx.SparseTensorProto, files: ExternalFiles) -> onnx.SparseTensorProto:
    """Return a copy that holds its data itself, wherever the model is written, and holds no part of the message."""
    own = onnx.SparseTensorProto()
    own.CopyFrom(proto)
    for part in (own.values, own.indices):
        if part.data_location == TensorProto.EXTERNAL:
            part.CopyFrom(tensor_to_proto(tensor_from_proto(part, files), part.name))
    return own
