"""What is quantized, which values get a scale, and why the rest stays float."""

import dataclasses

import numpy as np
import pytest

from nncomp.ops import builtin_table
from nncomp.targets import Int8Kernel
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.plan import plan_quantization

WEIGHTS = """
<float[4,3,1,1] w, float[4,3,1,1] w1, float[4,4,1,1] w2, float[4,4,3,3] w3, float[4] b, float[1,4,1,1] k,
 float half = {0.5}, float zero = {0}, float six = {6}, float one = {1}, float minus = {-1}, float[1] bad,
 int64[4] shape = {1, 4, 4, 16}, float[4,4,2,2] wt, float[8,16] g1, float[16,4] g2, float[16] gb, float[2,2,1,1] s1>
"""


def net(body, *, inputs="float[1,3,8,8] x", outputs="float[] y"):
    return f"g ({inputs}) => ({outputs}) {WEIGHTS} {{ {body} }}"


# ------------------------------------------------------------------ what gets a scale


def test_a_convolution_gets_scales_on_both_sides(plan):
    found = plan(net("y = Conv (x, w)"))
    assert (found.static, found.scaled, found.integer) == (["y"], ["x", "y"], ["y"])
    assert found.left == {}


def test_a_product_with_float_result_gets_a_scale_on_its_input_only(plan):
    found = plan(net("y = Gemm (x, g1, gb)", inputs="float[2,8] x"))
    assert (found.static, found.scaled, found.integer) == (["y"], ["x"], [])


def test_a_dynamic_product_gets_none(plan):
    found = plan(net("y = MatMul (x, g1)", inputs="float[2,8] x"))
    assert (found.static, found.dynamic, found.scaled) == ([], ["y"], [])


def test_integers_spread_forward_through_ops_with_kernels(plan):
    found = plan(net("a = Conv (x, w) s = Sigmoid (a) m = Mul (a, s) p = GlobalAveragePool (m) y = Conv (p, w2)"))
    assert found.static == ["a", "s", "m", "p", "y"]
    assert found.scaled == ["x", "a", "s", "m", "p", "y"]
    assert found.integer == ["a", "s", "m", "p", "y"]


def test_integers_do_not_spread_backward(plan):
    found = plan(net("s = Sigmoid (x) y = Conv (s, w)"))
    assert (found.static, found.scaled, found.left) == (["y"], ["s", "y"], {})


def test_ops_that_no_integer_reaches_are_nobodys_business(plan):
    found = plan(
        net("c = Conv (x, w) t = Tanh (x) u = Softmax (t) y = Conv (x, w1)", outputs="float[] y, float[] c, float[] u")
    )
    assert found.left == {}
    assert found.static == ["c", "y"]


def test_a_scaled_input_and_a_scaled_output_may_be_one_value(plan):
    found = plan(net("a = Conv (x, w) y = Conv (a, w2)"))
    assert found.scaled == ["x", "a", "y"]
    assert found.integer == ["a", "y"]


def test_a_graph_output_gets_a_scale_as_any_value_does(plan):
    found = plan(net("a = Conv (x, w) y = Conv (a, w2)", outputs="float[] y, float[] a"))
    assert found.integer == ["a", "y"]


# ------------------------------------------------------------------ activations that vanish into the quantizer


