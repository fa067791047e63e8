"""Lift or lower a model's opset, by onnx's version converter; weights stay out of it."""

from __future__ import annotations

from types import MappingProxyType

import onnx
from onnx import TensorProto

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, Tensor
from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.onnx_io.tensors import tensor_to_proto

_DATA_UP_TO = 1024  # elements; larger constants are weights, which no conversion looks into


def convert_opset(graph: Graph, version: int) -> None:
    """Convert a model's own graph to another version of ONNX's own opset; interface and names stay.

    Raises:
        UnsupportedError: onnx cannot convert an op (NNC-M038).
    """
    if graph.opsets.get("") in (version, None):
        return
    weights: dict[str, Tensor] = {}

    def stub(tensor: Tensor, name: str) -> TensorProto:
        if tensor.size <= _DATA_UP_TO or name in weights:
            return tensor_to_proto(tensor, name)
        weights[name] = tensor
        # The converter wants data to be there, but never reads a weight's: a view of one zero would not serialize.
        return TensorProto(name=name, data_type=tensor.dtype.value, dims=[0])

    model = graph_to_proto(graph, write_tensor=stub)
    try:
        converted = onnx.version_converter.convert_version(model, version)
    except Exception as error:  # noqa: BLE001  the converter raises bare RuntimeErrors and worse
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UnsupportedError(
            f"opset {graph.opsets['']} cannot be converted to {version}: {reason}", code="NNC-M038"
        ) from error
    result = graph_from_proto(converted)
    for part in result.graphs():
        for value in part.constants():
            if value.name in weights and value.const is not None and value.const.size == 0:
                replacement = part.add_constant(f"{value.name}_weight", weights[value.name])
                name = value.name
                part.replace_uses(value, replacement)
                part.remove_unused([value])
                part.rename(replacement, name)
    info = graph.info
    result.set_info(
        metadata=info.metadata,
        functions=info.functions,
        training_info=info.training_info,
        configuration=info.configuration,
        opsets=MappingProxyType({**info.opsets, "": version}),
    )
    graph.adopt(result)
