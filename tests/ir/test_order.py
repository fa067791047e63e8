"""Ops come in an order that their edges allow, at any size of the graph."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from nncomp.ir import DataType, Graph, Op, TensorType, Value, tensor
from nncomp.onnx_io import load, save
from nncomp.testing import graph
from nncomp.verify import verify

CHAIN = "g (float[2] x) => (float[2] y) { a = Relu (x)  b = Neg (a)  y = Abs (b) }"


NESTED = """
g (bool c, float[2] x) => (float[2] y) {
   h = Relu (x)
   y = If (c) <
      then_branch = t () => (p) {
         p = If (c) <then_branch = tt () => (r) { r = Neg (h) }, else_branch = te () => (s) { s = Abs (h) }>
      },
      else_branch = e () => (q) { q = Identity (h) }
   >
}
"""


def kinds(g: Graph) -> list[str]:
    return [op.kind for op in g.ops()]


# ---------------------------------------------------------------- order


def test_ops_in_any_order_come_back_sorted() -> None:
    g = graph("g (float[2] x) => (float[2] y) { y = Abs (b)  b = Neg (a)  a = Relu (x) }")
    assert kinds(g) == ["Relu", "Neg", "Abs"]


def test_the_order_moves_ops_only_as_far_as_dependencies_ask() -> None:
    g = graph("g (float[2] x) => (float[2] d, float[2] y) { y = Abs (b)  d = Exp (x)  b = Neg (a)  a = Relu (x) }")
    assert kinds(g) == ["Relu", "Neg", "Abs", "Exp"]


def test_a_captured_value_comes_before_the_op_whose_body_reads_it() -> None:
    g = graph(
        "g (bool c, float[2] x) => (y) { y = If (c) <then_branch = t () => (p) { p = Neg (h) }, "
        "else_branch = e () => (q) { q = Abs (h) }>  h = Relu (x) }"
    )
    assert kinds(g) == ["Relu", "If"]


def test_a_cycle_has_no_order() -> None:
    g = graph(CHAIN)
    g.set_input(g.ops()[0], 0, g.find("b"))
    with pytest.raises(ValueError, match=r"^cycle through Relu\(a\)$"):
        g.ops()


def test_the_order_is_kept_until_something_changes() -> None:
    g = graph(CHAIN)
    assert g.ops() is g.ops()
    before = g.ops()
    g.set_name(before[0], "first")
    assert g.ops() is not before


def test_walk_yields_an_owner_before_the_ops_of_its_bodies() -> None:
    g = graph(NESTED)
    assert [(part.name, op.kind) for part, op in g.walk()] == [
        ("g", "Relu"),
        ("g", "If"),
        ("t", "If"),
        ("tt", "Neg"),
        ("te", "Abs"),
        ("e", "Identity"),
    ]
    assert [part.name for part in g.graphs()] == ["g", "t", "tt", "te", "e"]


def test_networkx_algorithms_run_on_the_view_and_cannot_change_it() -> None:
    g = graph(CHAIN)
    assert nx.has_path(g.nx, g.find("x"), g.find("y"))
    with pytest.raises(nx.NetworkXError, match="Frozen graph"):
        g.nx.remove_node(g.find("x"))


# ---------------------------------------------------------------- size


def chain(length: int) -> Graph:
    g = Graph("long")
    value = g.add_input("x", TensorType(DataType.FLOAT, (1,)))
    for _ in range(length):
        value = g.add_op("Relu", [value], ["v"]).output
    g.set_outputs([value])
    return g


def test_a_chain_of_50000_ops_is_no_deeper_than_the_stack_allows() -> None:
    g = chain(50_000)
    verify(g)
    assert len(g.ops()) == 50_000
    old = g.outputs[0]
    g.set_outputs([g.inputs[0]])
    g.remove_unused([old])
    assert g.ops() == ()


def test_a_graph_of_15000_ops_loads_verifies_clones_and_saves(tmp_path: Path) -> None:
    save(chain(15_000), tmp_path / "long.onnx")
    g = load(tmp_path / "long.onnx")
    verify(g)
    copy = g.clone()
    save(copy, tmp_path / "again.onnx")
    assert len(copy.ops()) == 15_000
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "long.onnx").read_bytes()


def test_a_chain_of_50000_ops_in_reverse_is_sorted() -> None:
    g = Graph()
    values = [g.add_input("v0", None), *(Value(f"v{n}") for n in range(1, 50_001))]
    g.insert_all([Op("Relu", (values[n],), (values[n + 1],)) for n in reversed(range(50_000))])
    assert [op.output.name for op in g.ops()[:2]] == ["v1", "v2"]
    assert len(g.ops()) == 50_000


def test_tensor_data_may_be_given_as_a_tensor() -> None:
    data = tensor(np.zeros(2, np.float32))
    assert Graph().add_constant("w", data).const is data