@pytest.mark.parametrize(
    ("activation", "bounds"),
    [
        ("r = Relu (c)", (0, None)),
        ("r = Clip (c, zero, six)", (0, 6)),
        ("r = Clip (c, minus, one)", (-1, 1)),
        ("r = Clip (c, , six)", (None, 6)),
        ("r = Clip (c, minus)", (-1, None)),
        ("r = Clip (c)", (None, None)),
        ("q = Clip (c, minus, six) r = Relu (q)", (0, 6)),
        ("q = Relu (c) r = Clip (q, minus, one)", (0, 1)),
    ],
)
def test_a_clipping_activation_is_absorbed_and_its_bounds_are_kept(plan, activation, bounds):
    found = plan(net(f"c = Conv (x, w) {activation} y = Conv (r, w2)"))
    assert (found.static, found.scaled, found.integer) == (["c", "y"], ["x", "r", "y"], ["r", "y"])
    assert found.left == {}
    assert {value.name: limits for value, limits in found.plan.clips.items()}["r"] == bounds


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("r = Clip (c, bound)", "float[1,3,8,8] x, float bound"),
        ("l = Add (half, bound) r = Clip (c, l, six)", "float[1,3,8,8] x, float bound"),
        ("r = Clip (c, half, six)", "float[1,3,8,8] x"),
        ("r = Clip (c, , minus)", "float[1,3,8,8] x"),
    ],
    ids=["given bound", "computed bound", "zero below", "zero above"],
)
def test_a_clip_whose_codes_cannot_do_its_work_stays(plan, body, inputs):
    found = plan(net(f"c = Conv (x, w) {body} y = Conv (r, w2)", inputs=inputs))
    assert found.scaled == ["x", "c", "r", "y"]
    assert found.left == {"r": "its bounds are computed, or leave out zero"}


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        ("r = Relu (c) t = Tanh (c) y = Conv (r, w2)", "float[] y, float[] t"),
        ("r = Relu (c) y = Conv (r, w2)", "float[] y, float[] c"),
        ("r = Relu (c) s = Add (c, r) y = Conv (s, w2)", "float[] y"),
    ],
    ids=["two readers", "a graph output", "read around"],
)
def test_an_activation_is_not_absorbed_where_the_value_in_front_is_read_elsewhere(plan, body, outputs):
    found = plan(net(f"c = Conv (x, w) {body}", outputs=outputs))
    assert "c" in found.integer
    assert found.left["r"] == "the target has no integer kernel for it"


@pytest.mark.parametrize("kind", ["MaxPool <kernel_shape = [2, 2]>", "AveragePool <kernel_shape = [2, 2]>", "Sigmoid"])
def test_only_kernels_that_absorb_do(plan, kind):
    found = plan(net(f"c = Conv (x, w) p = {kind} (c) r = Relu (p) y = Conv (r, w2)"))
    assert "r" in found.left


def test_another_activation_is_an_op_of_its_own(plan):
    found = plan(net("c = Conv (x, w) r = LeakyRelu (c) y = Conv (r, w2)"))
    assert found.static == ["c", "r", "y"]
    assert found.scaled == ["x", "c", "r", "y"]


# ------------------------------------------------------------------ several operands


def test_a_residual_with_one_float_side_quantizes_that_side_for_the_sum_alone(plan):
    found = plan(net("t = Tanh (x) c = Conv (t, w2, b) s = Add (c, x) y = Conv (s, w2, b)", inputs="float[1,4,8,8] x"))
    assert found.static == ["c", "s", "y"]
    assert found.scaled == ["t", "c", "x", "s", "y"]
    assert found.integer == ["c", "s", "y"]


def test_a_constant_operand_gets_no_calibrated_scale(plan):
    found = plan(net("c = Conv (x, w) s = Mul (c, k) y = Conv (s, w2)"))
    assert found.scaled == ["x", "c", "s", "y"]


def test_a_constant_operand_that_is_not_finite_keeps_the_op_float():
    text = net("c = Conv (x, w) s = Mul (c, bad) y = Conv (s, w2)")
    found = graph(text, constants={"bad": np.array([np.nan], np.float32)}, opset=18)
    made = plan_quantization(found, builtin_table(), CAPABILITIES.int8)
    assert {op.output.name: why for op, why in made.left.items()} == {"s": "a constant operand holds NaN or infinity"}


def test_a_branch_that_reads_a_value_twice_reads_it_with_one_scale(plan):
    found = plan(net("c = Conv (x, w) s = Add (c, c) y = Conv (s, w2)"))
    assert found.scaled == ["x", "c", "s", "y"]
    assert found.leaders == {name: name for name in found.scaled}


def test_concat_takes_each_operand_with_its_own_scale(plan):
    found = plan(net("a = Conv (x, w) c = Conv (x, w1) j = Concat <axis = 2> (a, c, a) y = Conv (j, w2)"))
    assert found.leaders == {name: name for name in ("x", "a", "c", "j", "y")}


def test_operands_of_another_type_keep_an_op_float(plan):
    found = plan(
        net(
            "c = Conv (x, w) d = Cast <to = 11> (c) s = Add (d, z) e = Cast <to = 1> (s) y = Conv (e, w2)",
            inputs="float[1,3,8,8] x, double[1,4,8,8] z",
        )
    )
    assert found.left == {"d": "changes the element type"}
    assert found.static == ["c", "y"]


