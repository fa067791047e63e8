"""Reducing a failing graph, and what replays the failure."""

import inspect
import json

import pytest

import nncomp
from nncomp.cli import main
from nncomp.errors import UsageError
from nncomp.onnx_io import load, save
from nncomp.reduce import Failure, reduce_failure, reduce_graph
from nncomp.testing import graph

TEXT = """
g (float[2,4] x, float[2,4] z) => (float[2,4] y, float[2,4] v) <float[4,4] w> {
   a = Relu (x)  b = MatMul (a, w)  c = Sigmoid (b)  d = Tanh (c)  y = Add (d, z)  v = Neg (z)
}
"""


class Lie(nncomp.Pass):
    """Claim to change nothing, and make each Sigmoid a Tanh."""

    name = "lie"
    effect = nncomp.Effect.EXACT

    def run(self, graph, ctx):
        for op in graph.ops():
            if op.kind == "Sigmoid":
                new = graph.add_op("Tanh", op.inputs, [("t", op.output.type)]).output
                graph.replace_uses(op.output, new)
                graph.remove_unused([op.output])


LYING = f"""
import nncomp
NNCOMP_API = 1
{inspect.getsource(Lie)}
@nncomp.hookimpl
def nncomp_passes():
    return [Lie]
"""


def test_a_graph_is_reduced_to_what_fails():
    before = graph(TEXT)
    small = reduce_graph(before, lambda one: any(op.kind == "Sigmoid" for op in one.ops()))
    assert [op.kind for op in small.ops()] == ["Sigmoid"]
    assert len(small.inputs) == len(small.outputs) == 1
    assert len(before.ops()) == 6


def test_a_graph_that_needs_all_stays():
    before = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    assert [op.kind for op in reduce_graph(before, lambda one: len(one.ops()) == 1).ops()] == ["Relu"]


def test_no_more_than_so_many_graphs_are_tried():
    tried = []
    reduce_graph(graph(TEXT), lambda one: bool(tried.append(one)), tries=3)
    assert len(tried) == 3


def test_a_failure_leaves_model_recipe_and_record(tmp_path):
    found = reduce_failure(graph(TEXT), Failure([Lie()], seed=3), tmp_path)
    assert (found.code, found.ops_before, found.ops_after) == ("NNC-G001", 6, 1)
    assert [op.kind for op in load(tmp_path / "repro.onnx").ops()] == ["Sigmoid"]
    assert (tmp_path / "recipe.toml").read_text() == 'passes = ["lie"]\n'
    record = json.loads((tmp_path / "repro.json").read_text())
    assert (record["code"], record["seed"], sorted(record["versions"])) == (
        "NNC-G001",
        3,
        ["nncomp", "onnx", "onnxruntime"],
    )


def test_passes_that_hold_leave_nothing_to_reduce(tmp_path):
    with pytest.raises(UsageError) as error:
        reduce_failure(graph(TEXT), Failure([]), tmp_path / "out")
    assert error.value.message == "the passes do not fail on this model: there is nothing to reduce"
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_came_of_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "lying.py").write_text(LYING)
    monkeypatch.syspath_prepend(str(tmp_path))
    save(graph(TEXT), tmp_path / "m.onnx")
    status = main(["reduce", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "r"), "-p", "lie", "--plugin", "lying"])
    out = capsys.readouterr().out
    assert status == 0
    assert out.splitlines()[1] == "6 ops became 1"
    assert out.startswith("NNC-G001: pass 'lie' declares exact, but output ")
    status = main(["compile", str(tmp_path / "r/repro.onnx"), "-r", str(tmp_path / "r/recipe.toml"), "-o",
                   str(tmp_path / "o"), "--plugin", "lying"])  # fmt: skip
    assert status == 5
    assert main(["reduce", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "r")]) == 2
