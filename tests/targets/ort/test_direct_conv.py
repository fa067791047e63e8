"""Convolutions with channels that are no multiple of four get zeros beside them: the same integers, a faster kernel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_ort.direct_conv import pad_input_channels

STEM = """
g (float[N,{inputs},9,9] x) => (float[] y)
<float s = {{0.05}}, uint8 z = {{128}}, int8[{outputs},{width},{kernel},{kernel}] w, float[{outputs}] t,
 int8[{outputs}] zw = {{{zeros}}}>
{{
   x_q = QuantizeLinear (x, s, z)
   x_d = DequantizeLinear (x_q, s, z)
   w_d = DequantizeLinear <axis = 0> (w, t, zw)
   c = Conv <group = {group}, pads = [{pads}]> (x_d, w_d)
   y_q = QuantizeLinear (c, s, z)
   y = DequantizeLinear (y_q, s, z)
}}
"""


def stem(inputs=3, outputs=16, kernel=3, group=1, zero=0, seed=0):
    random = np.random.default_rng(seed)
    width = inputs // group
    text = STEM.format(
        inputs=inputs,
        outputs=outputs,
        width=width,
        kernel=kernel,
        group=group,
        zeros=", ".join([str(zero)] * outputs),
        pads=", ".join([str(kernel // 2)] * 4),
    )
    weights = random.integers(-127, 128, (outputs, width, kernel, kernel)).astype(np.int8)
    scales = random.uniform(0.002, 0.02, outputs).astype(np.float32)
    return graph(text, opset=17, constants={"w": weights, "t": scales})


def test_three_channels_become_four():
    found = stem()
    assert pad_input_channels(found) == 1
    weight = found.array(found.find("w_padded"))
    assert weight.shape == (16, 4, 3, 3)
    assert not weight[:, 3].any()
    kinds = [op.kind for op in found.ops()]
    assert kinds.count("Pad") == 1
    assert kinds.count("DequantizeLinear") == 3
    assert pad_input_channels(found) == 0


@given(
    inputs=st.integers(1, 9),
    outputs=st.sampled_from([16, 20, 32]),
    kernel=st.sampled_from([2, 3, 5]),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_the_integers_are_the_same(inputs, outputs, kernel, seed):
    before = stem(inputs, outputs, kernel, seed=seed)
    after = before.clone()
    assert pad_input_channels(after) == (inputs % 4 != 0)
    feeds = random_feeds(before, seed=seed, dims={"N": 2})
    np.testing.assert_array_equal(run(before, feeds, optimize=True)["y"], run(after, feeds, optimize=True)["y"])


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": 4},
        {"outputs": 12},
        {"outputs": 18},
        {"kernel": 1},
        {"inputs": 6, "outputs": 18, "group": 2},
        {"zero": 1},
    ],
    ids=["four channels", "few outputs", "outputs not in fours", "one pixel", "groups", "weights with a zero point"],
)
def test_what_would_not_gain_stays(options):
    found = stem(**options)
    version = found.version
    assert pad_input_channels(found) == 0
    assert found.version == version


def test_two_readers_share_one_pad():
    found = stem()
    conv = next(op for op in found.ops() if op.kind == "Conv")
    second = found.add_op("Conv", conv.inputs, attrs=conv.attrs)
    found.set_outputs([*found.outputs, second.output])
    assert pad_input_channels(found) == 2
    assert [op.kind for op in found.ops()].count("Pad") == 1


def test_a_graph_of_an_opset_without_integer_pads_is_left_alone():
    found = stem()
    found.set_info(opsets={"": 12})
    assert pad_input_channels(found) == 0
