"""Opset conversion: onnx does it, and what onnx drops, renames or would have to read stays as it was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, TensorType
from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.opset import convert_opset
from nncomp.testing import assert_same_function, assert_text, graph
from nncomp.verify import verify

TEXT = """
g (float[1,64] x) => (float[64] y) <float[64,64] w, float[64] b> {
   [product] a = MatMul (x, w)  [sum] c = Add (a, b)  [narrow] y = Squeeze <axes = [0]> (c)
}
"""


def converted(g: Graph, version: int) -> Graph:
    copy = g.clone()
    convert_opset(copy, version)
    return copy


def test_ops_change_their_form_and_not_what_they_do() -> None:
    before = graph(TEXT, opset=12)
    after = converted(before, 13)
    assert dict(after.opsets) == {"": 13}
    squeeze = after.ops()[-1]
    assert (dict(squeeze.attrs), after.array(squeeze.inputs[1]).tolist()) == ({}, [0])  # type: ignore[union-attr]
    verify(after)
    assert_same_function(before, after, exact=True)


def test_an_opset_can_be_lowered() -> None:
    before = graph("g (float[2,3] x) => (float[2,3] y) { y = HardSwish (x) }", opset=22)
    after = converted(before, 21)
    assert dict(after.opsets) == {"": 21}
    assert_same_function(before, after, exact=True)


def test_weights_are_the_same_objects_after_it() -> None:
    before = graph(TEXT, opset=12)
    after = converted(before, 13)
    assert after.find("w").const is before.find("w").const
    assert after.array(after.find("b")).tolist() == before.array(before.find("b")).tolist()  # type: ignore[union-attr]


def test_large_weights_cost_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    convert = onnx.version_converter.convert_version

    def measured(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
        sizes.append(model.ByteSize())
        return convert(model, version)

    monkeypatch.setattr(onnx.version_converter, "convert_version", measured)
    g = graph(
        "g (float[1,2000] x) => (y) <float[2000,3000] w> { a = MatMul (x, w)  y = Squeeze <axes = [0]> (a) }", opset=12
    )
    weight = g.find("w").const
    convert_opset(g, 13)
    assert g.find("w").const is weight
    assert sizes[0] < 1000


def test_names_of_values_and_nodes_stay() -> None:
    after = converted(graph(TEXT, opset=12), 13)
    assert [value.name for value in (*after.inputs, *after.outputs)] == ["x", "y"]
    assert {"a", "c", "w", "b"} <= {value.name for value in after.values()}
    assert [op.name for op in after.ops() if op.kind != "Constant"] == ["product", "sum", "narrow"]


def test_declared_types_of_inputs_and_outputs_stay() -> None:
    g = graph("g (float[N,3] x) => (float[M,3] y) { y = Relu (x) }", opset=12)
    after = converted(g, 13)
    assert [str(value.type) for value in (*after.inputs, *after.outputs)] == ["float[N,3]", "float[M,3]"]


def test_an_input_with_a_large_default_keeps_it() -> None:
    numbers = ", ".join(["2"] * 4096)
    g = graph(f"g (float[1,64] x, float[64,64] d = {{{numbers}}}) => (y) {{ y = MatMul (x, d) }}", opset=12)
    default = g.find("d").default
    convert_opset(g, 13)
    assert g.find("d").default is default
    assert str(g.find("d").type) == "float[64,64]"


def test_weights_of_sibling_bodies_with_one_name_are_not_mixed_up() -> None:
    text = (
        "g (bool c, float[1,64] x) => (float[64] y) { y = If (c) <"
        "then_branch = t () => (p) <float[64,64] w> { a = MatMul (x, w)  p = Squeeze <axes = [0]> (a) }, "
        "else_branch = e () => (q) <float[64,64] w> { b = MatMul (x, w)  q = Squeeze <axes = [0]> (b) }> }"
    )
    data = {f"w{n}": np.full((64, 64), n, np.float32) for n in (1, 2)}
    before = graph(text, opset=12)
    for number, body in enumerate(before.ops()[0].bodies.values(), 1):
        old = body.find("w")
        body.replace_uses(old, body.add_constant("v", data[f"w{number}"]))
        body.remove_unused([old])
        body.rename(body.find("v"), "w")
    after = converted(before, 13)
    assert [op.kind for _, op in after.walk()].count("Constant") == 2
    for condition in (True, False):
        feeds = {"c": np.array(condition), "x": np.ones((1, 64), np.float32)}
        assert_same_function(before, after, feeds=feeds, exact=True)


def test_what_the_converter_drops_is_given_back() -> None:
    proto = graph_to_proto(graph(TEXT, opset=12))
    proto.metadata_props.add(key="author", value="a")
    main, node = proto.graph, proto.graph.node[0]
    main.metadata_props.add(key="layer", value="1")
    main.quantization_annotation.add(tensor_name="a")
    main.input[0].metadata_props.add(key="unit", value="m")
    main.initializer[1].doc_string = "a bias"
    main.initializer[1].metadata_props.add(key="learned", value="yes")
    node.metadata_props.add(key="namespace", value="n")
    g = graph_from_proto(proto)
    convert_opset(g, 13)
    assert dict(g.info.metadata) == {"author": "a"}
    assert (dict(g.metadata), len(g.quantization_annotations)) == ({"layer": "1"}, 1)
    assert dict(g.inputs[0].metadata) == {"unit": "m"}
    bias = g.find("b").const
    assert bias is not None
    assert (bias.doc, dict(bias.metadata)) == ("a bias", {"learned": "yes"})
    assert dict(g.ops()[0].metadata) == {"namespace": "n"}


def test_functions_and_other_domains_stay_and_an_overload_is_still_meant() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 12, "local": 1, "com.acme": 3]> g (float[1,2] x) => (float[2] y) '
        "{ a = local.f (x)  b = com.acme.Foo (a)  y = Squeeze <axes = [0]> (b) }"
        '<domain: "local", opset_import: ["": 12]> f (x) => (y) { y = Relu (x) }'
    )
    proto.functions[0].overload = proto.graph.node[0].overload = "fast"
    g = graph_from_proto(proto)
    functions = g.info.functions
    convert_opset(g, 13)
    assert g.info.functions == functions
    assert dict(g.opsets) == {"": 13, "local": 1, "com.acme": 3}
    assert [(op.domain, op.kind, op.overload) for op in g.ops() if op.domain] == [
        ("local", "f", "fast"),
        ("com.acme", "Foo", ""),
    ]


def test_the_version_that_a_model_has_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx.version_converter, "convert_version", None)
    g = graph(TEXT, opset=12)
    version = g.version
    convert_opset(g, 12)
    assert g.version == version


def test_a_model_without_onnx_own_ops_is_left_alone() -> None:
    g = graph('<ir_version: 10, opset_import: ["com.acme": 1]> g (float[2] x) => (y) { y = com.acme.Foo (x) }')
    convert_opset(g, 13)
    assert dict(g.opsets) == {"com.acme": 1}


def test_an_op_that_has_no_older_form_is_refused_and_the_graph_left_alone() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Gelu (x) }"
    g = graph(text, opset=20)
    version = g.version
    with pytest.raises(UnsupportedError) as error:
        convert_opset(g, 19)
    assert error.value.code == "NNC-M038"
    assert error.value.message.startswith("opset 20 cannot be converted to 19: ")
    assert "No Previous Version of Gelu exists" in error.value.message
    assert g.version == version
    assert_text(g, text)


def test_a_conversion_that_would_change_the_interface_is_refused() -> None:
    g = graph(
        "g (float[1,2] initial, float[1,3,2] x) => (float[1,2] y, float[1,3,2] z) { y, z = Scan <num_scan_inputs = 1, "
        "body = b (float[2] sum_in, float[2] next) => (float[2] sum_out, float[2] scan_out) "
        "{ sum_out = Add (sum_in, next)  scan_out = Identity (sum_out) }> (, initial, x) }",
        opset=8,
    )
    with pytest.raises(UnsupportedError) as error:
        convert_opset(g, 9)
    assert error.value.message == (
        "opset 8 cannot be converted to 9: input 'initial' would be float[2], not float[1,2]"
    )
    assert isinstance(g.inputs[0].type, TensorType)


def test_an_opset_that_onnx_does_not_have_is_refused() -> None:
    with pytest.raises(UnsupportedError) as error:
        convert_opset(graph(TEXT, opset=12), 999)
    assert error.value.message.startswith("opset 12 cannot be converted to 999: ")
