"""ONNX's own 2033 backend models come through Graph with nodes, interface and tensors equal."""

from __future__ import annotations

from typing import Any

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from nncomp.onnx_io import ExternalFiles, graph_from_proto, graph_to_proto
from nncomp.onnx_io.tensors import tensor_from_proto
from nncomp.testing.corpus import BackendCase
from nncomp.text import constants_of, inexpressible, parse_graph, print_graph
from nncomp.verify import problems


def said(graph: GraphProto) -> dict[str, Any]:
    """What a graph says, whatever the form: tensors by their bits, domains by one name, nodes by their outputs."""
    return {
        "name": graph.name,
        "doc": graph.doc_string,
        "inputs": [info.SerializeToString(deterministic=True) for info in graph.input],
        "outputs": [info.SerializeToString(deterministic=True) for info in graph.output],
        "tensors": {tensor.name: bits(tensor) for tensor in graph.initializer},
        "sparse": [sparse.SerializeToString(deterministic=True) for sparse in graph.sparse_initializer],
        "metadata": [(item.key, item.value) for item in graph.metadata_props],
        "nodes": sorted((node_said(node) for node in graph.node), key=lambda node: list(node["outputs"])),
    }


def node_said(node: NodeProto) -> dict[str, Any]:
    inputs = list(node.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    return {
        "kind": ("" if node.domain == "ai.onnx" else node.domain, node.op_type),
        "overload": node.overload,
        "name": node.name,
        "doc": node.doc_string,
        "inputs": inputs,
        "outputs": list(node.output),
        "attributes": {attr.name: attribute_said(attr) for attr in node.attribute},
    }


def attribute_said(attr: AttributeProto) -> object:
    if attr.type == AttributeProto.GRAPH:
        return said(attr.g)
    if attr.type == AttributeProto.GRAPHS:
        return [said(graph) for graph in attr.graphs]
    if attr.type == AttributeProto.TENSOR:
        return attr.t.name, bits(attr.t)
    return attr.SerializeToString(deterministic=True)


def bits(tensor: TensorProto) -> tuple[object, ...]:
    found = tensor_from_proto(tensor, ExternalFiles())
    data = found.numpy().tolist() if tensor.data_type == TensorProto.STRING else found.tobytes()
    return tensor.data_type, tuple(tensor.dims), data, tensor.doc_string


def around(model: ModelProto) -> dict[str, Any]:
    return {
        "opsets": [(item.domain, item.version) for item in model.opset_import],
        "functions": [function.SerializeToString(deterministic=True) for function in model.functions],
        "metadata": [(item.key, item.value) for item in model.metadata_props],
        "producer": (model.producer_name, model.producer_version, model.domain, model.doc_string),
    }


def test_every_model_comes_through_with_nothing_lost(cases: list[BackendCase]) -> None:
    different = []
    for case in cases:
        back = graph_to_proto(graph_from_proto(case.model).clone())
        if said(back.graph) != said(case.model.graph) or around(back) != around(case.model):
            different.append(case.label)
    assert different == []


def test_every_model_comes_back_from_text(cases: list[BackendCase]) -> None:
    different = []
    for case in cases:
        graph = graph_from_proto(case.model)
        text = print_graph(graph, types=True)
        back = parse_graph(text, constants=constants_of(graph))
        same = graph_to_proto(back) == graph_to_proto(graph) and print_graph(back, types=True) == text
        if not same or inexpressible(graph):
            different.append(case.label)
    assert different == []


def test_every_whole_model_is_valid(cases: list[BackendCase]) -> None:
    whole = [case for case in cases if case.kind != "node"]
    wrong = {case.label: [str(one) for one in problems(graph_from_proto(case.model))] for case in whole}
    assert {label: found for label, found in wrong.items() if found} == {}
