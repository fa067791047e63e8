"""Clones, adopted graphs and extracted ops: nodes of their own, constants shared."""

from __future__ import annotations

import numpy as np
import pytest

from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.runtime import run
from nncomp.testing import feeds, graph
from nncomp.verify import verify

CHAIN = "g (float[2] x) => (float[2] y) { a = Relu (x)  b = Neg (a)  y = Abs (b) }"


BRANCH = """
g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
   h = Relu (x)
   y = If (c) <then_branch = t () => (p) { p = Add (h, w) }, else_branch = e () => (q) { q = Neg (h) }>
}
"""


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


def body(g: Graph, name: str = "then_branch") -> Graph:
    return next(op for op in g.ops() if op.bodies).bodies[name]


# ---------------------------------------------------------------- copying


def test_a_clone_has_nodes_of_its_own_and_shares_the_constants_data() -> None:
    g = graph(BRANCH)
    copy = g.clone()
    assert not set(g.values()) & set(copy.values())
    assert copy.find("w").const is g.find("w").const
    assert copy.version == g.version
    verify(copy)


def test_changing_a_clone_leaves_the_original_alone() -> None:
    g = graph(NESTED)
    copy = g.clone()
    inner = body(body(copy))
    inner.rename(inner.find("r"), "renamed")
    copy.rename(copy.find("h"), "also")
    copy.import_opset("foo", 1)
    assert g.has_name("h")
    assert body(body(g)).has_name("r")
    assert "foo" not in g.opsets
    verify(g)
    verify(copy)


def test_the_map_of_a_clone_says_where_each_node_went_in_bodies_too() -> None:
    g = graph(NESTED)
    copy, places = g.clone_with_map()
    for part, twin in zip(g.graphs(), copy.graphs(), strict=True):
        assert [places[op] for op in part.ops()] == list(twin.ops())
        assert [places[value] for value in part.values()] == list(twin.values())
    assert len(places) == sum(len(part.values()) + len(part.ops()) for part in g.graphs())


def test_a_clone_keeps_order_names_docs_and_defaults() -> None:
    g = graph("g (float[2] x, float[2] d = {1, 2}) => (float[2] y) { [n] a = Relu (x)  y = Add (a, d) }")
    g.doc = "what it is for"
    copy = g.clone()
    assert [op.name for op in copy.ops()] == ["n", ""]
    assert copy.find("d").default is g.find("d").default
    assert copy.doc == "what it is for"
    assert [value.name for value in (*copy.inputs, *copy.outputs)] == ["x", "d", "y"]


def test_adopting_makes_the_graph_the_other_one_bodies_included() -> None:
    g = graph(CHAIN)
    other = graph(NESTED)
    version = g.version
    g.adopt(other)
    assert kinds(g) == ["Relu", "If"]
    assert g.version > version
    assert body(g).parent is g
    assert body(body(g)).root is g
    seen = g.version
    inner = body(body(g))
    inner.set_name(inner.ops()[0], "deep")
    assert g.version > seen


def test_a_body_can_neither_adopt_nor_be_adopted() -> None:
    g = graph(BRANCH)
    message = "^only a model's own graph can adopt another$"
    with pytest.raises(ValueError, match=message):
        body(g).adopt(graph(CHAIN))
    with pytest.raises(ValueError, match=message):
        graph(CHAIN).adopt(body(g))


def test_a_bodys_ops_can_be_copied_into_the_graph_around_it() -> None:
    g = graph(BRANCH)
    inner = body(g)
    places = g.insert_copy(inner, dict(inner.captures))
    assert kinds(g) == ["Relu", "If", "Add"]
    assert places[inner.find("p")].producer is g.ops()[2]
    assert [value.name for value in g.ops()[2].inputs if value] == ["h", "w"]
    assert inner.find("p").producer is inner.ops()[0]
    verify(g)


# ---------------------------------------------------------------- extracting


def test_extracted_ops_compute_the_same_from_what_the_others_gave() -> None:
    whole = graph("g (float[2,3] x) => (float[2,3] y) <float[3] w> { a = Relu (x)  b = Mul (a, w)  y = Add (b, a) }")
    infer_types(whole)
    ops = {op.output.name: op for op in whole.ops()}
    piece = whole.extract([ops["y"], ops["b"]], [ops["b"].output, ops["y"].output])
    assert [value.name for value in piece.inputs] == ["a"]
    assert [value.name for value in piece.outputs] == ["b", "y"]
    assert piece.find("w").const is whole.find("w").const
    verify(piece)
    given = feeds(whole)
    assert np.array_equal(run(piece, {"a": np.maximum(given["x"], 0)})["y"], run(whole, given)["y"])
    assert [op.kind for op in whole.ops()] == ["Relu", "Mul", "Add"]


def test_what_the_bodies_of_extracted_ops_capture_becomes_an_input() -> None:
    whole = graph(BRANCH)
    (branch,) = [op for op in whole.ops() if op.kind == "If"]
    piece = whole.extract([branch], [branch.output])
    assert {value.name for value in piece.inputs} == {"h", "c"}
    verify(piece)
