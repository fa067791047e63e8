"""Lift or lower a model's opset, by onnx's version converter; weights stay out of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from nncomp.errors import UnsupportedError
from nncomp.ir import DataType, Graph, Tensor
from nncomp.onnx_io import ExternalFiles, graph_from_proto, graph_to_proto
from nncomp.onnx_io.tensors import described_tensor, tensor_to_proto

_DATA_UP_TO: Final = 1024  # elements; larger constants are weights, which no conversion looks into


def convert_opset(graph: Graph, version: int) -> None:
    """Convert a model's own graph to another version of ONNX's own opset; interface and names stay.

    Raises:
        UnsupportedError: onnx cannot convert an op (NNC-M038).
    """
    if graph.opsets.get("") in (version, None):
        return
    weights = _ParkedWeights()
    model = graph_to_proto(graph, write_tensor=weights.park)
    try:
        converted = onnx.version_converter.convert_version(model, version)
    except Exception as error:  # the converter raises bare RuntimeErrors and worse
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise _refusal(graph, version, reason) from error
    _give_back(model.graph, converted.graph)
    result = graph_from_proto(converted, weights)
    info = graph.info
    for old, new in zip(graph.inputs, result.inputs, strict=True):
        if (old.name, old.type) != (new.name, new.type):  # as Scan's, which lost its batch axis with opset 9
            raise _refusal(graph, version, f"input {old.name!r} would be {new.type}, not {old.type}")
    result.set_info(
        metadata=info.metadata,
        functions=info.functions,
        training_info=info.training_info,
        configuration=info.configuration,
        opsets=MappingProxyType({**info.opsets, "": version}),
    )
    graph.adopt(result)


def _refusal(graph: Graph, version: int, reason: str) -> UnsupportedError:
    return UnsupportedError(f"opset {graph.opsets['']} cannot be converted to {version}: {reason}", code="NNC-M038")


@dataclass
class _ParkedWeights(ExternalFiles):
    """Weights that the model names by number while it is converted, as if their data lay in a file."""

    tensors: list[Tensor] = field(default_factory=list)

    def park(self, tensor: Tensor, name: str) -> TensorProto:
        if tensor.size <= _DATA_UP_TO:
            return tensor_to_proto(tensor, name)
        proto = described_tensor(tensor, name)
        proto.data_location = TensorProto.EXTERNAL
        proto.external_data.add(key="location", value=str(len(self.tensors)))
        self.tensors.append(tensor)
        return proto

    def tensor(self, proto: TensorProto, dtype: DataType, dims: tuple[int, ...]) -> Tensor:
        parked = self.tensors[int(proto.external_data[0].value)]
        assert (dtype, dims) == (parked.dtype, parked.shape)
        return parked


def _give_back(old: GraphProto, new: GraphProto) -> None:
    """Copy to ``new`` what the converter drops: metadata, annotations, tensors' doc strings, outputs' own types."""
    new.metadata_props.extend(old.metadata_props)
    new.quantization_annotation.extend(old.quantization_annotation)
    for before, after in ((old.input, new.input), (old.output, new.output), (old.value_info, new.value_info)):
        infos = {info.name: info for info in before}
        for info in after:
            if info.name in infos:
                info.metadata_props.extend(infos[info.name].metadata_props)
    for output, as_declared in zip(new.output, old.output, strict=True):
        if as_declared.HasField("type"):
            output.type.CopyFrom(as_declared.type)
    tensors = {tensor.name: tensor for tensor in old.initializer}
    for tensor in new.initializer:
        if tensor.name in tensors and not tensor.doc_string:
            tensor.doc_string = tensors[tensor.name].doc_string
            tensor.metadata_props.extend(tensors[tensor.name].metadata_props)
    nodes = {tuple(node.output): node for node in old.node if node.output}
    for node in new.node:
        twin = nodes.get(tuple(node.output))
        if twin is not None:
            _give_back_node(twin, node)


def _give_back_node(old: NodeProto, new: NodeProto) -> None:
    new.metadata_props.extend(old.metadata_props)
    new.device_configurations.extend(old.device_configurations)
    if old.overload and new.op_type == old.op_type:
        new.overload = old.overload
    bodies = {attr.name: (attr.g, *attr.graphs) for attr in old.attribute}
    for attr in new.attribute:
        for before, after in zip(bodies.get(attr.name, ()), (attr.g, *attr.graphs), strict=False):
            _give_back(before, after)