# ------------------------------------------------------------------ ops that move values


def test_a_chain_of_moves_keeps_one_scale(plan):
    found = plan(
        net(
            "c = Conv (x, w) r = Relu (c) "
            "m = MaxPool <kernel_shape = [2, 2]> (r) t = Transpose (m) f = Flatten (t) "
            "u = Reshape (f, shape) y = Conv (u, w2)"
        )
    )
    assert found.static == ["c", "m", "t", "f", "u", "y"]
    assert found.leaders == {"x": "x", "r": "r", "m": "r", "t": "r", "f": "r", "u": "r", "y": "y"}


def test_moves_that_no_integer_op_reads_are_dropped(plan):
    found = plan(net("c = Conv (x, w) m = MaxPool <kernel_shape = [2, 2]> (c) t = Transpose (m) y = Tanh (t)"))
    assert found.static == ["c"]
    assert found.scaled == ["x", "c"]


def test_moves_in_front_of_an_integer_op_stay(plan):
    found = plan(
        net("c = Conv (x, w) r = Relu (c) f = Flatten (r) y = Gemm (f, big)").replace(
            "float half", "float[256,4] big, float half"
        )
    )
    assert found.static == ["c", "f", "y"]
    assert found.leaders["f"] == "r"


def test_all_outputs_of_a_split_share_the_scale(plan):
    found = plan(
        net(
            "c = Conv (x, w) p, q = Split <axis = 1, num_outputs = 2> (c) "
            "s = Conv (p, s1) t = Conv (q, s1) y = Concat <axis = 1> (s, t)"
        )
    )
    assert found.leaders | {"p": "c", "q": "c"} == found.leaders
    assert {"p", "q"} <= set(found.integer)


def test_a_split_of_which_one_output_is_float_is_still_integer(plan):
    found = plan(
        net(
            "c = Conv (x, w) p, q = Split <axis = 1, num_outputs = 2> (c) y = Conv (p, s1) t = Tanh (q)",
            outputs="float[] y, float[] t",
        )
    )
    assert found.static == ["c", "p", "y"]
    assert found.leaders["q"] == "c"


def test_indices_get_no_scale(plan):
    text = net(
        "c = Conv (x, w) m, i = MaxPool <kernel_shape = [2, 2]> (c) y = Conv (m, w2)",
        outputs="float[] y, int64[1,4,7,7] i",
    )
    found = plan(text)
    assert found.left == {"m": "its second output is used: the integer kernel has one"}
    assert found.scaled == ["x", "c", "m", "y"]


@pytest.mark.parametrize(("mode", "moves"), [("nearest", True), ("linear", False), ("cubic", False)])
def test_resize_moves_values_in_nearest_mode_only(plan, mode, moves):
    found = plan(
        net(f'c = Conv (x, w) r = Resize <mode = "{mode}"> (c, , f) y = Conv (r, w2)').replace(
            "float half", "float[4] f = {1, 1, 2, 2}, float half"
        )
    )
    assert ("r" in found.static) is moves
    assert found.left == ({} if moves else {"r": "INT8 in nearest mode only"})


# ------------------------------------------------------------------ products


@pytest.mark.parametrize(
    ("attrs", "quantized"),
    [
        ("", True),
        ("<alpha = 1.0, beta = 1.0>", True),
        ("<transB = 0>", True),
        ("<alpha = 0.5>", False),
        ("<beta = 2.0>", False),
    ],
)
def test_gemm_is_integer_without_factors_only(plan, attrs, quantized):
    found = plan(net(f"y = Gemm {attrs} (x, g1, gb)", inputs="float[2,8] x"))
    assert (found.static == ["y"]) is quantized
    assert found.left == ({} if quantized else {"y": "alpha, beta or transA is set: the integer kernel has none"})


