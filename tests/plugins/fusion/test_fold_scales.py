"""fold-scales: constants in front of and behind linear ops."""

import numpy as np
import pytest

import nncomp
from nncomp.testing import assert_same_function, graph
from nncomp_fusion.scales import FoldScales

BEHIND = """
g (float[1,3,8,8] x) => (float[1,4,6,6] y)
<float[4,3,3,3] w, float{shape} k{data}>
{{
   c = Conv (x, w)
   y = {op}
}}
"""
SCALED = """
g (float[1,3,8,8] x) => (float[1,4,6,6] y)
<float[4,3,3,3] w_1>
{
   y = Conv (x, w_1)
}
"""
SHIFTED = """
g (float[1,3,8,8] x) => (float[1,4,6,6] y)
<float[4,3,3,3] w, float[4] w_bias>
{
   y = Conv (x, w, w_bias)
}
"""
BOTH = """
g (float[1,3,8,8] x) => (float[1,4,6,6] y)
<float[4,3,3,3] w_1, float[4] w_bias>
{
   y = Conv (x, w_1, w_bias)
}
"""


@pytest.mark.parametrize("shape", ["", "[1]", "[1,1,1,1]", "[4,1,1]", "[1,4,1,1]"])
@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("Mul (c, k)", SCALED),
        ("Mul (k, c)", SCALED),
        ("Div (c, k)", SCALED),
        ("Add (k, c)", SHIFTED),
        ("Sub (c, k)", SHIFTED),
        ("Sub (k, c)", BOTH),
    ],
)
def test_one_number_or_one_a_channel_folds_into_the_conv_in_front(check, shape, op, expected):
    outcome = check(FoldScales(), BEHIND.format(shape=shape, data="", op=op), expected)
    assert outcome.fired == ["fold-scale-into-weights"]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ("[6,6]", "the constant has shape [6, 6], expected one number or one for each channel"),
        ("[6]", "the constant has shape [6], expected one number or one for each channel"),
        ("[4,1,6]", "the constant has shape [4, 1, 6], expected one number or one for each channel"),
    ],
)
def test_numbers_that_differ_by_pixel_stay(check, shape, reason):
    assert check(FoldScales(), BEHIND.format(shape=shape, data="", op="Mul (c, k)"), None).declined == [reason]


def test_a_constant_that_makes_the_result_larger_stays(check):
    before = """
    g (float[1,3,4,4] x) => (float[1,5,2,2] y)
    <float[1,3,3,3] w, float[5,1,1] k>
    {
       c = Conv (x, w)
       y = Mul (c, k)
    }
    """
    assert check(FoldScales(), before, None).declined == [
        "the constant has shape [5, 1, 1], expected one number or one for each channel"
    ]


def test_a_constant_with_more_axes_than_the_result_stays(check):
    before = BEHIND.format(shape="[1,1,1,1,1]", data="", op="Mul (c, k)").replace("[1,4,6,6] y", "[1,1,4,6,6] y")
    assert check(FoldScales(), before, None).declined == ["the constant has shape [1, 1, 1, 1, 1], the tensor rank 4"]


def test_division_by_zero_stays(check):
    before = BEHIND.format(shape="[4,1,1]", data=" = {1, 0, 2, 3}", op="Div (c, k)")
    assert check(FoldScales(), before, None).declined == ["it divides by zero"]


def test_a_tapped_or_shared_result_keeps_its_scale(check):
    before = BEHIND.format(shape="", data="", op="Mul (c, k)")
    tapped = before.replace("(float[1,4,6,6] y)", "(float[1,4,6,6] y, float[1,4,6,6] c)")
    assert check(FoldScales(), tapped, None).declined == ["the value between them is a graph output"]
    shared = before.replace("(float[1,4,6,6] y)", "(float[1,4,6,6] y, float[1,4,6,6] z)").replace(
        "y = Mul", "z = Relu (c)\n   y = Mul"
    )
    assert check(FoldScales(), shared, None).declined == ["the value between them is read in 2 places"]


