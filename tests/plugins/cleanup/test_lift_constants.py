"""lift-constants: every form of Constant, and the two that stay."""

import numpy as np
import onnx
import pytest

from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.testing import graph
from nncomp_cleanup.lift_constants import LiftConstants


def test_a_constant_node_becomes_a_constant_of_its_name(check):
    check(
        LiftConstants(),
        "g (float[2] x) => (float[2] y) { c = Constant <value = float[2] {1, 2}> ()  y = Add (x, c) }",
        "g (float[2] x) => (float[2] y) <float[2] c = {1, 2}> { y = Add (x, c) }",
    )


@pytest.mark.parametrize(
    ("form", "type_", "data"),
    [
        ("value_float = 2.5", np.float32, 2.5),
        ("value_floats = [1.0, 2.0]", np.float32, [1, 2]),
        ("value_int = 7", np.int64, 7),
        ("value_ints = [7, 8]", np.int64, [7, 8]),
    ],
)
def test_each_form_is_lifted(check, form, type_, data):
    found = check(LiftConstants(), f"g (float[2] x) => (y) {{ c = Constant <{form}> ()  y = Cast <to = 1> (c) }}")
    array = found.graph.find("c").const.numpy()
    assert array.dtype == type_
    assert array.tolist() == data
    assert found.kinds == ["Cast"]


def test_strings_are_lifted(check):
    text = 'g (int64 i) => (string y) { c = Constant <value_strings = ["a", "bc"]> ()  y = Gather (c, i) }'
    found = check(LiftConstants(), text, feeds=[{"i": np.array(1)}])
    assert found.graph.find("c").const.numpy().tolist() == [b"a", b"bc"]


def test_a_single_string_is_a_scalar(check):
    text = 'g (int64[1] s) => (string[1] y) { c = Constant <value_string = "a"> ()  y = Expand (c, s) }'
    found = check(LiftConstants(), text, feeds=[])
    assert found.graph.find("c").const.shape == ()


def test_constants_in_bodies_are_lifted(check):
    found = check(
        LiftConstants(),
        """
        g (bool b, float[2] x) => (float[2] y)
        {
           y = If (b) <
              then_branch = t () => (float[2] p) { c = Constant <value = float {2.0}> ()  p = Mul (x, c) },
              else_branch = e () => (float[2] q) { d = Constant <value = float {3.0}> ()  q = Mul (x, d) }
           >
        }
        """,
    )
    assert found.kinds == ["If", "Mul", "Mul"]


def test_a_graph_output_stays_computed_by_an_op(check):
    found = check(LiftConstants(), "g (float[1] x) => (float[2] y) { y = Constant <value = float[2] {1, 2}> () }", None)
    assert found.declined == ["the graph interface needs this name"]


def test_sparse_data_stays_as_it_is_written(check):
    values = onnx.helper.make_tensor("values", onnx.TensorProto.FLOAT, [1], [5.0])
    indices = onnx.helper.make_tensor("indices", onnx.TensorProto.INT64, [1], [1])
    node = onnx.helper.make_node(
        "Constant", [], ["c"], sparse_value=onnx.helper.make_sparse_tensor(values, indices, [3])
    )
    add = onnx.helper.make_node("Add", ["x", "c"], ["y"])
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in "xy"]
    proto = onnx.helper.make_graph([node, add], "g", info[:1], info[1:])
    model = onnx.helper.make_model(proto, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    found = check(LiftConstants(), graph_from_proto(model), None)
    assert found.declined == ["sparse data stays as it is written"]


def test_the_doc_of_a_constant_is_kept(check):
    model = graph_to_proto(
        graph("g (float[2] x) => (float[2] y) { c = Constant <value_float = 1.0> ()  y = Add (x, c) }")
    )
    model.graph.node[0].doc_string = "the bias"
    assert check(LiftConstants(), graph_from_proto(model)).graph.find("c").doc == "the bias"
