"""fold-constants: what is computed at compile time, by whom, and what must wait for run time."""

import numpy as np
import pytest

import nncomp
from nncomp.testing import graph
from nncomp_cleanup.fold_constants import FoldConstants


def test_ops_on_constants_become_constants(check):
    found = check(
        FoldConstants(),
        "g (float[2] x) => (float[2] y) <float[2] w, float[2] v> { a = Add (w, v)  b = Exp (a)  y = Mul (x, b) }",
        "g (float[2] x) => (float[2] y) <float[2] b> { y = Mul (x, b) }",
    )
    assert found.fired == ["fold-constants"]


def test_constant_nodes_count_as_constants(check):
    text = "g (float[2] x) => (float[2] y) { c = Constant <value = float {2.0}> ()  d = Sqrt (c)  y = Mul (x, d) }"
    assert check(FoldConstants(), text).kinds == ["Mul"]


def test_an_initializer_that_is_an_input_is_not_fixed(check):
    before = graph("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { a = Exp (w)  y = Add (x, a) }")
    check(FoldConstants(), before, None)


def test_several_outputs_are_kept_as_far_as_they_are_read(check):
    text = """
    g (float[2] x) => (float[2] y) <float[6] w>
    { a, b, c = Split (w)  d = Add (x, a)  y = Add (d, c) }
    """
    found = check(FoldConstants(), text)
    assert sorted(value.name for value in found.graph.constants()) == ["a", "c"]


def test_a_folded_graph_output_keeps_its_name(check):
    text = "g (float[2] x) => (float[2] y, float[2] z) <float[2] w> { y = Exp (w)  z = Add (x, y) }"
    found = check(FoldConstants(), text)
    assert sorted(found.kinds) == ["Add", "Identity"]
    assert check(FoldConstants(), found.graph, None).declined == ["the graph interface needs this name"]


def test_bodies_are_folded_too_with_what_they_capture(check):
    found = check(
        FoldConstants(),
        """
        g (bool b, float[2] x) => (float[2] y) <float[2] w>
        {
           v = Exp (w)
           y = If (b) <
              then_branch = t () => (float[2] p) { n = Neg (v)  p = Mul (x, n) },
              else_branch = e () => (float[2] q) { q = Relu (x) }
           >
        }
        """,
    )
    assert found.kinds == ["If", "Mul", "Relu"]
    assert not found.graph.constants(), "what only the folded op in the body read is gone outside"


def test_random_ops_wait(check):
    text = "g (float[2] x) => (float[2] y) <float[2] w> { r = RandomNormalLike (w)  y = Add (x, r) }"
    check(FoldConstants(), text, None, feeds=[])


def test_ops_with_bodies_wait(check):
    text = """
    g (float[2] x) => (float[2] y) <int64 n = {4611686018427387904}, bool go = {1}, float[2] w>
    {
       z = Loop (n, go, w) <
          body = body (int64 i, bool c, float[2] s) => (bool c2, float[2] s2) { c2 = Identity (c)  s2 = Add (s, s) }
       >
       y = Add (x, z)
    }
    """
    check(FoldConstants(), text, None, feeds=[])


def test_calls_of_functions_wait(check):
    text = """
    <ir_version: 10, opset_import: ["": 17, "local": 1]>
    g (float[2] x) => (float[2] y) <float[2] w> { a = local.Relu (w)  y = Add (x, a) }
    <opset_import: ["": 17], domain: "local"> Relu (a) => (b) { b = Neg (a) }
    """
    check(FoldConstants(), text, None)


def test_an_op_that_the_runtime_refuses_stays_and_the_others_are_folded(check):
    text = """
    g (float[2] x) => (float[2] y) <float[2] w, int64[1] far = {9}, float[2] v>
    { a = Exp (w)  b = Gather (v, far)  c = Add (a, b)  d = Neg (v)  e = Mul (c, d)  y = Add (x, e) }
    """
    found = check(FoldConstants(), text, feeds=[])
    assert found.kinds == ["Gather", "Add", "Mul", "Add"]
    assert "indices element out of data bounds" in found.declined[0]


