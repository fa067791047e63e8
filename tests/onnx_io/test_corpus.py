"""ONNX's own 2033 backend models come through Graph with nodes, interface and tensors equal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx.backend.test
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.backend.test.loader import load_model_tests

from nncomp.onnx_io import ExternalFiles, graph_from_proto, graph_to_proto
from nncomp.onnx_io.tensors import tensor_from_proto
from nncomp.verify import problems

COUNTS = {"node": 1884, "simple": 23, "real": 9, "pytorch-converted": 82, "pytorch-operator": 35}
LIGHT = Path(onnx.backend.test.__file__).parent / "data" / "light"


def models(kind: str) -> Iterator[tuple[str, ModelProto]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # making the expected outputs of node tests divides by zero
        cases = load_model_tests(kind=kind)
    for case in cases:
        model = getattr(case, "model", None)
        if model is None:
            light = LIGHT / f"light_{case.name.removeprefix('test_')}.onnx"
            model = onnx.load(Path(case.model_dir) / "model.onnx" if case.model_dir else light)
        yield case.name, model


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


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind == "node" else []) for kind in COUNTS]
)
def test_every_backend_model_comes_through_with_nothing_lost(kind: str) -> None:
    different, count = [], 0
    for name, model in models(kind):
        count += 1
        back = graph_to_proto(graph_from_proto(model).clone())
        if said(back.graph) != said(model.graph) or around(back) != around(model):
            different.append(name)
    assert different == []
    assert count == COUNTS[kind]


@pytest.mark.parametrize("kind", [kind for kind in COUNTS if kind != "node"])
def test_every_whole_model_of_the_corpus_is_valid(kind: str) -> None:
    wrong = {name: [str(one) for one in problems(graph_from_proto(model))] for name, model in models(kind)}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_corpus_has_2033_models_here_too() -> None:
    assert sum(COUNTS.values()) == 2033
