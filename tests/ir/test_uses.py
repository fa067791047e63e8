"""Who reads a value: uses are found, moved and removed, and bodies name what they take from outside."""

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


def kinds(g: Graph) -> list[str]:
    return [op.kind for op in g.ops()]


def body(g: Graph, name: str = "then_branch") -> Graph:
    return next(op for op in g.ops() if op.bodies).bodies[name]


# ---------------------------------------------------------------- uses


def test_uses_name_op_and_slot_and_a_value_read_twice_counts_twice() -> None:
    g = graph("g (float[2] x) => (float[2] y) { a = Mul (x, x)  y = Add (a, x) }")
    mul, add = g.ops()
    assert g.uses(g.find("x")) == (Use(mul, 0), Use(mul, 1), Use(add, 1))
    assert g.users(g.find("x")) == (mul, add)


def test_a_capture_is_a_use() -> None:
    g = graph(BRANCH)
    branch = g.ops()[1]
    found = {(use.op.kind, use.slot.body) for use in g.uses(g.find("h")) if isinstance(use.slot, CaptureKey)}
    assert found == {("If", "then_branch"), ("If", "else_branch")}
    assert g.users(g.find("h")) == (branch,)


def test_a_value_is_used_once_if_one_slot_reads_it_and_it_is_no_output() -> None:
    g = graph("g (float[2] x) => (float[2] y) { a = Relu (x)  b = Mul (a, a)  c = Neg (b)  y = Abs (c) }")
    assert [g.single_use(g.find(name)) for name in ("a", "b", "c", "y")] == [False, True, True, False]


def test_setting_an_input_moves_the_edge() -> None:
    g = graph(CHAIN)
    y = g.ops()[2]
    g.set_input(y, 0, g.find("x"))
    assert g.uses(g.find("b")) == ()
    assert Use(y, 0) in g.uses(g.find("x"))
    verify(g)


def test_an_input_behind_the_last_may_be_set_and_the_last_one_removed() -> None:
    g = graph("g (float[2] x, float h) => (float[2] y) { y = Clip (x) }")
    clip = g.ops()[0]
    g.set_input(clip, 2, g.find("h"))
    assert clip.inputs == (g.find("x"), None, g.find("h"))
    g.set_input(clip, 2, None)
    assert list(clip.inputs) == [g.find("x")]
    verify(g)


def test_replacing_uses_leaves_those_that_are_to_be_kept() -> None:
    g = graph("g (float[2] x) => (float[2] y) { a = Relu (x)  b = Neg (x)  y = Add (a, b) }")
    copy = g.add_op("Identity", [g.find("x")]).output
    g.replace_uses(g.find("x"), copy, keep=lambda use: use.op is copy.producer or use.op.kind == "Neg")
    assert [op.kind for op in g.users(g.find("x"))] == ["Neg", "Identity"]
    assert [op.kind for op in g.users(copy)] == ["Relu"]


def test_replacing_a_graph_output_hands_its_name_and_type_over() -> None:
    g = graph("g (float[N] x) => (float[N] y) { a = Relu (x)  y = Neg (a) }")
    old = g.find("y")
    new = g.add_op("Abs", [g.find("a")], ["new"]).output
    g.replace_uses(old, new)
    assert g.outputs == (new,)
    assert (new.name, str(new.type), old.name) == ("y", "float[N]", "y_before")
    g.remove_unused([old])
    verify(g)
    assert kinds(g) == ["Relu", "Abs"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("g (float[2] x) => (float[2] y) { y = Dropout (x) }", "x"),
        ("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { a = Neg (x)  y = Mul (a, w) }", "w"),
        ("g (float[2] x) => (float[2] z, float[2] y) { z = Relu (x)  y = Relu (z) }", "z"),
    ],
    ids=["input", "constant", "another output"],
)
def test_what_cannot_take_over_an_outputs_name_is_carried_by_an_identity(text: str, name: str) -> None:
    g = graph(text)
    g.replace_uses(g.find("y"), g.find(name))
    carrier = g.outputs[-1]
    assert (carrier.name, carrier.producer.kind, carrier.producer.inputs) == ("y", "Identity", (g.find(name),))  # type: ignore[union-attr]
    verify(g)


