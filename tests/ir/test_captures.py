"""Bodies name what they take from outside, and constants are seen through that."""

from __future__ import annotations

import numpy as np
import pytest

from nncomp.ir import CaptureKey, Graph, Use
from nncomp.testing import graph
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


def body(g: Graph, name: str = "then_branch") -> Graph:
    return next(op for op in g.ops() if op.bodies).bodies[name]


# ---------------------------------------------------------------- captures


def test_a_capture_names_its_outer_value_and_draws_an_edge() -> None:
    g = graph(BRANCH)
    inner = body(g)
    stand_in = inner.capture(g.find("x"))
    assert inner.captures[stand_in] is g.find("x")
    assert Use(g.ops()[1], CaptureKey("then_branch", stand_in)) in g.uses(g.find("x"))
    verify(g)


def test_a_value_is_captured_once() -> None:
    g = graph(BRANCH)
    assert body(g).capture(g.find("h")) is body(g).capture(g.find("h"))


def test_only_a_body_captures() -> None:
    g = graph(CHAIN)
    with pytest.raises(ValueError, match=r"^only the body of an op captures values$"):
        g.capture(g.find("x"))


def test_a_released_capture_is_gone_inside_and_its_edge_outside() -> None:
    g = graph(BRANCH)
    inner = body(g)
    add = inner.ops()[0]
    stand_in = add.inputs[1]
    assert stand_in is not None
    inner.set_input(add, 1, add.inputs[0])
    inner.release(stand_in)
    assert g.find("w") not in inner.captures.values()
    assert g.uses(g.find("w")) == ()
    verify(g)


def test_a_capture_that_is_read_cannot_be_released() -> None:
    inner = body(graph(BRANCH))
    with pytest.raises(ValueError, match=r"^capture 'h' is still in use$"):
        inner.release(inner.find("h"))


def test_removing_inside_a_body_releases_its_captures() -> None:
    g = graph(BRANCH)
    inner = body(g)
    old = inner.find("p")
    inner.set_outputs([inner.add_constant("k", np.zeros(2, np.float32))])
    inner.remove_unused([old])
    assert dict(inner.captures) == {}
    assert g.uses(g.find("w")) == ()
    verify(g)


def test_a_value_from_two_levels_out_is_captured_by_each_level() -> None:
    g = graph(NESTED)
    middle = body(g)
    inner = body(middle)
    assert inner.captures[inner.find("h")] is middle.find("h")
    assert middle.captures[middle.find("h")] is g.find("h")
    assert (inner.parent, inner.root, inner.owner) == (middle, g, middle.ops()[0])


def test_a_constant_is_seen_through_captures() -> None:
    g = graph(BRANCH)
    inner = body(g)
    assert inner.array(inner.find("w")).tolist() == [1, 2]  # type: ignore[union-attr]
    assert inner.array(inner.find("h")) is None


def test_an_input_with_a_default_is_no_constant() -> None:
    g = graph("g (float[2] x, float[2] d = {1, 2}) => (float[2] y) { y = Add (x, d) }")
    assert g.constant(g.find("d")) is None
    assert g.find("d").default is not None


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("value = float[2] {1, 2}", [1.0, 2.0]),
        ("value_float = 0.5", 0.5),
        ("value_floats = [0.5, 1.5]", [0.5, 1.5]),
        ("value_int = 7", 7),
        ("value_ints = [7, 8]", [7, 8]),
        ('value_string = "ab"', b"ab"),
        ('value_strings = ["a", "b"]', [b"a", b"b"]),
    ],
)
def test_a_constant_node_in_each_of_its_forms_is_a_constant(form: str, expected: object) -> None:
    g = graph(f"g () => (y) {{ y = Constant <{form}> () }}")
    data = g.array(g.find("y"))
    assert data is not None
    assert data.tolist() == expected
