"""fuse: all rules together, on networks as exporters write them, and on networks that nobody would write."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.errors import RecipeError
from nncomp.ir import TensorType
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
    assert str(error.value) == "fuse.skip: there is no such rule; did you mean 'merge-clips'?, got ['merge-clip']"
    with pytest.raises(RecipeError) as error:
        Fuse.from_options({"skip": ["zzz"]})
    assert "expected some of merge-transposes, merge-reshapes" in str(error.value)


def test_rule_names_are_what_users_write():
    assert len(set(RULE_NAMES)) == len(RULE_NAMES) >= 20
    assert all(name == name.lower() and " " not in name for name in RULE_NAMES)


@st.composite
def networks(draw):
    """Return a random network of images: what fusion looks for, in any order, tapped and shared anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    graph = nncomp.Graph("random")
    channels, size = draw(st.sampled_from([2, 4])), draw(st.integers(5, 9))
    x = graph.add_input("x", TensorType(nncomp.DataType.FLOAT, (2, channels, size, size)))
    outputs = []

    def constant(*shape, positive=False):
        data = rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.5, shape)
        return graph.add_constant("k", np.asarray(data, np.float32))

    def number(value, dtype=np.float32):
        return graph.add_constant("n", np.array(value, dtype))

    def add(kind, *inputs, **attrs):
        return graph.add_op(kind, inputs, attrs=attrs).output

    kept = None
    for _ in range(draw(st.integers(1, 9))):
        match draw(st.sampled_from("conv transpose bn scale shift pad clip relu hswish perm skip pool tap".split())):
            case "conv":
                group, out = draw(st.sampled_from([(1, 4), (1, 2), (2, 4), (channels, channels)]))
                kernel, border = draw(st.integers(1, 3)), draw(st.lists(st.integers(0, 1), min_size=4, max_size=4))
                bias = [constant(out)] if draw(st.booleans()) else []
                weight = constant(out, channels // group, kernel, kernel)
                if size + border[0] + border[2] < kernel or size + border[1] + border[3] < kernel:
                    continue
                x = add("Conv", x, weight, *bias, group=group, pads=border)
                channels, kept = out, None
                size = None
            case "transpose":
                x = add("ConvTranspose", x, constant(channels, 2, 2, 2))
                channels, size, kept = 2, None, None
            case "bn":
                x = add("BatchNormalization", x, *(constant(channels, positive=i in (0, 3)) for i in range(4)))
            case "scale":
                shape = draw(st.sampled_from([(), (channels, 1, 1), (1, channels, 1, 1)]))
                x = add(draw(st.sampled_from(["Mul", "Div"])), x, constant(*shape, positive=True))
            case "shift":
                operands = [x, constant(*draw(st.sampled_from([(), (channels, 1, 1)])))]
                if draw(st.booleans()):
                    operands.reverse()
                x = add(draw(st.sampled_from(["Add", "Sub"])), *operands)
            case "pad":
                amounts = [0, 0, *(draw(st.integers(0, 2)) for _ in "hw"), 0, 0, *(draw(st.integers(0, 2)) for _ in "hw")]
                x, size, kept = add("Pad", x, number(amounts, np.int64)), None, None
            case "clip":
                low = draw(st.sampled_from([-1.0, 0.0]))
                x = add("Clip", x, number(low), number(draw(st.sampled_from([1.0, 6.0]))))
            case "relu":
                x = add("Relu", x)
            case "hswish":
                gate = add("Clip", add("Add", x, number(3.0)), number(0.0), number(6.0))
                x = add("Div", add("Mul", x, gate), number(6.0))
            case "perm":
                x = add("Transpose", add("Transpose", x, perm=[0, 2, 3, 1]), perm=[0, 3, 1, 2])
            case "skip":
                x, kept = (add("Add", x, kept) if kept is not None else x), x
            case "pool":
                kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
                x = add(kind, x, kernel_shape=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1) if kind != "MaxPool" else (
                    add(kind, x, kernel_shape=[2, 2], pads=[1, 1, 1, 1])
                )
                size, kept = None, None
            case "tap":
                outputs.append(x)
        size = size if size is not None else 6
    if draw(st.booleans()):
        x = add("ReduceMean", x, axes=[2, 3], keepdims=draw(st.integers(0, 1)))
    outputs = [value for value in dict.fromkeys([*outputs, x]) if value.producer is not None] or [add("Identity", x)]
    graph.set_info(opsets={"": 17})
    graph.set_outputs(outputs)
    return graph


@settings(deadline=None, derandomize=True, max_examples=150)
@given(networks())
def test_no_random_network_changes_its_function(check, network):
    check(Fuse(), network)
