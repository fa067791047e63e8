"""What a valid graph is: each way to be invalid has its code and says where."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nncomp.errors import ModelError
from nncomp.ir import CaptureKey, DataType, Graph, TensorType, Value
from nncomp.ir.nodes import set_field
from nncomp.onnx_io import graph_from_proto
from nncomp.testing import graph
from nncomp.verify import problems, verify

CHAIN = "g (float[2] x) => (float[2] y) { [first] a = Relu (x)  [second] b = Neg (a)  y = Abs (b) }"
BRANCH = """
g (bool c, float[2] x) => (float[2] y) {
   h = Relu (x)
   y = If (c) <then_branch = t () => (p) { p = Neg (h) }, else_branch = e () => (q) { q = Abs (h) }>
}
"""


def found(g: Graph) -> list[tuple[str, str]]:
    return [(problem.code, problem.message) for problem in problems(g)]


def test_a_valid_graph_has_no_problem() -> None:
    for text in (CHAIN, BRANCH, "g () => () { }", "g (float[2] x) => (float[2] x) { }"):
        assert found(graph(text)) == []


def test_the_first_problem_is_raised_with_its_place() -> None:
    g = graph("g (float[2] x) => (float[2] y) { [bad] y = Relu (x, x, x) }")
    with pytest.raises(ModelError) as error:
        verify(g)
    assert (error.value.code, error.value.message) == ("NNC-M035", "'bad': Relu takes 1 to 1 inputs, got 3")
    assert error.value.where.as_dict() == {"graph": "g", "node": "bad"}
    assert error.value.exit_status == 3


# ---------------------------------------------------------------- structure


def test_a_cycle_is_printed() -> None:
    g = graph(CHAIN)
    g.set_input(g.ops()[0], 0, g.find("b"))
    assert found(g) == [("NNC-M030", "the graph has a cycle: second -> first -> second")]


def test_an_op_that_reads_itself_is_a_cycle() -> None:
    g = graph("g (float[2] x) => (float[2] y) { [self] a = Relu (x)  y = Neg (a) }")
    g.set_input(g.ops()[0], 0, g.find("a"))
    assert found(g) == [("NNC-M030", "the graph has a cycle: self -> self")]


def test_a_body_that_reads_what_its_op_computes_is_a_cycle() -> None:
    g = graph(BRANCH)
    branch = g.ops()[1]
    branch.bodies["then_branch"].capture(branch.output)
    assert found(g) == [("NNC-M030", "the graph has a cycle: If(y) -> If(y)")]


def test_a_cycle_inside_a_body_is_found() -> None:
    g = graph(BRANCH)
    body = g.ops()[1].bodies["then_branch"]
    body.set_input(body.ops()[0], 0, body.find("p"))
    assert found(g) == [("NNC-M030", "the graph has a cycle: Neg(p) -> Neg(p)")]


def test_an_input_listed_twice_is_a_problem() -> None:
    g = graph(CHAIN)
    g._inputs = (*g._inputs, g._inputs[0])
    assert found(g) == [("NNC-M034", "a graph input is listed twice")]


def test_two_values_of_one_name_are_a_problem() -> None:
    g = graph(CHAIN)
    set_field(g.find("b"), "name", "a")
    assert found(g) == [("NNC-M031", "two things produce 'a'")]


def test_several_skipped_outputs_are_none() -> None:
    g = graph(CHAIN)
    g.add_op("Foo", [g.find("x")], ["", "c", ""], domain="com.acme")
    assert found(g) == []


def test_a_value_that_nothing_produces_is_a_problem() -> None:
    g = graph(CHAIN)
    g._edges.add(Value("ghost"))
    assert found(g) == [("NNC-M032", "'ghost' is read, but nothing produces it")]


def test_a_value_whose_op_is_gone_is_a_problem() -> None:
    g = graph(CHAIN)
    set_field(g.find("y"), "producer", graph(CHAIN).ops()[2])
    assert found(g) == [("NNC-M032", "'y' comes from an op that is gone")]


def test_a_graph_output_of_another_graph_is_a_problem() -> None:
    g = graph(CHAIN)
    g.set_outputs([Value("stranger")])
    assert found(g) == [("NNC-M032", "graph output 'stranger' is not produced")]


def test_an_op_that_reads_a_value_of_another_graph_is_a_problem() -> None:
    g = graph(CHAIN)
    set_field(g.ops()[1], "inputs", (Value("stranger"),))
    assert found(g) == [("NNC-M032", "'second' reads 'stranger', which is not of its graph")]


def test_edges_that_do_not_match_the_inputs_are_a_problem() -> None:
    g = graph(CHAIN)
    set_field(g.ops()[1], "inputs", (g.find("x"),))
    assert found(g) == [("NNC-M032", "edges into 'second' do not match its inputs")]


def test_a_capture_without_an_edge_is_a_problem() -> None:
    g = graph(BRANCH)
    branch = g.ops()[1]
    body = branch.bodies["then_branch"]
    g._edges.unlink(g.find("h"), branch, CaptureKey("then_branch", body.find("h")))
    assert found(g) == [("NNC-M032", "edges into 'If(y)' do not match its inputs")]


def test_a_capture_of_something_gone_is_a_problem() -> None:
    g = graph(BRANCH)
    body = g.ops()[1].bodies["then_branch"]
    del body._captures[body.find("h")]
    assert ("NNC-M032", "'h' is read, but nothing produces it") in found(g)


def test_a_constant_typed_otherwise_is_a_problem() -> None:
    g = graph("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add (x, w) }")
    g.set_type(g.find("w"), TensorType(DataType.FLOAT, (3,)))
    assert found(g) == [("NNC-M040", "constant 'w' is FLOAT [2], but typed float[3]")]


# ---------------------------------------------------------------- schemas


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("y = Add (x)", "NNC-M035", "'Add(y)': Add takes 2 to 2 inputs, got 1"),
        ("y = Clip (x, x, x, x)", "NNC-M035", "'Clip(y)': Clip takes 1 to 3 inputs, got 4"),
        ("y = Add (, x)", "NNC-M035", "'Add(y)': input 'A' is required"),
        ("y, z = Relu (x)", "NNC-M035", "'Relu(y)': Relu gives 1 to 1 outputs, got 2"),
        ("y = Relu <alpha = 1> (x)", "NNC-M035", "'Relu(y)': Relu has no attribute 'alpha'"),
        ("y = LeakyRelu <alpha = 1> (x)", "NNC-M035", "'LeakyRelu(y)': attribute 'alpha' is INT, expected FLOAT"),
        ("y = Concat (x, x)", "NNC-M035", "'Concat(y)': attribute 'axis' is required"),
        ("y = Gelu (x)", "NNC-M038", "'Gelu(y)': Gelu came with opset 20, the model imports 17"),
    ],
)
def test_an_op_that_does_not_follow_its_schema_is_a_problem(line: str, code: str, message: str) -> None:
    assert found(graph(f"g (float[2] x) => (y) {{ {line} }}")) == [(code, message)]


def test_all_problems_of_an_op_are_said() -> None:
    g = graph("g (float[2] x) => (y) { y = Concat <axes = 1> () }")
    assert [message for _, message in found(g)] == [
        "'Concat(y)': Concat takes 1 to 2147483647 inputs, got 0",
        "'Concat(y)': Concat has no attribute 'axes'",
        "'Concat(y)': attribute 'axis' is required",
    ]


def test_ops_of_bodies_are_checked_too() -> None:
    g = graph(BRANCH)
    body = g.ops()[1].bodies["then_branch"]
    body.set_attrs(body.ops()[0], alpha=1)
    with pytest.raises(ModelError) as error:
        verify(g)
    assert error.value.message == "'Neg(p)': Neg has no attribute 'alpha'"
    assert error.value.where.graph == "t"


def test_a_body_counts_as_the_attribute_that_it_is() -> None:
    assert found(graph("g (bool c) => (y) { y = If (c) <then_branch = t () => (p) { p = Not (c) }> }")) == [
        ("NNC-M035", "'If(y)': attribute 'else_branch' is required")
    ]


@pytest.mark.parametrize("line", ["y = com.acme.Relu <what = 1> (x, x, x)", "y = NoSuchOp (x)"])
def test_an_unknown_operator_is_let_be(line: str) -> None:
    assert found(graph(f"g (float[2] x) => (y) {{ {line} }}")) == []


def test_a_model_local_function_is_let_be() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 17, "local": 1]> g (float[2] x) => (y) { y = local.Relu (x, x) }'
        '<domain: "local", opset_import: ["": 17]> Relu (a, b) => (y) { y = Add (a, b) }'
    )
    assert found(graph_from_proto(proto)) == []


def test_onnx_own_ops_without_onnx_own_opset_are_a_problem() -> None:
    g = graph('<ir_version: 10, opset_import: ["com.acme": 1]> g (float[2] x) => (y) { y = Relu (x) }')
    assert found(g) == [("NNC-M036", "the model imports no opset of ONNX's own domain")]


def test_ops_of_a_domain_that_is_not_imported_are_let_be() -> None:
    g = graph(CHAIN)
    op = g.add_op("Foo", [g.find("x")], domain="com.acme")
    assert op.domain not in g.opsets
    assert found(g) == []


# ---------------------------------------------------------------- quantization parameters


def quantized(scale: str, zero: str = "uint8 z = {3}", attrs: str = "") -> str:
    return f"g (float[2,3] x) => (y) <{scale}, {zero}> {{ y = QuantizeLinear {attrs} (x, s, z) }}"


@pytest.mark.parametrize("number", ["0", "-1"])
def test_a_scale_that_is_not_positive_is_a_problem(number: str) -> None:
    g = graph(quantized(f"float s = {{{number}}}"))
    with pytest.raises(ModelError) as error:
        verify(g)
    assert (error.value.code, error.value.hint) == ("NNC-M051", "recalibrate")
    assert error.value.message == "'QuantizeLinear(y)': a scale must be positive and finite"


@pytest.mark.parametrize("number", [np.nan, np.inf, -1.0, 0.0])
@pytest.mark.parametrize("dtype", [DataType.FLOAT, DataType.FLOAT16, DataType.BFLOAT16])
def test_a_scale_of_any_type_must_be_positive_and_finite(number: float, dtype: DataType) -> None:
    g = Graph()
    x = g.add_input("x", None)
    scale = g.add_constant("s", np.array([1.0, number]).astype(dtype.numpy()))
    g.add_op("DequantizeLinear", [x, scale])
    assert found(g) == [("NNC-M051", "'DequantizeLinear(dequantizelinear)': a scale must be positive and finite")]


def test_scale_and_zero_point_of_different_lengths_are_a_problem() -> None:
    assert found(graph(quantized("float[3] s = {1, 1, 1}"))) == [
        ("NNC-M051", "'QuantizeLinear(y)': scale has shape [3], zero_point []")
    ]


@pytest.mark.parametrize(("scale", "zero"), [("float s", "uint8[1] z"), ("float[1] s", "uint8 z")])
def test_one_scale_and_one_zero_point_fit_whatever_their_ranks(scale: str, zero: str) -> None:
    assert found(graph(quantized(f"{scale} = {{1}}", f"{zero} = {{3}}"))) == []


def test_as_many_scales_as_the_axis_is_long_are_needed() -> None:
    text = quantized("float[3] s = {1, 1, 1}", "uint8[3] z = {0, 0, 0}", "<axis = 0>")
    assert found(graph(text)) == [
        ("NNC-M051", "'QuantizeLinear(y)': 3 scales along axis 0, which has size 2")
    ]  # fmt: skip
    assert found(graph(text.replace("axis = 0", "axis = 1"))) == []
    assert found(graph(text.replace("axis = 0", "axis = -1"))) == []


def test_scales_that_are_computed_are_let_be() -> None:
    assert found(graph("g (float[2,3] x, float s) => (y) { y = QuantizeLinear (x, s) }")) == []
