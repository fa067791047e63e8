"""The one mutator: edges, fields, names, captures and versions stay in step whatever is changed."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from nncomp.infer import infer_types
from nncomp.ir import Attribute, AttributeType, CaptureKey, DataType, Graph, Op, TensorType, Use, Value, tensor
from nncomp.onnx_io import load, save
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


# ---------------------------------------------------------------- building


def test_an_op_knows_its_outputs_and_they_know_it() -> None:
    g = Graph()
    x = g.add_input("x", TensorType(DataType.FLOAT, (4,)))
    op = g.add_op("Split", [x], ["a", ("b", TensorType(DataType.FLOAT, (2,)))])
    assert [(value.producer, value.index) for value in op.outputs] == [(op, 0), (op, 1)]
    assert [value.type for value in op.outputs] == [None, TensorType(DataType.FLOAT, (2,))]


def test_an_output_without_a_name_is_called_after_its_operator() -> None:
    g = Graph()
    x = g.add_input("x", None)
    assert [g.add_op("Relu", [x]).output.name for _ in range(3)] == ["relu", "relu_1", "relu_2"]


def test_an_unnamed_output_among_several_is_a_skipped_one() -> None:
    g = Graph()
    op = g.add_op("LSTM", [], ["", "h", ""])
    assert [value.name for value in op.outputs] == ["", "h", ""]
    assert not g.has_name("")


def test_inputs_that_are_not_given_are_none_and_trailing_ones_are_cut_off() -> None:
    g = Graph()
    x, high = g.add_input("x", None), g.add_input("high", None)
    assert g.add_op("Clip", [x, None, high]).inputs == (x, None, high)
    assert g.add_op("Clip", [x, None, None]).inputs == (x,)


def test_an_op_takes_name_doc_and_metadata_of_the_op_it_is_like() -> None:
    g = graph("g (float[2] x) => (float[2] y) { [conv1] y = Relu (x) }")
    assert g.add_op("Neg", [g.find("x")], like=g.ops()[0]).name == "conv1"
    assert g.add_op("Neg", [g.find("x")], name="mine", like=g.ops()[0]).name == "mine"


def test_attributes_may_be_plain_values_and_none_is_left_out() -> None:
    op = Graph().add_op("Foo", [], attrs={"i": 2, "f": 0.5, "s": "a", "l": [1, 2], "m": [0.5, 1], "no": None})
    assert {name: (attr.type.name, attr.value) for name, attr in op.attrs.items()} == {
        "i": ("INT", 2),
        "f": ("FLOAT", 0.5),
        "s": ("STRING", "a"),
        "l": ("INTS", (1, 2)),
        "m": ("FLOATS", (0.5, 1.0)),
    }


def test_an_empty_list_does_not_say_of_what_so_it_is_refused_as_an_attribute() -> None:
    with pytest.raises(TypeError) as error:
        Graph().add_op("Foo", [], attrs={"axes": []})
    assert str(error.value) == "cannot tell the attribute type of []"
    op = Graph().add_op("Foo", [], attrs={"axes": Attribute(AttributeType.INTS, ())})
    assert op.attr("axes") == ()


def test_a_value_of_another_graph_cannot_be_read() -> None:
    stranger = Graph().add_input("x", None)
    with pytest.raises(ValueError, match=r"^input 'x' of Relu\(relu\) is not of this graph$"):
        Graph().add_op("Relu", [stranger])


def test_two_inputs_of_one_name_are_refused() -> None:
    g = Graph()
    g.add_input("x", None)
    with pytest.raises(ValueError, match=r"^the name 'x' is taken$"):
        g.add_input("x", None)


def test_a_constant_gets_a_free_name_and_its_type_from_its_data() -> None:
    g = Graph()
    g.add_constant("w", np.zeros((2, 3), np.float32))
    second = g.add_constant("w", np.zeros(4, np.int64))
    assert (second.name, second.type) == ("w_1", TensorType(DataType.INT64, (4,)))


def test_a_constants_data_cannot_be_written_to() -> None:
    g = Graph()
    data = g.array(g.add_constant("w", np.zeros(2, np.float32)))
    assert data is not None
    with pytest.raises(ValueError, match="read-only"):
        data[0] = 1


def test_nodes_are_frozen() -> None:
    g = graph(CHAIN)
    with pytest.raises(AttributeError, match=r"^Op\.kind is changed through Graph only$"):
        g.ops()[0].kind = "Neg"
    with pytest.raises(AttributeError, match=r"^Value\.name is changed through Graph only$"):
        g.find("a").name = "z"
    with pytest.raises(TypeError):
        g.ops()[0].attrs["alpha"] = 1  # type: ignore[index]


# ---------------------------------------------------------------- names


def test_a_fresh_name_is_the_hint_while_it_is_free() -> None:
    g = graph(CHAIN)
    assert [g.fresh_name("z"), g.fresh_name("a"), g.fresh_name("a")] == ["z", "a_1", "a_2"]


def test_a_fresh_name_passes_over_names_that_look_like_its_own() -> None:
    g = Graph()
    for name in ("a", "a_1", "a_2"):
        g.add_input(name, None)
    assert g.fresh_name("a") == "a_3"


def test_a_fresh_name_in_a_body_is_free_in_the_graphs_around_it_too() -> None:
    assert body(graph(BRANCH)).fresh_name("x") == "x_1"


def test_many_names_of_one_hint_cost_one_step_each() -> None:
    g = Graph()
    names = [g.add_constant("w", np.zeros(1, np.float32)).name for _ in range(2000)]
    assert names[-1] == "w_1999"
    assert g._next_suffix == {"w": 2000}


def test_renaming_moves_the_name() -> None:
    g = graph(CHAIN)
    value = g.find("a")
    g.rename(value, "c")
    assert (value.name, g.find("c"), g.has_name("a")) == ("c", value, False)


@pytest.mark.parametrize("name", ["x", "y", ""])
def test_a_taken_or_empty_name_is_refused(name: str) -> None:
    g = graph(CHAIN)
    with pytest.raises(ValueError, match=f"^the name '{name}' is taken$"):
        g.rename(g.find("a"), name)


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


# ---------------------------------------------------------------- version


def test_reading_changes_no_version() -> None:
    g = graph(BRANCH)
    version = g.version
    g.ops(), list(g.walk()), g.uses(g.find("h")), g.clone(), g.constant(g.find("w")), g.fresh_name("z")
    verify(g)
    assert g.version == version


def test_each_mutator_raises_the_version() -> None:
    g = graph("g (float[2] x, float[2] z) => (float[2] y) { a = Relu (x)  b = LeakyRelu (a)  y = Abs (b) }")
    relu, leaky, _ = g.ops()
    steps = [
        lambda: g.add_input("i", None),
        lambda: g.add_constant("c", np.zeros(1, np.float32)),
        lambda: g.add_op("Neg", [g.find("x")], ["n"]),
        lambda: g.set_input(relu, 0, g.find("z")),
        lambda: g.set_attrs(leaky, alpha=0.5),
        lambda: g.set_name(relu, "r"),
        lambda: g.set_type(g.find("a"), TensorType(DataType.FLOAT, (2,))),
        lambda: g.rename(g.find("a"), "aa"),
        lambda: g.import_opset("com.microsoft", 1),
        lambda: g.set_outputs([g.find("y"), g.find("b")]),
        lambda: g.swap_inputs(g.inputs[::-1]),
        lambda: g.replace_uses(g.find("aa"), g.find("x")),
        lambda: g.remove_unused([g.find("n")]),
    ]
    for step in steps:
        version = g.version
        step()  # type: ignore[no-untyped-call]
        assert g.version > version


def test_a_change_in_a_body_is_a_change_of_the_graphs_around_it() -> None:
    g = graph(NESTED)
    inner = body(body(g))
    version = g.version
    inner.set_name(inner.ops()[0], "deep")
    assert g.version > version


def test_setting_the_type_that_a_value_has_changes_nothing() -> None:
    g = graph(CHAIN)
    version = g.version
    g.set_type(g.find("x"), TensorType(DataType.FLOAT, (2,)))
    assert g.version == version


def test_attributes_are_set_and_removed() -> None:
    g = graph("g (float[2] x) => (float[2] y) { y = Foo <alpha = 0.5, beta = 2> (x) }")
    g.set_attrs(g.ops()[0], alpha=None, gamma=[1, 2])
    assert {name: attr.value for name, attr in g.ops()[0].attrs.items()} == {"beta": 2, "gamma": (1, 2)}


def test_only_the_order_of_graph_inputs_can_be_changed() -> None:
    g = graph(CHAIN)
    with pytest.raises(ValueError, match=r"^only the order of graph inputs can be changed$"):
        g.swap_inputs([g.find("a")])


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
