"""What a compilation reads: the model, its files and digest; and inputs with a default made constants on request."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from nncomp.ir import Graph
from nncomp.onnx_io import graph_from_proto, graph_to_proto


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