def test_gemm_with_its_data_transposed_stays_float(plan):
    found = plan(net("y = Gemm <transA = 1> (x, g1)", inputs="float[8,2] x"))
    assert found.left == {"y": "alpha, beta or transA is set: the integer kernel has none"}


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        ("y = MatMul (x, z)", "both operands are computed: float is as fast and more accurate"),
        ("t = Tanh (g1) y = MatMul (x, t)", "both operands are computed: float is as fast and more accurate"),
        ("y = MatMul (g2, x)", "its first operand is the constant one: the integer kernel takes weights second"),
        ("y = Gemm (x, z)", "both operands are computed: float is as fast and more accurate"),
    ],
)
def test_a_product_without_a_constant_second_operand_stays_float(plan, product, reason):
    inputs = "float[4,8] x, float[8,16] z"
    assert plan(net(product, inputs=inputs)).left == {"y": reason}


@pytest.mark.parametrize(
    ("weight", "axes"), [("float[2,8,16] g3", 3), ("float[8] g3", 1)], ids=["a stack of matrices", "a vector"]
)
def test_a_dynamic_product_takes_a_matrix(plan, weight, axes):
    found = plan(net("y = MatMul (x, g3)", inputs="float[2,4,8] x").replace("float half", f"{weight}, float half"))
    assert found.left == {"y": f"its weight has {axes} axes, the dynamic kernel takes 2"}


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_weights_of_another_type_stay(plan, dtype):
    found = plan(
        net("y = Conv (x, wh)", inputs=f"{dtype}[1,3,8,8] x", outputs=f"{dtype}[] y").replace(
            "float half", f"{dtype}[4,3,1,1] wh, float half"
        )
    )
    assert found.left == {"y": f"its weight is {dtype}, not float32"}


@pytest.mark.parametrize(
    ("bias", "quantized"), [("float[1,16] v", True), ("float[16] v", True), ("float v", True), ("float[2,16] v", False)]
)
def test_a_bias_is_one_number_a_channel(plan, bias, quantized):
    found = plan(net("y = Gemm (x, g1, v)", inputs="float[2,8] x").replace("float half", f"{bias}, float half"))
    assert found.left == ({} if quantized else {"y": "its bias is not one number a channel"})


def test_a_computed_bias_keeps_the_op_float(plan):
    found = plan(net("v = Tanh (b) y = Conv (x, w, v)"))
    assert found.left == {"y": "its bias is computed"}


def test_a_computed_weight_keeps_a_convolution_float(plan):
    assert plan(net("v = Tanh (w) y = Conv (x, v)")).left == {"y": "its weight is computed"}


def test_weights_may_be_shared(plan):
    found = plan(net("a = Conv (x, w2) y = Conv (a, w2)", inputs="float[1,4,8,8] x"))
    assert found.static == ["a", "y"]


# ------------------------------------------------------------------ tables


def table(rows, **options):
    return f"g (int64[2,5] i) => (float[] y) <float[{rows},64] t> {{ y = Gather (t, i) }}"


def test_a_large_embedding_table_is_stored_as_integers(plan):
    found = plan(table(512))
    assert [op.output.name for op in found.plan.tables] == ["y"]
    assert not found.plan.empty


def test_a_small_table_is_left_alone(plan):
    assert plan(table(8)).plan.empty


def test_tables_can_be_left_out(plan):
    assert plan(table(512), embeddings=False).plan.empty
    assert plan(table(512), skip=("y",)).left == {"y": "skipped by option"}


@pytest.mark.parametrize("text", ["Gather <axis = 1> (t, i)", "Gather (x, i)"], ids=["columns", "computed"])
def test_only_rows_of_a_constant_are_a_table(plan, text):
    body = f"g (int64[2,5] i, float[512,64] x) => (float[] y) <float[512,64] t> {{ y = {text} }}"
    assert plan(body).plan.tables == []


# ------------------------------------------------------------------ what is left


@pytest.mark.parametrize("op", ["Tanh", "Erf", "HardSwish", "Softmax", "Abs", "Exp"])
def test_ops_without_a_kernel_say_why(plan, op):
    found = plan(net(f"c = Conv (x, w) t = {op} (c) y = Conv (t, w2)"))
    expected = CAPABILITIES.int8.float_causes.get(op)
    assert set(found.left) == {"t"}
    assert found.left["t"] == expected if expected else len(found.left["t"]) > 10
    assert found.static == ["c", "y"]