def test_a_value_of_a_type_that_python_cannot_take_back_waits(check):
    text = (
        "g (float[2] x) => (float[2] y) <float[2] w> { b = Cast <to = 16> (w)  c = Cast <to = 1> (b)  y = Add (x, c) }"
    )
    found = check(FoldConstants(), text, None, feeds=[])
    assert found.declined == ["ONNX Runtime's interface does not carry bfloat16"]


@pytest.mark.parametrize("divisor", ["0", "-1"])
@pytest.mark.parametrize("kind", ["Div", "Mod"])
def test_a_division_that_could_end_the_process_waits(check, kind, divisor):
    text = f"""
    g (int64[1] x) => (int64[1] y) <int64[1] a = {{-9223372036854775808}}, int64[1] b = {{{divisor}}}>
    {{ c = {kind} (a, b)  y = Add (x, c) }}
    """
    found = check(FoldConstants(), text, None, feeds=[])
    assert found.declined == ["an integer division by 0 or -1 may trap"]


def test_a_divisor_that_is_computed_is_looked_at_first(check):
    text = """
    g (int64[2] x) => (int64[2] y) <int64[2] a = {7, 9}, float[2] b = {2, 3}>
    { c = Cast <to = 7> (b)  d = Div (a, c)  y = Add (x, d) }
    """
    found = check(FoldConstants(), text)
    assert found.graph.find("d").const.numpy().tolist() == [3, 3]


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("chain", "data"),
    [
        ("y = Shape <start = 1, end = 3> (x)", [3, 8]),
        ("s = Shape (x)  y = Gather (s, one)", 3),
        ("s = Shape (x)  y = Gather (s, ends)", [3, 8]),
        ("s = Shape (x)  y = Slice (s, begin, end)", [3, 8]),
        ("s = Shape (x)  a = Gather (s, one)  b = Mul (a, two)  y = Unsqueeze (b, zero)", [6]),
        ("s = Shape (x)  t = Shape (s)  y = Squeeze (t)", 3),
        ("s = Shape (x)  y = Size (s)", 3),
        ("s = Shape (x)  a = Gather (s, ends)  b = Cast <to = 6> (a)  y = Concat <axis = 0> (b, b)", [3, 8, 3, 8]),
    ],
)
def test_static_dimensions_are_numbers_where_others_are_not(check, chain, data):
    text = f"""
    g (float[N,3,8] x) => (y) <
       int64 one = {{1}}, int64 two = {{2}}, int64[2] ends = {{1, -1}}, int64[1] begin = {{1}}, int64[1] end = {{3}},
       int64[1] zero = {{0}}
    > {{ {chain} }}
    """
    found = check(FoldConstants(), text)
    assert found.kinds == ["Identity"]
    assert found.graph.array(found.graph.ops()[0].inputs[0]).tolist() == data


def test_a_dynamic_dimension_stays(check):
    text = "g (float[N,3] x) => (int64 y) <int64 zero = {0}> { s = Shape (x)  y = Gather (s, zero) }"
    check(FoldConstants(), text, None)


def test_what_a_file_declares_of_a_value_inside_is_not_believed(check):
    """The batch was made dynamic and [1, ...] left behind, as many tools do; runtimes do not mind."""
    before = graph("g (float[N,3] x) => (int64[2] y) { a = Relu (x)  y = Shape (a) }")
    before.set_type(before.find("a"), nncomp.TensorType(nncomp.DataType.FLOAT, (1, 3)))
    found = check(FoldConstants(), before)
    assert found.kinds == ["Relu", "Shape"]


def test_an_overridable_default_decides_no_shape(check):
    before = graph(
        "g (float[N,4] x, int64[2] s) => (int64[2] y) <int64[2] s = {2, -1}> { a = Reshape (x, s)  y = Shape (a) }"
    )
    check(FoldConstants(), before, None, feeds=[{"x": np.zeros((2, 4), np.float32)}])


def test_range_operands_that_become_constant_become_scalars(check):
    """At run time the runtime takes [n], when it loads it refuses it: folding n must not make the model unloadable."""
    text = """
    g (float[3,4] x) => (int64[3] y) <int64 zero = {0}, int64 one = {1}, int64[1] begin = {0}, int64[1] end = {1}>
    { s = Shape (x)  n = Slice (s, begin, end)  y = Range (zero, n, one) }
    """
    found = check(FoldConstants(), text)
    assert found.graph.array(found.graph.ops()[0].inputs[0]).tolist() == [0, 1, 2]


