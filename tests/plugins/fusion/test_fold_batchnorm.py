"""fold-batchnorm: into weights in front, into weights behind, and everything that stands in the way."""

import numpy as np
import pytest

import nncomp
from nncomp.ir import DataType
from nncomp.testing import graph
from nncomp_fusion.batchnorm import FoldBatchnorm

BN = "float[4] s, float[4] t, float[4] mean, float[4] var"
CONV_BN = f"""
g (float[1,3,8,8] x) => (float[1,4,6,6] y)
<float[4,3,3,3] w, {BN}>
{{
   c = Conv (x, w)
   y = BatchNormalization (c, s, t, mean, var)
}}
"""


def test_it_folds_into_a_conv_without_bias(check):
    expected = """
    g (float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w_1, float[4] w_bias>
    {
       y = Conv (x, w_1, w_bias)
    }
    """
    assert check(FoldBatchnorm(), CONV_BN, expected).fired == ["fold-batchnorm-into-weights"]


def test_it_folds_into_a_grouped_strided_conv_with_bias_and_keeps_its_attributes(check):
    before = f"""
    g (float[1,6,9,9] x) => (float[1,4,5,5] y)
    <float[4,3,3,3] w, float[4] b, {BN}>
    {{
       c = Conv <group = 2, strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)
       y = BatchNormalization <epsilon = 0.01> (c, s, t, mean, var)
    }}
    """
    expected = """
    g (float[1,6,9,9] x) => (float[1,4,5,5] y)
    <float[4,3,3,3] w_1, float[4] b_1>
    {
       y = Conv <group = 2, strides = [2, 2], pads = [1, 1, 1, 1]> (x, w_1, b_1)
    }
    """
    check(FoldBatchnorm(), before, expected)


def test_it_folds_into_a_grouped_conv_transpose_whose_weight_has_inputs_first(check):
    before = f"""
    g (float[1,6,5,5] x) => (float[1,4,11,11] y)
    <float[6,2,3,3] w, {BN}>
    {{
       c = ConvTranspose <group = 2, strides = [2, 2]> (x, w)
       y = BatchNormalization (c, s, t, mean, var)
    }}
    """
    expected = """
    g (float[1,6,5,5] x) => (float[1,4,11,11] y)
    <float[6,2,3,3] w_1, float[4] w_bias>
    {
       y = ConvTranspose <group = 2, strides = [2, 2]> (x, w_1, w_bias)
    }
    """
    check(FoldBatchnorm(), before, expected)


def test_it_folds_into_a_gemm_and_takes_beta_into_the_bias(check):
    before = f"""
    g (float[2,5] x) => (float[2,4] y)
    <float[4,5] w, float[1,4] b, {BN}>
    {{
       c = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, b)
       y = BatchNormalization (c, s, t, mean, var)
    }}
    """
    expected = """
    g (float[2,5] x) => (float[2,4] y)
    <float[4,5] w_1, float[4] b_1>
    {
       y = Gemm <transB = 1, alpha = 0.5> (x, w_1, b_1)
    }
    """
    check(FoldBatchnorm(), before, expected)


def test_it_folds_into_a_matmul_whose_bias_becomes_an_add(check):
    before = f"""
    g (float[N,5] x) => (float[N,4] y)
    <float[5,4] w, {BN}>
    {{
       c = MatMul (x, w)
       y = BatchNormalization (c, s, t, mean, var)
    }}
    """
    expected = """
    g (float[N,5] x) => (float[N,4] y)
    <float[5,4] w_1, float[4] w_bias>
    {
       y_matmul = MatMul (x, w_1)
       y = Add (y_matmul, w_bias)
    }
    """
    check(FoldBatchnorm(), before, expected)


def test_it_folds_into_a_matmul_and_the_add_behind_it(check):
    before = f"""
    g (float[N,5] x) => (float[N,4] y)
    <float[5,4] w, float[4] b, {BN}>
    {{
       m = MatMul (x, w)
       c = Add (b, m)
       y = BatchNormalization (c, s, t, mean, var)
    }}
    """
    expected = """
    g (float[N,5] x) => (float[N,4] y)
    <float[5,4] w_1, float[4] b_1>
    {
       y_matmul = MatMul (x, w_1)
       y = Add (y_matmul, b_1)
    }
    """
    check(FoldBatchnorm(), before, expected)


def test_it_folds_into_the_conv_behind_it_when_nothing_is_in_front(check):
    before = f"""
    g (float[1,4,8,8] x) => (float[1,2,6,6] y)
    <float[2,4,3,3] w, {BN}>
    {{
       n = BatchNormalization (x, s, t, mean, var)
       y = Conv (n, w)
    }}
    """
    expected = """
    g (float[1,4,8,8] x) => (float[1,2,6,6] y)
    <float[2,4,3,3] w_1, float[2] w_bias>
    {
       y = Conv (x, w_1, w_bias)
    }
    """
    assert check(FoldBatchnorm(), before, expected).fired == ["fold-batchnorm-into-next-weights"]


