"""dead-code: what goes, and what stays although nobody reads it."""

import numpy as np
import onnx
import pytest

from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.testing import graph
from nncomp_cleanup.dead_code import DeadCode


def test_ops_and_constants_that_no_output_needs_go(check):
    check(
        DeadCode(),
        """
        g (float[2] x) => (float[2] y) <float[2] w, float[2] v, float[3] lonely>
        { a = Add (x, w)  b = Mul (a, v)  y = Relu (x) }
        """,
        "g (float[2] x) => (float[2] y) { y = Relu (x) }",
    )


def test_unused_inputs_stay(check):
    check(DeadCode(), "g (float[2] x, float[3] unused) => (float[2] y) { y = Relu (x) }", None)


def test_an_initializer_that_is_an_input_stays(check):
    before = graph("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { y = Relu (x) }")
    assert before.find("w").default is not None
    check(DeadCode(), before, None)


@pytest.mark.parametrize(
    ("op", "kept"),
    [
        ("y, mask = Dropout (x)", 1),
        ("y, indices = MaxPool <kernel_shape = [2, 2]> (x)", 1),
        ("y, mean, inv = LayerNormalization (x, w)", 1),
    ],
)
def test_unused_optional_outputs_go(check, op, kept):
    found = check(DeadCode(), f"g (float[1,2,4,4] x) => (float[N,C,H,W] y) <float[4] w> {{ {op} }}")
    assert len(found.graph.ops()[0].outputs) == kept


def test_an_optional_output_before_a_needed_one_is_skipped(check):
    text = """
    g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,1] inv) <float[4] w>
    { y, mean, inv = LayerNormalization (x, w) }
    """
    found = check(DeadCode(), text)
    assert [value.name for value in found.graph.ops()[0].outputs] == ["y", "", "inv"]


def test_an_lstm_gives_only_what_is_read(check):
    text = """
    g (float[3,1,4] x) => (float[1,1,2] h) <float[1,8,4] w, float[1,8,2] r>
    { y, h, c = LSTM <hidden_size = 2> (x, w, r) }
    """
    found = check(DeadCode(), text)
    assert [value.name for value in found.graph.ops()[0].outputs] == ["", "h"]


def test_outputs_that_make_a_batchnorm_train_stay(check):
    text = """
    g (float[2,3] x) => (float[2,3] y) <float[3] s, float[3] b, float[3] m, float[3] var>
    { y, m2, v2 = BatchNormalization <training_mode = 1> (x, s, b, m, var) }
    """
    check(DeadCode(), text, None, feeds=[])


def test_an_unknown_op_may_have_effects_and_stays(check):
    text = "g (float[2] x) => (float[2] y) { z = acme.Print (x)  y = Relu (x) }"
    found = check(DeadCode(), text, None, feeds=[])
    assert found.declined == ["Print is unknown, it may have effects"]


def test_a_body_with_an_unknown_op_keeps_its_owner(check):
    text = """
    g (bool b, float[2] x) => (float[2] y)
    {
       z = If (b) <
          then_branch = t () => (float[2] p) { p = acme.Print (x) },
          else_branch = e () => (float[2] q) { q = Relu (x) }
       >
       y = Relu (x)
    }
    """
    check(DeadCode(), text, None, feeds=[])


def test_what_only_a_dead_op_in_a_body_captured_is_dead_outside(check):
    check(
        DeadCode(),
        """
        g (bool b, float[2] x) => (float[2] y) <float[2] w>
        {
           a = Add (x, w)
           y = If (b) <
              then_branch = t () => (float[2] p) { dead = Mul (a, x)  p = Relu (x) },
              else_branch = e () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
        """
        g (bool b, float[2] x) => (float[2] y)
        {
           y = If (b) <
              then_branch = t () => (float[2] p) { p = Relu (x) },
              else_branch = e () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
    )


def test_an_op_with_bodies_goes_with_what_they_captured(check):
    check(
        DeadCode(),
        """
        g (bool b, float[2] x) => (float[2] y) <float[2] w>
        {
           a = Add (x, w)
           z = If (b) <then_branch = t () => (p) { p = Relu (a) }, else_branch = e () => (q) { q = Neg (a) }>
           y = Relu (x)
        }
        """,
        "g (bool b, float[2] x) => (float[2] y) { y = Relu (x) }",
    )


FUNCTIONS = """
<ir_version: 10, opset_import: ["": 17, "local": 1]>
g (float[2] x) => (float[2] y) { y = local.f (x) }
<opset_import: ["": 17, "local": 1], domain: "local"> f (a) => (b) { b = local.inner (a) }
<opset_import: ["": 17], domain: "local"> inner (a) => (b) { b = Relu (a) }
<opset_import: ["": 17], domain: "local"> unused (a) => (b) { b = Neg (a) }
"""


def test_functions_that_nothing_calls_go(check):
    found = check(DeadCode(), FUNCTIONS)
    assert [key[1] for key in found.graph.info.functions] == ["f", "inner"]
    assert found.fired == ["remove-function"]


def test_constants_that_a_quantization_annotation_names_stay(check):
    before = graph("g (float[2] x) => (float[2] y) <float x_scale = {0.5}, float other> { y = Relu (x) }")
    model = graph_to_proto(before)
    note = model.graph.quantization_annotation.add(tensor_name="x")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="x_scale")
    found = check(DeadCode(), graph_from_proto(model))
    assert [value.name for value in found.graph.constants()] == ["x_scale"]


def test_a_model_with_training_information_is_left_alone(check):
    model = graph_to_proto(graph("g (float[2] x) => (float[2] y) <float[2] w> { y = Relu (x) }"))
    model.training_info.add(algorithm=onnx.helper.make_graph([], "a", [], []))
    found = check(DeadCode(), graph_from_proto(model), None)
    assert found.skipped == ["training information may speak of any value"]


def test_loop_inputs_of_bodies_stay(check):
    text = """
    g (float[2] x) => (float[2] y) <int64 n = {3}, bool go = {1}>
    {
       y = Loop (n, go, x) <
          body = body (int64 i, bool c, float[2] s) => (bool c2, float[2] s2)
          { unused = Cast <to = 1> (i)  c2 = Identity (c)  s2 = Add (s, s) }
       >
    }
    """
    found = check(DeadCode(), text, feeds=[{"x": np.array([1, 2], np.float32)}])
    body = found.graph.ops()[0].bodies["body"]
    assert [value.name for value in body.inputs] == ["i", "c", "s"]
    assert [op.kind for op in body.ops()] == ["Identity", "Add"]