def test_a_bias_that_is_computed_stays(check):
    before = """
    g (float[1,3,8,8] x, float[4] b) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float k>
    {
       c = Conv (x, w, b)
       y = Mul (c, k)
    }
    """
    assert check(FoldScales(), before, None).declined == ["Conv's bias is not constant"]


def test_a_chain_of_constants_goes_in_one_by_one(check):
    before = """
    g (float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float[4] b, float k, float[4,1,1] t, float d = {3}>
    {
       c = Conv (x, w, b)
       e = Mul (c, k)
       f = Add (e, t)
       y = Div (f, d)
    }
    """
    outcome = check(FoldScales(), before)
    assert outcome.fired == ["fold-scale-into-weights"] * 3
    assert [op.kind for op in outcome.graph.ops()] == ["Conv"]


def test_it_folds_into_the_columns_of_a_batched_matmul_and_its_bias(check):
    before = """
    g (float[N,3,5] x) => (float[N,3,4] y)
    <float[5,4] w, float[4] b, float[4] k, float t = {2}>
    {
       c = MatMul (x, w)
       d = Add (c, b)
       e = Mul (d, k)
       y = Sub (t, e)
    }
    """
    outcome = check(FoldScales(), before)
    assert [op.kind for op in outcome.graph.ops()] == ["MatMul", "Add"]


def test_a_bias_behind_a_matmul_is_left_for_gemm_to_take(check):
    before = """
    g (float[N,3,5] x) => (float[N,3,4] y)
    <float[5,4] w, float[4] b>
    {
       c = MatMul (x, w)
       y = Add (c, b)
    }
    """
    outcome = check(FoldScales(), before, None)
    assert outcome.declined == []


def test_a_product_of_two_activations_says_why_it_keeps_its_scale(check):
    before = """
    g (float[2,3,5] q, float[2,5,3] k) => (float[2,3,3] y)
    <float scale>
    {
       c = MatMul (q, k)
       y = Mul (c, scale)
    }
    """
    assert check(FoldScales(), before, None).declined == ["MatMul's weight is not constant"]


def test_a_scale_of_unknown_rank_is_only_trusted_up_to_one_axis():
    text = """
    g (float[] x) => (float[] y)
    <float[5,4] w, float{shape} k>
    {{
       c = MatMul (x, w)
       y = Mul (c, k)
    }}
    """
    feeds = {"x": np.ones((2, 5), np.float32)}
    for shape, kinds, declined in (
        ("[4]", ["MatMul"], []),
        ("[1,4]", ["MatMul", "Mul"], ["the constant has shape [1, 4], the tensor rank unknown"]),
    ):
        before, ctx = graph(text.format(shape=shape)), nncomp.Context()
        after = before.clone()
        FoldScales().run(after, ctx)
        assert [op.kind for op in after.ops()] == kinds
        assert [note.reason for note in ctx.notes if note.event == "declined"] == declined
        assert_same_function(before, after, feeds=feeds)


def test_normalisation_of_the_input_goes_into_a_conv_without_padding(check):
    before = """
    g (float[N,3,8,8] x) => (float[N,4,6,6] y)
    <float[4,3,3,3] w, float[4] b, float[1,3,1,1] mean, float[3,1,1] deviation = {0.5, 0.25, 2}>
    {
       c = Sub (x, mean)
       d = Div (c, deviation)
       y = Conv (d, w, b)
    }
    """
    expected = """
    g (float[N,3,8,8] x) => (float[N,4,6,6] y)
    <float[4,3,3,3] w_1, float[4] b_1>
    {
       y = Conv (x, w_1, b_1)
    }
    """
    outcome = check(FoldScales(), before, expected)
    assert outcome.fired == ["fold-scale-into-next-weights"] * 2