def test_it_does_not_fold_a_shift_into_a_conv_that_pads(check):
    before = f"""
    g (float[1,4,8,8] x) => (float[1,2,8,8] y)
    <float[2,4,3,3] w, {BN}>
    {{
       n = BatchNormalization (x, s, t, mean, var)
       y = Conv <pads = [1, 1, 1, 1]> (n, w)
    }}
    """
    assert check(FoldBatchnorm(), before, None).declined == ["Conv pads with zeros, which the constant is not added to"]


def test_it_folds_into_a_conv_that_pads_when_it_only_scales(check):
    before = """
    g (float[1,4,8,8] x) => (float[1,2,8,8] y)
    <float[2,4,3,3] w, float[4] s, float[4] zero = {0, 0, 0, 0}, float[4] var>
    {
       n = BatchNormalization (x, s, zero, zero, var)
       y = Conv <pads = [1, 1, 1, 1]> (n, w)
    }
    """
    expected = """
    g (float[1,4,8,8] x) => (float[1,2,8,8] y)
    <float[2,4,3,3] w_1>
    {
       y = Conv <pads = [1, 1, 1, 1]> (x, w_1)
    }
    """
    check(FoldBatchnorm(), before, expected)


def test_it_does_not_fold_a_shift_through_a_conv_transpose(check):
    before = f"""
    g (float[1,4,5,5] x) => (float[1,2,7,7] y)
    <float[4,2,3,3] w, {BN}>
    {{
       n = BatchNormalization (x, s, t, mean, var)
       y = ConvTranspose (n, w)
    }}
    """
    assert check(FoldBatchnorm(), before, None).declined == ["ConvTranspose spreads a constant unevenly"]


def test_padding_that_depends_on_unknown_sizes_is_not_trusted(check):
    before = f"""
    g (float[1,4,H,W] x) => (float[1,2,P,Q] y)
    <float[2,4,3,3] w, {BN}>
    {{
       n = BatchNormalization (x, s, t, mean, var)
       y = Conv <auto_pad = "SAME_UPPER"> (n, w)
    }}
    """
    assert check(FoldBatchnorm(), before, None).declined == ["Conv's padding depends on sizes that are not known"]


@pytest.mark.parametrize("reader", ["z = Relu (c)", "z = Add (c, c)"])
def test_a_result_that_others_read_keeps_its_batchnorm(check, reader):
    before = CONV_BN.replace("(float[1,4,6,6] y)", "(float[1,4,6,6] y, float[1,4,6,6] z)").replace(
        "}\n", reader + "}\n"
    )
    places = 2 if "Relu" in reader else 3
    assert check(FoldBatchnorm(), before, None).declined == [f"the value between them is read in {places} places"]


def test_a_tapped_result_is_not_lost(check):
    before = CONV_BN.replace("(float[1,4,6,6] y)", "(float[1,4,6,6] y, float[1,4,6,6] c)")
    assert check(FoldBatchnorm(), before, None).declined == ["the value between them is a graph output"]


def test_statistics_of_the_batch_stay(check):
    before = CONV_BN.replace("BatchNormalization (", "BatchNormalization <training_mode = 1> (").replace(
        "   y =", "   y, running_mean, running_var ="
    )
    assert check(FoldBatchnorm(), before, None).declined == [
        "BatchNormalization computes statistics of the batch (training mode)"
    ]


def test_a_weight_that_the_caller_may_replace_is_no_constant(check):
    before = CONV_BN.replace("x) =>", "x, float[4,3,3,3] w = {" + ",".join(["1"] * 108) + "}) =>").replace(
        "<float[4,3,3,3] w, ", "<"
    )
    assert check(FoldBatchnorm(), before, None).declined == [
        "Conv's weight may be replaced by the caller: it is a graph input with a default"
    ]


def test_statistics_that_are_fed_are_no_constants(check):
    before = CONV_BN.replace("x) =>", "x, float[4] mean) =>").replace("float[4] mean, float[4] var>", "float[4] var>")
    assert check(FoldBatchnorm(), before, None).declined == ["BatchNormalization's mean is not constant"]


def test_a_variance_that_is_not_positive_stays(check):
    before = CONV_BN.replace("float[4] var", "float[4] var = {1, -1, -2, 1}")
    assert check(FoldBatchnorm(), before, None).declined == ["variance + epsilon is not positive in 2 of 4 channels"]


