"""Names, order, bodies and versions: what a message leaves open, the graph says, and it is written back as needed."""

from __future__ import annotations

import onnx
import pytest
from onnx import GraphProto, ModelProto, helper

from nncomp.ir import DataType, Graph, TensorType
from nncomp.onnx_io import from_bytes, graph_from_proto, graph_to_proto, needed_ir_version, writer
from nncomp.testing import graph
from nncomp.verify import verify


def model(text: str, header: str = 'ir_version: 10, opset_import: ["": 17, "com.acme": 1]') -> ModelProto:
    proto = onnx.parser.parse_model(f"<{header}> {text}")
    forget_empty_domains(proto.graph)
    return proto


def forget_empty_domains(proto: GraphProto) -> None:
    """The parser writes ``domain: ""``, which says as much as no domain."""
    for node in proto.node:
        if not node.domain:
            node.ClearField("domain")
        for attr in node.attribute:
            forget_empty_domains(attr.g)


def returned(proto: ModelProto) -> ModelProto:
    return graph_to_proto(graph_from_proto(proto).clone())


PLAIN = "g (float[2] x) => (float[2] y) <float[2] a> { a = Relu (x)  y = Neg (a) }"


# ---------------------------------------------------------------- names and order


def test_nodes_without_names_stay_without() -> None:
    assert [node.name for node in returned(model(PLAIN)).graph.node] == ["", ""]


def test_duplicate_node_names_become_unique_and_names_of_others_stay() -> None:
    proto = model(
        "g (float[2] x) => (float[2] y) { [n] a = Relu (x)  [n] b = Neg (a)  [n_1] c = Abs (b)  [n] y = Exp (c) }"
    )
    assert [node.name for node in returned(proto).graph.node] == ["n", "n_2", "n_1", "n_3"]


def test_many_duplicate_node_names_are_counted_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    free = writer._free

    class Asked(set[str]):
        def __contains__(self, name: object) -> bool:
            steps.append(str(name))
            return super().__contains__(name)

    def counted(name: str, taken: set[str], also: set[str], suffixes: dict[str, int]) -> str:
        return free(name, Asked(taken), also, suffixes)

    monkeypatch.setattr(writer, "_free", counted)
    g = Graph()
    x = g.add_input("x", TensorType(DataType.FLOAT, (1,)))
    for _ in range(300):
        g.add_op("Relu", [x], ["y"], name="same")
    names = [node.name for node in graph_to_proto(g).graph.node]
    assert names == ["same", *(f"same_{number}" for number in range(1, 300))]
    assert len(steps) == 299


def test_a_bodys_name_that_a_pass_made_visible_outside_is_changed_on_writing() -> None:
    g = graph(
        "g (bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (p) { r = Neg (x)  p = Abs (r) }, "
        "else_branch = e () => (q) { q = Abs (x) }> }"
    )
    g.add_op("Relu", [g.find("x")], ["r"])
    written = graph_to_proto(g)
    body = written.graph.node[0].attribute[0].g
    assert [list(node.output) for node in body.node] == [["r_1"], ["p"]]
    assert list(body.node[1].input) == ["r_1"]
    graph_from_proto(written)


def test_nodes_in_any_order_are_written_sorted() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = Neg (a)  a = Relu (x) }")
    assert [node.op_type for node in returned(proto).graph.node] == ["Relu", "Neg"]


def test_inputs_not_given_stay_so_and_trailing_ones_are_dropped() -> None:
    proto = model("g (float[2] x, float h) => (float[2] y) { a = Clip (x, , h)  y = Relu (a) }")
    proto.graph.node[1].input.append("")
    assert [list(node.input) for node in returned(proto).graph.node] == [["x", "", "h"], ["a"]]


def test_outputs_not_wanted_stay_in_place() -> None:
    proto = model("g (float[2] x) => (float[2] y) { a = com.acme.Foo (x)  y = Relu (a) }")
    proto.graph.node[0].output[:] = ["", "a", ""]
    assert returned(proto) == proto


def test_onnx_own_domain_has_one_name_inside() -> None:
    proto = model(PLAIN, 'ir_version: 10, opset_import: ["ai.onnx": 17]')
    proto.graph.node[0].domain = "ai.onnx"
    g = graph_from_proto(proto)
    assert (dict(g.opsets), g.ops()[0].domain) == ({"": 17}, "")


# ---------------------------------------------------------------- bodies

