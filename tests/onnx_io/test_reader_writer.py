"""What is in a model is in the graph, and what is in the graph is in the model: nothing is lost between."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, helper

from nncomp.ir import Attribute, AttributeType, DataType, Graph, TensorType
from nncomp.onnx_io import from_bytes, graph_from_proto, graph_to_proto, needed_ir_version, to_bytes, writer
from nncomp.onnx_io.tensors import SparseConstant
from nncomp.testing import graph
from nncomp.text import print_graph
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


# ---------------------------------------------------------------- the model around the graph


def test_model_level_fields_come_back() -> None:
    proto = model(PLAIN)
    proto.producer_name, proto.producer_version, proto.domain = "torch", "2.9", "com.acme.models"
    proto.model_version, proto.doc_string = 3, "what it is for"
    proto.metadata_props.add(key="author", value="é")
    assert returned(proto) == proto


def test_opset_imports_come_back_in_order_unknown_domains_too() -> None:
    proto = model(PLAIN, 'ir_version: 10, opset_import: ["com.acme": 7, "": 17, "ai.onnx.ml": 3]')
    assert returned(proto) == proto


def test_functions_come_back_whole() -> None:
    proto = model(
        "g (float[2] x) => (float[2] y) { y = local.twice <k = 2> (x) }"
        '<domain: "local", opset_import: ["": 17]> twice <k> (x) => (y) { y = Foo <k: int = @k> (x) }',
        'ir_version: 10, opset_import: ["": 17, "local": 1]',
    )
    proto.functions[0].doc_string = "two times"
    proto.functions[0].metadata_props.add(key="a", value="b")
    assert returned(proto) == proto


def test_overloads_of_a_function_are_told_apart() -> None:
    proto = model(
        "g (float[2] x) => (float[2] y) { y = local.f (x) }"
        '<domain: "local", opset_import: ["": 17]> f (x) => (y) { y = Relu (x) }'
        '<domain: "local", opset_import: ["": 17]> f (x) => (y) { y = Neg (x) }',
        'ir_version: 10, opset_import: ["": 17, "local": 1]',
    )
    proto.functions[1].overload = proto.graph.node[0].overload = "negative"
    assert returned(proto) == proto


def test_training_info_and_device_configurations_come_back() -> None:
    proto = model(PLAIN, 'ir_version: 11, opset_import: ["": 17]')
    info = proto.training_info.add()
    info.initialization.node.append(helper.make_node("Constant", [], ["seed"], value_float=1.0))
    info.initialization_binding.add(key="w", value="seed")
    proto.configuration.add(name="two", num_devices=2, device=["a", "b"])
    node = proto.graph.node[0].device_configurations.add(configuration_id="two")
    node.sharding_spec.add(tensor_name="x", device=[0, 1])
    assert returned(proto) == proto


# ---------------------------------------------------------------- the graph


def test_graph_metadata_docs_and_quantization_annotations_come_back() -> None:
    proto = model(PLAIN)
    proto.graph.doc_string = "main"
    proto.graph.metadata_props.add(key="layer", value="1")
    annotation = proto.graph.quantization_annotation.add(tensor_name="a")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    assert returned(proto) == proto


def test_docs_and_metadata_of_values_come_back() -> None:
    proto = model("g (float[2] x) => (float[2] y) <float[2] a, float[2] w = {1, 2}> { a = Add (x, w)  y = Neg (a) }")
    proto.graph.value_info.append(helper.make_tensor_value_info("w", 1, [2]))
    for info in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        info.doc_string = f"about {info.name}"
        info.metadata_props.add(key="unit", value="m/s")
    found = returned(proto)
    assert sorted(info.name for info in found.graph.value_info) == ["a", "w"]
    assert found.graph.input == proto.graph.input
    assert found.graph.output == proto.graph.output
    assert {info.name: info for info in found.graph.value_info} == {info.name: info for info in proto.graph.value_info}


def test_the_doc_of_a_value_without_a_type_comes_back() -> None:
    proto = model("g (float[2] x) => (float[2] y) { a = com.acme.Foo (x)  y = Neg (a) }")
    proto.graph.value_info.add(name="a", doc_string="nobody knows its type")
    assert returned(proto) == proto


def test_docs_and_metadata_of_constants_come_back() -> None:
    proto = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }")
    tensor = proto.graph.initializer[0]
    tensor.CopyFrom(helper.make_tensor("w", 1, [2], np.ones(2, np.float32).tobytes(), raw=True))
    tensor.doc_string = "learned"
    tensor.metadata_props.add(key="from", value="torch")
    assert returned(proto) == proto


def test_everything_about_a_node_comes_back() -> None:
    proto = model("g (float[2] x) => (float[2] y) { [first] y = com.acme.Foo <a = 1, b = 0.5, c = [1, 2]> (x) }")
    node = proto.graph.node[0]
    node.doc_string, node.overload = "does foo", "fast"
    node.metadata_props.add(key="namespace", value="layer1")
    node.attribute[0].doc_string = "how many"
    assert returned(proto) == proto


EMPTY = [
    helper.make_attribute("e", [], attr_type=kind)
    for kind in (
        AttributeProto.INTS,
        AttributeProto.FLOATS,
        AttributeProto.STRINGS,
        AttributeProto.TENSORS,
        AttributeProto.GRAPHS,
        AttributeProto.SPARSE_TENSORS,
        AttributeProto.TYPE_PROTOS,
    )
]


SPARSE = helper.make_sparse_tensor(helper.make_tensor("v", 1, [1], [3.0]), helper.make_tensor("i", 7, [1], [2]), [4])


FULL = [
    helper.make_attribute("i", -(2**63)),
    helper.make_attribute("f", 0.1),
    helper.make_attribute("s", b"\xff not text"),
    helper.make_attribute("t", helper.make_tensor("inside", 1, [1], b"\0\0\x80\x3f", raw=True)),
    helper.make_attribute("is", [1, 2]),
    helper.make_attribute("fs", [0.5, 0.25]),
    helper.make_attribute("ss", ["a", b"\xfe"]),
    helper.make_attribute("ts", [helper.make_tensor("", 7, [], b"\1\0\0\0\0\0\0\0", raw=True)]),
    helper.make_attribute("sp", SPARSE),
    helper.make_attribute("sps", [SPARSE, SPARSE]),
    helper.make_attribute("tp", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, [None]))),
    helper.make_attribute("tps", [helper.make_tensor_type_proto(1, ["N"])]),
    helper.make_attribute("g", helper.make_graph([], "inner", [], [])),
    helper.make_attribute("gs", [helper.make_graph([], "one", [], []), helper.make_graph([], "two", [], [])]),
]


@pytest.mark.parametrize("attr", [*FULL, *EMPTY], ids=lambda attr: AttributeProto.AttributeType.Name(attr.type))
def test_an_attribute_of_each_type_comes_back_empty_lists_too(attr: AttributeProto) -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = com.acme.Foo (x) }")
    proto.graph.node[0].attribute.append(attr)
    assert returned(proto) == proto


def test_an_empty_list_of_graphs_is_an_attribute_and_prints() -> None:
    proto = model("g (float[2] x) => (float[2] y) { y = com.acme.Foo (x) }")
    proto.graph.node[0].attribute.append(helper.make_attribute("branches", [], attr_type=AttributeProto.GRAPHS))
    g = graph_from_proto(proto)
    assert dict(g.ops()[0].attrs) == {"branches": Attribute(AttributeType.GRAPHS, ())}
    assert "branches" in print_graph(g)


def test_sparse_initializers_come_back_as_they_were() -> None:
    proto = model("g (float[4] x) => (float[4] y) { y = Add (x, w) }")
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", 1, [2], [3.0, 5.0]), helper.make_tensor("at", 7, [2], [0, 3]), [4]
    )
    proto.graph.sparse_initializer.append(sparse)
    g = graph_from_proto(proto)
    assert isinstance(g.find("w").const, SparseConstant)
    assert g.array(g.find("w")).tolist() == [3, 0, 0, 5]  # type: ignore[union-attr]
    assert returned(proto) == proto


def test_a_sparse_initializer_may_give_coordinates() -> None:
    proto = model("g (float[2,2] x) => (float[2,2] y) { y = Add (x, w) }")
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("w", 1, [2], [3.0, 5.0]), helper.make_tensor("at", 7, [2, 2], [0, 1, 1, 0]), [2, 2]
    )
    proto.graph.sparse_initializer.append(sparse)
    g = graph_from_proto(proto)
    assert g.array(g.find("w")).tolist() == [[0, 3], [5, 0]]  # type: ignore[union-attr]


def test_the_graph_holds_on_to_nothing_of_the_message() -> None:
    proto = model("g (float[4] x) => (float[4] y) { y = com.acme.Foo (x, w) }")
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(helper.make_tensor("w", 1, [1], [3.0]), helper.make_tensor("at", 7, [1], [0]), [4])
    )
    proto.graph.node[0].attribute.append(helper.make_attribute("sp", SPARSE))
    g = graph_from_proto(proto)
    expected = to_bytes(g)
    proto.graph.Clear()
    assert to_bytes(g) == expected


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


# ---------------------------------------------------------------- the interface


def test_an_initializer_that_is_an_input_is_a_default_and_stays_an_input() -> None:
    proto = model("g (float[2] x, float[2] d) => (float[2] y) { y = Add (x, d) }")
    proto.graph.initializer.append(helper.make_tensor("d", 1, [2], b"\0" * 8, raw=True))
    g = graph_from_proto(proto)
    assert [value.name for value in g.inputs] == ["x", "d"]
    assert g.find("d").default is not None
    assert g.constants() == ()
    assert returned(proto) == proto


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] x) { }",
        "g (float[2] x) => (float[2] w, float[2] y) <float[2] w = {1, 2}> { y = Relu (x) }",
        "g (float[2] x) => (float[2] y, float[2] y) { y = Relu (x) }",
        "g (float[2] x, float[3] unused) => (float[2] y) { y = Relu (x) }",
        "g () => () { }",
        "g (seq(float[N]) s, optional(float[2]) o) => (seq(float[N]) t) { t = Identity (s)  a = Identity (o) }",
    ],
    ids=["output is input", "output is constant", "output twice", "unused input", "nothing", "sequences"],
)
def test_an_unusual_interface_is_kept_exactly(text: str) -> None:
    proto = model(text)
    found = returned(proto)
    assert found.graph.input == proto.graph.input
    assert found.graph.output == proto.graph.output
    assert found.graph.node == proto.graph.node


def test_an_output_without_a_declared_type_has_none() -> None:
    proto = model("g (float[2] x) => (y) { y = com.acme.Foo (x) }")
    assert returned(proto) == proto


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


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert to_bytes(graph(TWO_LEVELS)) == to_bytes(graph(TWO_LEVELS))
    assert np.frombuffer(to_bytes(graph(PLAIN)), np.uint8).size > 0