def test_an_op_of_another_domain_says_so(plan):
    found = plan(net("c = Conv (x, w) t = acme.Conv (c) y = Conv (t, w2)"))
    assert set(found.left) == {"t"}
    assert found.static == ["c", "y"]


def test_a_compute_op_without_a_kernel_says_why_even_if_no_integer_reaches_it(plan):
    found = plan(net("y = ConvTranspose (x, wt)", inputs="float[1,4,8,8] x"))
    assert found.left == {"y": "no INT8 kernel for transposed convolution"}
    assert found.plan.empty


def test_what_is_in_bodies_is_planned_on_its_own(plan):
    found = plan(
        net(
            """
            c = Conv (x, w)
            y = If (cond) <
               then_branch = t () => (float[] p) { p = Conv (c, w2) },
               else_branch = e () => (float[] q) { q = Relu (c) }
            >
            """,
            inputs="float[1,3,8,8] x, bool cond",
        )
    )
    assert found.left == {}
    assert found.static == ["c"]


@pytest.mark.parametrize("skipped", ["c", "m", "y"])
def test_ops_can_be_skipped(plan, skipped):
    found = plan(net("c = Conv (x, w) m = Sigmoid (c) y = Conv (m, w2)"), skip=(skipped,))
    expected = {"c": ["y"], "m": ["c", "y"], "y": ["c", "m"]}[skipped]
    assert found.static == expected
    assert found.left == {skipped: "skipped by option"}


def test_a_skipped_activation_is_not_absorbed(plan):
    found = plan(net("c = Conv (x, w) r = Relu (c) y = Conv (r, w2)"), skip=("r",))
    assert found.scaled == ["x", "c", "r", "y"]
    assert "r" in found.left


def test_a_target_with_other_kernels_gets_another_plan(plan):
    int8 = dataclasses.replace(CAPABILITIES.int8, kernels={"Conv": Int8Kernel()}, float_causes={"Sigmoid": "too hard"})
    found = plan(net("c = Conv (x, w) r = Relu (c) s = Sigmoid (r) y = Conv (s, w2)"), int8=int8)
    assert found.static == ["c", "y"]
    assert found.scaled == ["x", "c", "s", "y"]
    assert found.left == {"r": "the target has no integer kernel for it"}


@pytest.mark.parametrize("where", ["weight", "bias"])
def test_what_a_caller_may_override_is_left_alone(plan, where):
    text = {"weight": "y = Conv (x, v)", "bias": "y = Conv (x, w, v)"}[where]
    dims = {"weight": "4,3,1,1", "bias": "4"}[where]
    found = graph(net(text, inputs=f"float[1,3,8,8] x, float[{dims}] v"), opset=18)
    found.remove_unused(found.constants())
    size = 12 if where == "weight" else 4
    data = np.ones(size, np.float32).reshape([int(dim) for dim in dims.split(",")])
    overridable = with_default(found, "v", data)
    made = plan_quantization(overridable, builtin_table(), CAPABILITIES.int8)
    assert {op.output.name: why for op, why in made.left.items()} == {
        "y": f"its {where} is an input that a caller may override"
    }


def with_default(found, name, data):
    """Return the graph with a default for one of its inputs."""
    from onnx import numpy_helper

    from nncomp.onnx_io import graph_from_proto, graph_to_proto

    proto = graph_to_proto(found)
    proto.graph.initializer.append(numpy_helper.from_array(data, name))
    return graph_from_proto(proto)


ONLY = """
g (float[1,4,5,5] x) => (float[1,4,5,5] y)
<float[4,4,1,1] w>
{
   a = Conv (x, w)
   b = Relu (a)
   c = Conv (b, w)
   y = Add (c, b)
}
"""


def test_only_what_is_asked_for_is_quantized_with_the_activation_behind_it(plan):
    assert plan(ONLY, only=("a",)).static == ["a"]
    assert plan(ONLY, only=("a",)).scaled == ["x", "b"]
    assert plan(ONLY, only=("a",)).left["c"] == "not among those asked for"


def test_an_op_that_pays_only_beside_others_is_quantized_alone_when_asked_for(plan):
    assert plan(ONLY, only=("y",)).static == ["y"]
    assert plan(ONLY, only=("y",)).scaled == ["c", "b", "y"]
    assert plan(ONLY, skip=("a", "c")).static == []