TWO_LEVELS = """
g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
   y = If (c) <
      then_branch = t () => (p) {
         p = If (c) <then_branch = tt () => (r) { r = Add (x, w) }, else_branch = te () => (s) { s = Relu (x) }>
      },
      else_branch = e () => (q) <float[2] k = {3, 4}> { q = Add (h, k) }
   >
   h = Relu (x)
}
"""


def test_captures_through_two_levels_are_explicit_at_each() -> None:
    g = graph_from_proto(model(TWO_LEVELS))
    middle = g.ops()[1].bodies["then_branch"]
    inner = middle.ops()[0].bodies["then_branch"]
    assert {value.name for value in middle.captures.values()} == {"c", "x", "w"}
    assert [inner.captures[inner.find(name)] for name in "xw"] == [middle.find("x"), middle.find("w")]
    verify(g)


def test_bodies_come_back_with_their_constants_docs_and_metadata() -> None:
    proto = model(TWO_LEVELS)
    body = proto.graph.node[0].attribute[1].g
    body.doc_string = "the other way"
    body.metadata_props.add(key="a", value="b")
    body.initializer[0].CopyFrom(helper.make_tensor("k", 1, [2], b"\0" * 8, raw=True))
    found = returned(proto)
    assert [node.op_type for node in found.graph.node] == ["Relu", "If"]
    assert found.graph.node[1].attribute == proto.graph.node[0].attribute


def test_a_body_may_be_read_by_several_ops_of_a_graphs_attribute() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = com.acme.Switch (x) }")
    bodies = [
        onnx.parser.parse_graph("b0 () => (p) { p = Relu (x) }"),
        onnx.parser.parse_graph("b1 () => (q) { q = Relu (x) }"),
    ]
    proto.graph.node[0].attribute.append(helper.make_attribute("branches", bodies))
    g = graph_from_proto(proto)
    assert list(g.ops()[0].bodies) == ["branches[0]", "branches[1]"]
    assert len(g.uses(g.find("x"))) == 3
    assert [len(attr.graphs) for attr in returned(proto).graph.node[0].attribute] == [2]


def test_sibling_bodies_may_use_one_name() -> None:
    proto = model(
        "g (bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (p) { p = Neg (x) }, "
        "else_branch = e () => (p) { p = Abs (x) }> }"
    )
    assert returned(proto) == proto


def test_conditions_nested_28_deep_are_read_and_written() -> None:
    empty = helper.make_graph([], "e", [], [])
    body = onnx.parser.parse_graph("b () => (v0) { v0 = Relu (x) }")
    for depth in range(1, 28):
        node = helper.make_node("If", ["c"], [f"v{depth}"], then_branch=body, else_branch=empty)
        body = helper.make_graph([node], "b", [], [helper.make_empty_tensor_value_info(f"v{depth}")])
    proto = model("g (bool c, float[2] x) => (y) { y = Relu (x) }")
    proto.graph.node.extend(body.node)
    forget_empty_domains(proto.graph)
    assert from_bytes(proto.SerializeToString()).ops()
    assert returned(proto) == proto


# ---------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("g (float[2] x) => (float[2] y) { y = Relu (x) }", 1),
        ("g (float[2] x, float[2] d = {1, 2}) => (float[2] y) { y = Add (x, d) }", 1),
        ("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }", 4),
        ("g (float[2] x) => (float8e4m3fn[2] y) { y = Cast <to = 17> (x) }", 9),
        ("g (float[2] x) => (int4[2] y) { y = Cast <to = 22> (x) }", 10),
        ("g (float[2] x) => (float4e2m1[2] y) { y = Cast <to = 23> (x) }", 11),
        ("g (float[2] x) => (float8e8m0[2] y) { y = Cast <to = 24> (x) }", 12),
        ("g (float[2] x) => (int2[2] y) { y = Cast <to = 26> (x) }", 13),
        ("g (float[2] x) => (float6e2m3[2] y) { y = Cast <to = 27> (x) }", 14),
    ],
)
def test_the_ir_version_needed_is_the_lowest_that_holds_the_graph(text: str, needed: int) -> None:
    g = graph(text)
    assert needed_ir_version(g) == needed
    g.set_info(ir_version=3)
    assert graph_to_proto(g).ir_version == max(3, needed)


def test_functions_need_ir_version_8() -> None:
    proto = model(
        "g (float[2] x) => (float[2] y) { y = local.f (x) }"
        '<domain: "local", opset_import: ["": 17]> f (x) => (y) { y = Relu (x) }',
        'ir_version: 8, opset_import: ["": 17, "local": 1]',
    )
    assert needed_ir_version(graph_from_proto(proto)) == 8