# ---------------------------------------------------------------- quantized weights

COMPRESSED = """
g (float[N,4] x) => (float[N,5] y) <int8[4,5] q, float scale = {0.5}, int8 zero = {1}>
{ w = DequantizeLinear (q, scale, zero)  y = MatMul (x, w) }
"""
QUANTIZED = """
g (float[N,4] x) => (float[N,5] y) <int8[4,5] q, float scale = {0.5}, int8 zero = {1}>
{
   xq = QuantizeLinear (x, scale, zero)  xd = DequantizeLinear (xq, scale, zero)
   w = DequantizeLinear (q, scale, zero)  y = MatMul (xd, w)
}
"""


def test_compressed_weights_of_a_float_model_are_decompressed(check):
    assert check(FoldConstants(), COMPRESSED).kinds == ["MatMul"]


def test_weights_of_a_quantized_model_stay_integers(check):
    found = check(FoldConstants(), QUANTIZED, None)
    assert found.declined == ["dequantized weights would be floats again"]


def test_the_user_decides_otherwise(check):
    check(FoldConstants(dequantize=False), COMPRESSED, None)
    assert "MatMul" in check(FoldConstants(dequantize=True), QUANTIZED).kinds


def test_large_compressed_weights_stay_unless_asked(check):
    text = COMPRESSED.replace("[4,5]", "[4,50000]").replace("[N,5]", "[N,50000]")
    found = check(FoldConstants(), text, None)
    assert found.declined == ["its result takes 800000 bytes, the constants that would go take 200005"]
    assert check(FoldConstants(dequantize=True), text).kinds == ["MatMul"]


def test_float_weights_are_quantized_in_place_of_the_graph(check):
    text = """
    g (float[N,4] x) => (float[N,5] y) <float[4,5] w, float scale = {0.01}, int8 zero = {0}>
    {
       xq = QuantizeLinear (x, scale, zero)  xd = DequantizeLinear (xq, scale, zero)
       q = QuantizeLinear (w, scale, zero)  d = DequantizeLinear (q, scale, zero)  y = MatMul (xd, d)
    }
    """
    found = check(FoldConstants(), text)
    assert "MatMul" in found.kinds
    assert found.graph.find("q").const.dtype == nncomp.DataType.INT8


# ---------------------------------------------------------------- float16

HALF = np.array([1, 2], np.float16)


def test_moving_float16_constants_is_exact(check):
    text = """
    g (float16[2,1] x) => (float16[2,1] y) <float16[2] w, int64[2] s = {2, 1}>
    { a = Reshape (w, s)  y = Add (x, a) }
    """
    assert check(FoldConstants(), text, constants={"w": HALF}).kinds == ["Add"]


def test_rounding_float16_is_left_to_the_runtime(check):
    text = "g (float16[2] x) => (float16[2] y) <float16[2] w> { a = Exp (w)  y = Add (x, a) }"
    found = check(FoldConstants(), text, None, constants={"w": HALF})
    assert found.declined == ["ONNX Runtime holds float16 in float32 between ops: rounding here would change bits"]
    assert not found.warnings


def test_a_fold_that_overflows_float16_is_refused_with_a_warning(check):
    text = "g (float16[2] x) => (float16[2] y) <float[2] w = {70000, 1}> { h = Cast <to = 10> (w)  y = Add (x, h) }"
    found = check(FoldConstants(), text, None, feeds=[])
    assert found.declined == ["the result overflows float16"]
    assert found.warnings == ["'Cast(h)' turns finite constants into infinite float16 numbers"]


@pytest.mark.row(35)
def test_the_overflow_warning_has_its_code():
    before = graph("g (float16[2] x) => (y) <float[2] w = {70000, 1}> { h = Cast <to = 10> (w)  y = Add (x, h) }")
    ctx = nncomp.Context()
    FoldConstants().run(before, ctx)
    assert [note.code for note in ctx.notes if note.event == "warning"] == ["NNC-W031"]


def test_an_opset_that_the_runtime_does_not_know_is_skipped(check):
    text = "g (float[2] x) => (float[2] y) <float[2] w> { a = Exp (w)  y = Add (x, a) }"
    found = check(FoldConstants(), text, None, opset=27, feeds=[])
    assert found.skipped == ["ONNX Runtime evaluates up to opset 26"]
