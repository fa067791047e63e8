"""The small form of tests/bench/large_model.py: what does not fit into one message is compiled a tensor at a time."""

import importlib.util
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

import nncomp
from nncomp.onnx_io import load, save
from nncomp.runtime import run
from nncomp_ort.capabilities import CAPABILITIES

VOCABULARY, WIDTH = 1 << 16, 256  # a table of 64 MiB
CHUNKS_MIB = 28  # what is computed from a million weights at a time


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = Path(__file__).parents[3] / "bench" / "large_model.py"
    spec = importlib.util.spec_from_file_location("large_model", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    found = tmp_path_factory.mktemp("large") / "model.onnx"
    bench.write_model(found, vocabulary=VOCABULARY, width=WIDTH, layers=3)
    return found


def test_memory_is_that_of_the_largest_tensor(model, tmp_path):
    registry = nncomp.Registry.discover()
    rounding = registry.pass_type("quantize-weights").from_options({"bits": 8, "method": "rtn"})
    ctx = nncomp.Context(ops=registry.ops, target=CAPABILITIES)
    tracemalloc.start()
    graph = load(model)
    nncomp.Pipeline([registry.pass_type("cleanup")(), rounding]).run(graph, ctx)
    files = save(graph, tmp_path / "model.onnx", protobuf_limit=1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    group = VOCABULARY * WIDTH * 4
    assert peak < 0.3 * group + (CHUNKS_MIB << 20)  # the group itself is mapped
    assert [path.name for path in files] == ["model.onnx", "model.onnx.data"]
    assert sum(path.stat().st_size for path in files) < 0.6 * model.with_suffix(".bin").stat().st_size
    assert {op.kind for op in graph.ops()} == {"Gather", "Cast", "Mul", "MatMulNBits", "Tanh"}
    ids = {"ids": np.arange(0, VOCABULARY, VOCABULARY // 7)}
    # Random weights: nothing that training would have made robust.
    expected, got = run(load(model), ids)["logits"], run(load(files[0]), ids)["logits"]
    assert np.linalg.norm(got - expected) < 0.05 * np.linalg.norm(expected)


def test_the_tied_table_is_read_once_from_its_file(model):
    initializers = onnx.load_model(model, load_external_data=False).graph.initializer
    assert [tensor.name for tensor in initializers].count("table") == 1
    graph = load(model)
    assert len(graph.uses(graph.find("table"))) == 2
