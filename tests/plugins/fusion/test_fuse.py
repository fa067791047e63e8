"""fuse: all rules together, on networks as exporters write them."""

import pytest

import nncomp
from nncomp.errors import RecipeError
from nncomp.testing import graph
from nncomp_fusion.fuse import RULE_NAMES, Fuse

NETWORK = """
g (float[N,3,16,16] image) => (float[N,10] logits)
<float[1,3,1,1] mean, float deviation = {0.25}, int64[8] pads = {0, 0, 0, 0, 0, 0, 1, 1},
 float[8,3,3,3] w1, float[8] s1, float[8] t1, float[8] m1, float[8] var1,
 float[8,1,3,3] w2, float[8] s2, float[8] t2, float[8] m2, float[8] var2,
 float three = {3}, float zero = {0}, float six = {6},
 float[8,10] w3, float[10] b3>
{
   a = Sub (image, mean)
   b = Div (a, deviation)
   p = Pad (b, pads)
   c = Conv <strides = [2, 2]> (p, w1)
   d = BatchNormalization (c, s1, t1, m1, var1)
   e = Relu (d)
   e6 = Min (e, six)
   f = Conv <group = 8, pads = [1, 1, 1, 1]> (e6, w2)
   h = BatchNormalization (f, s2, t2, m2, var2)
   i = Add (h, three)
   j = Clip (i, zero, six)
   k = Mul (h, j)
   l = Div (k, six)
   m = ReduceMean <axes = [2, 3], keepdims = 0> (l)
   n = MatMul (m, w3)
   logits = Add (n, b3)
}
"""


def test_a_network_as_exporters_write_it_comes_out_small(check):
    outcome = check(Fuse(), NETWORK)
    kinds = [op.kind for op in outcome.graph.ops()]
    assert kinds == ["Sub", "Conv", "Clip", "Conv", "HardSwish", "GlobalAveragePool", "Flatten", "Gemm"]
    assert outcome.declined == ["Conv pads with zeros, which the constant is not added to"]


def test_activations_are_recognized_before_their_constants_go_into_weights(check):
    before = """
    g (float[1,3,8,8] x) => (float[1,4,6,6] y)
    <float[4,3,3,3] w, float three = {3}, float zero = {0}, float six = {6}>
    {
       c = Conv (x, w)
       a = Add (c, three)
       r = Clip (a, zero, six)
       m = Mul (c, r)
       y = Div (m, six)
    }
    """
    outcome = check(Fuse(), before)
    assert [op.kind for op in outcome.graph.ops()] == ["Conv", "HardSwish"]


def test_rules_can_be_skipped(check):
    outcome = check(Fuse(skip=("matmul-and-bias-to-gemm", "mean-of-pixels-to-global-average-pool")), NETWORK)
    kinds = [op.kind for op in outcome.graph.ops()]
    assert kinds[-3:] == ["ReduceMean", "MatMul", "Add"]


def test_each_decline_is_noted_once(check):
    before = """
    g (float[N,3,5] x) => (float[N,3,4] y)
    <float[5,4] w, float[4] b, float k>
    {
       a = MatMul (x, w)
       d = Mul (a, k)
       y = Add (d, b)
    }
    """
    outcome = check(Fuse(), before)
    assert outcome.declined == ["MatMul's first operand has rank 3, Gemm takes rank 2"]


def test_an_unknown_rule_is_refused():
    with pytest.raises(RecipeError) as error:
        Fuse.from_options({"skip": ["merge-clip"]})
    assert str(error.value) == "fuse.skip: expected rules such as merge-clips, got ['merge-clip']"
    with pytest.raises(RecipeError) as error:
        Fuse.from_options({"skip": ["zzz"]})
    assert str(error.value).startswith("fuse.skip: expected rules such as merge-transposes, merge-reshapes, ")


def test_rule_names_are_what_users_write():
    assert len(set(RULE_NAMES)) == len(RULE_NAMES) >= 20
    assert all(name == name.lower() and " " not in name for name in RULE_NAMES)


def test_a_model_that_is_too_old_is_skipped_with_one_note():
    ctx = nncomp.Context()
    Fuse().run(graph("g (float[2,3] x) => (float[2,3] y) { a = Relu (x) y = Relu (a) }", opset=6), ctx)
    assert [(note.event, note.reason) for note in ctx.notes] == [
        ("skipped", "needs opset 7 or later, the model imports 6")
    ]
