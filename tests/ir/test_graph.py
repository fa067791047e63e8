"""The one mutator: edges, fields, names and versions stay in step whatever is changed or copied."""

from __future__ import annotations

import numpy as np
import pytest

from nncomp.infer import infer_types
from nncomp.ir import Attribute, AttributeType, DataType, Graph, TensorType
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