def test_an_output_listed_twice_is_replaced_twice() -> None:
    g = graph("g (float[2] x) => (float[2] y, float[2] y) { a = Relu (x)  y = Neg (a) }")
    g.replace_uses(g.find("y"), g.find("a"))
    assert [value.name for value in g.outputs] == ["y", "y"]
    assert g.outputs[0] is g.outputs[1] is g.ops()[0].output


def test_a_captured_value_is_replaced_inside_the_bodies_too() -> None:
    g = graph(BRANCH)
    new = g.add_op("Neg", [g.find("x")], ["new"]).output
    g.replace_uses(g.find("h"), new)
    assert set(body(g).captures.values()) == {new, g.find("w")}
    assert g.uses(g.find("h")) == ()
    verify(g)


# ---------------------------------------------------------------- removing


def test_an_op_goes_with_its_outputs() -> None:
    g = graph("g (float[4] x) => (float[4] y) { a, b = Split (x)  y = Relu (x) }")
    g.remove(g.ops()[0])
    assert kinds(g) == ["Relu"]
    assert not g.has_name("a")
    assert not g.has_name("b")


@pytest.mark.parametrize("name", ["a", "y"])
def test_an_op_whose_output_is_needed_stays(name: str) -> None:
    g = graph("g (float[2] x) => (float[2] y) { a = Relu (x)  y = Neg (a) }")
    op = g.find(name).producer
    assert op is not None
    with pytest.raises(ValueError, match=f"^'{name}', output of {op.kind}\\({name}\\), is still in use$"):
        g.remove(op)


def test_removing_what_is_unused_takes_what_only_it_needed_and_no_input() -> None:
    g = graph(
        "g (float[2] x) => (float[2] y) <float[2] v = {1, 2}, float[2] w = {3, 4}> "
        "{ a = Add (x, w)  b = Mul (a, v)  y = Mul (x, v) }"
    )
    g.remove_unused([g.find("b")])
    assert kinds(g) == ["Mul"]
    assert [value.name for value in g.values()] == ["x", "v", "y"]
    verify(g)


def test_removing_what_is_used_changes_nothing() -> None:
    g = graph(CHAIN)
    version = g.version
    g.remove_unused([g.find("a"), g.find("x"), None])
    assert (kinds(g), g.version) == (["Relu", "Neg", "Abs"], version)


def test_an_op_stays_while_one_of_its_outputs_is_read() -> None:
    g = graph("g (float[4] x) => (float[2] y) { a, b = Split (x)  y = Relu (a) }")
    g.remove_unused([g.find("b")])
    assert kinds(g) == ["Split", "Relu"]


def test_a_control_flow_op_releases_what_its_bodies_captured() -> None:
    g = graph(BRANCH)
    branch = g.ops()[1]
    inner = branch.bodies["then_branch"]
    other = g.add_op("Neg", [g.find("x")], ["other"]).output
    g.set_outputs([other])
    g.remove_unused([branch.output])
    assert kinds(g) == ["Neg"]
    assert inner.owner is None


def test_an_optional_output_in_the_middle_is_skipped_and_one_at_the_end_cut_off() -> None:
    g = graph("g (float[4] x) => (float[2] y) { a, b, c = Foo (x)  y = Relu (a) }")
    op = g.ops()[0]
    g.drop_output(op, 1)
    assert [value.name for value in op.outputs] == ["a", "", "c"]
    g.drop_output(op, 2)
    assert [value.name for value in op.outputs] == ["a"]
    verify(g)


def test_an_output_that_is_read_cannot_be_dropped() -> None:
    g = graph(CHAIN)
    with pytest.raises(ValueError, match=r"^'a', output of Relu\(a\), is still in use$"):
        g.drop_output(g.ops()[0], 0)


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