def test_a_fold_that_leaves_the_range_of_float16_is_refused(check):
    text = CONV_BN.replace("float[", "float16[")
    constants = {
        "w": np.full((4, 3, 3, 3), 300, np.float16),
        "s": np.full(4, 300, np.float16),
        "t": np.zeros(4, np.float16),
        "mean": np.zeros(4, np.float16),
        "var": np.ones(4, np.float16),
    }
    assert check(FoldBatchnorm(), text, None, constants=constants).declined == [
        "the folded weight would not be finite in float16"
    ]
    constants |= {"w": np.full((4, 3, 3, 3), 1e-4, np.float16), "s": np.full(4, 1e-3, np.float16)}
    assert check(FoldBatchnorm(), text, None, constants=constants).declined == [
        "the folded weight is too small for float16"
    ]


def test_weights_that_hold_nan_stay(check):
    constants = {"w": np.full((4, 3, 3, 3), np.nan, np.float32)}
    assert check(FoldBatchnorm(), CONV_BN, None, constants=constants).declined == [
        "the folded weight would not be finite in float"
    ]


SHARED = """
g (float[1,{c},4,4] a, float[1,{c},4,4] b) => (float[1,{c},2,2] y, float[1,{c},2,2] z)
<float[{c},{c},3,3] w, float[{c}] s, float[{c}] t, float[{c}] mean, float[{c}] var>
{{
   p = Conv (a, w)
   q = Conv (b, w)
   y = BatchNormalization (p, s, t, mean, var)
   z = Relu (q)
}}
"""


def test_a_large_shared_weight_is_not_copied(check):
    outcome = check(FoldBatchnorm(), SHARED.format(c=16), None)
    assert outcome.declined == ["the weight is shared with 1 other op: a folded copy would add 9216 bytes"]


def test_a_small_shared_weight_is_copied_and_its_other_reader_keeps_its_own(check):
    expected = """
    g (float[1,4,4,4] a, float[1,4,4,4] b) => (float[1,4,2,2] y, float[1,4,2,2] z)
    <float[4,4,3,3] w, float[4,4,3,3] w_1, float[4] w_bias>
    {
       q = Conv (b, w)
       z = Relu (q)
       y = Conv (a, w_1, w_bias)
    }
    """
    check(FoldBatchnorm(), SHARED.format(c=4), expected)


def test_channels_of_a_batched_matmul_are_not_those_of_batchnorm(check):
    before = f"""
    g (float[2,4,5] x) => (float[2,4,4] y)
    <float[5,4] w, {BN}>
    {{
       c = MatMul (x, w)
       y = BatchNormalization (c, s, t, mean, var)
    }}
    """
    assert check(FoldBatchnorm(), before, None).declined == [
        "MatMul has rank 3: its channels are the last axis, BatchNormalization's the second"
    ]


def test_a_gemm_that_transposes_its_input_has_no_channels_to_fold_into(check):
    before = f"""
    g (float[5,4] x) => (float[4,3] y)
    <float[5,3] w, {BN}>
    {{
       n = BatchNormalization (x, s, t, mean, var)
       y = Gemm <transA = 1> (n, w)
    }}
    """
    assert check(FoldBatchnorm(), before, None).declined == ["Gemm transposes its input, so its channels are rows"]


def test_old_opsets_are_left_alone(check):
    old, ctx = graph(CONV_BN, opset=6), nncomp.Context()
    FoldBatchnorm().run(old, ctx)
    assert [note.reason for note in ctx.notes] == ["needs opset 7 or later, the model imports 6"]


def test_weights_captured_by_a_body_are_folded_there(check):
    before = f"""
    g (bool c, float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, {BN}>
    {{
       y = If (c) <
          then_branch = t () => (float[1,4,6,6] p) {{
             q = Conv (x, w)
             p = BatchNormalization (q, s, t, mean, var)
          }},
          else_branch = e () => (float[1,4,6,6] r) {{ r = Conv (x, w) }}
       >
    }}
    """
    expected = """
    g (bool c, float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float[4] s, float[4] t, float[4] mean, float[4] var>
    {
       y = If (c) <
          then_branch = t () => (float[1,4,6,6] p)
          <float[4,3,3,3] w_1, float[4] w_bias>
          {
             p = Conv (x, w_1, w_bias)
          },
          else_branch = e () => (float[1,4,6,6] r)
          {
             r = Conv (x, w)
          }
       >
    }
    """
    check(FoldBatchnorm(), before, expected)


def test_bfloat16_is_folded_in_double_and_stored_as_it_was():
    after = graph(CONV_BN.replace("float[", "bfloat16["))
    FoldBatchnorm().run(after, nncomp.Context())
    (conv,) = after.ops()
    assert [value.type.dtype for value in conv.inputs] == [DataType.BFLOAT16] * 3
