"""What a compilation reads: the model, its files and digest; and inputs with a default made constants on request."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto

from nncomp.ir import Graph, Tensor
from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.onnx_io.tensors import tensor_to_proto
from nncomp.text import digest

_DIGEST_FROM = 64  # bytes; smaller tensors enter the digest as they are


def model_digest(graph: Graph) -> str:
    """Return the SHA-256 of all that the model holds, weights included, wherever a file keeps them."""

    def by_digest(tensor: Tensor, name: str) -> TensorProto:
        if tensor.nbytes < _DIGEST_FROM:
            return tensor_to_proto(tensor, name)
        proto = TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape)
        proto.raw_data = bytes.fromhex(digest(tensor))
        return proto

    message = graph_to_proto(graph, write_tensor=by_digest)
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()


def model_files(path: Path) -> list[Path]:
    """Return the files of a model that was loaded from ``path``: itself, and those that hold its external data."""
    model = onnx.load_model(path, load_external_data=False)
    names = {
        entry.value
        for tensor in _all_tensors(model)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path, *(path.parent / name for name in sorted(names))]


def total_bytes(files: list[Path]) -> int:
    """Return the size of all files together."""
    return sum(path.stat().st_size for path in files if path.exists())


def freeze_defaults(graph: Graph) -> int:
    """Make constants of the inputs that a caller may leave out; the model can no longer be fed other values.

    Returns:
        How many inputs went.
    """
    names = {value.name for value in graph.inputs if value.default is not None}
    if not names:
        return 0
    model = graph_to_proto(graph)
    kept = [item for item in model.graph.input if item.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    graph.adopt(graph_from_proto(model))
    return len(names)


def _all_tensors(model: onnx.ModelProto) -> list[TensorProto]:
    found: list[TensorProto] = []
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            found += [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
            nodes += graph.node
            continue
        for attr in nodes.pop().attribute:
            found += [attr.t, *attr.tensors]
            graphs += (
                [attr.g, *attr.graphs] if attr.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) else []
            )
    return found