def test_only_its_scale_goes_into_a_conv_that_pads(check):
    before = """
    g (float[N,3,8,8] x) => (float[N,4,8,8] y)
    <float[4,3,3,3] w, float[1,3,1,1] mean, float deviation = {0.5}>
    {
       c = Sub (x, mean)
       d = Div (c, deviation)
       y = Conv <pads = [1, 1, 1, 1]> (d, w)
    }
    """
    expected = """
    g (float[N,3,8,8] x) => (float[N,4,8,8] y)
    <float[1,3,1,1] mean, float[4,3,3,3] w_1>
    {
       c = Sub (x, mean)
       y = Conv <pads = [1, 1, 1, 1]> (c, w_1)
    }
    """
    outcome = check(FoldScales(), before, expected)
    assert outcome.declined == ["Conv pads with zeros, which the constant is not added to"]


def test_a_constant_that_widens_the_input_stays(check):
    before = """
    g (float[1,1,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float[3,1,1] k>
    {
       c = Mul (x, k)
       y = Conv (c, w)
    }
    """
    assert check(FoldScales(), before, None).declined == ["its input has 1 channels, the constant 3"]


def test_a_constant_that_adds_axes_to_the_input_stays(check):
    before = """
    g (float[3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float[1,1,1,1] k>
    {
       c = Mul (x, k)
       y = Conv (c, w)
    }
    """
    assert check(FoldScales(), before, None).declined == ["its input has rank 3, Conv reads rank 4"]


def test_rows_of_a_matmul_weight_take_the_scale_of_its_input(check):
    before = """
    g (float[2,3,5] x) => (float[2,3,4] y)
    <float[5,4] w, float[5] k>
    {
       c = Mul (x, k)
       y = MatMul (c, w)
    }
    """
    expected = """
    g (float[2,3,5] x) => (float[2,3,4] y)
    <float[5,4] w_1>
    {
       y = MatMul (x, w_1)
    }
    """
    check(FoldScales(), before, expected)


def test_a_gemm_takes_scale_and_shift_of_its_input(check):
    before = """
    g (float[2,5] x) => (float[2,4] y)
    <float[4,5] w, float[4] b, float[5] k, float[1,5] t>
    {
       c = Mul (x, k)
       d = Add (c, t)
       y = Gemm <transB = 1, alpha = 0.5, beta = 3.0> (d, w, b)
    }
    """
    outcome = check(FoldScales(), before)
    assert [op.kind for op in outcome.graph.ops()] == ["Gemm"]


def test_the_last_step_of_a_gelu_is_left_for_the_runtime_to_recognize(check):
    before = """
    g (float[2,3,5] x) => (float[2,3,4] y)
    <float[5,4] w, float root = {1.4142135}, float one = {1}, float half = {0.5}>
    {
       a = Div (x, root)
       b = Erf (a)
       c = Add (b, one)
       d = Mul (x, c)
       e = Mul (d, half)
       y = MatMul (e, w)
    }
    """
    assert check(FoldScales(), before, None).declined == [
        "it is the last step of a Gelu or LayerNormalization, which runtimes recognize as a whole"
    ]


def test_a_hard_sigmoid_becomes_a_clip_that_the_conv_can_absorb(check):
    before = """
    g (float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float[4] b>
    {
       c = Conv (x, w, b)
       y = HardSigmoid <alpha = 0.16666667, beta = 0.5> (c)
    }
    """
    expected = """
    g (float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w_1, float[4] b_1, float y_conv_min = {0}, float y_conv_max = {1}>
    {
       y_conv = Conv (x, w_1, b_1)
       y = Clip (y_conv, y_conv_min, y_conv_max)
    }
    """
    assert check(FoldScales(), before, expected).fired == ["fold-hard-sigmoid-into-weights"]


def test_a_hard_sigmoid_of_a_shared_result_stays(check):
    before = """
    g (float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float[4] b>
    {
       c = Conv (x, w, b)
       h = HardSigmoid (c)
       y = Mul (c, h)
    }
    """
    assert check(FoldScales(), before, None).declined == ["the value between them is read in 2 places"]


def test_a_bias_that_differs_by_row_stays(check):
    before = """
    g (float[2,5] x) => (float[2,4] y)
    <float[5,4] w, float[2,1] b, float k>
    {
       c = Gemm (x, w, b)
       y = Mul (c, k)
    }
    """
    assert check(FoldScales(), before, None).declined == [
        "the constant has shape [2, 1], expected one number or one for each channel"
    ]
