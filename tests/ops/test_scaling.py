"""What the table says of factors per channel, proved op by op on ONNX Runtime, for every row that says something."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.ops import Scaling, builtin_table
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph

X = "float[2,3,6,6] x"
PLAIN = {
    "Relu": "y = Relu (x)",
    "Abs": "y = Abs (x)",
    "Neg": "y = Neg (x)",
    "Identity": "y = Identity (x)",
    "LeakyRelu": "y = LeakyRelu <alpha = 0.3> (x)",
    "PRelu": "y = PRelu (x, slope)",
    "MaxPool": "y = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)",
    "AveragePool": "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)",
    "LpPool": "y = LpPool <kernel_shape = [2, 2]> (x)",
    "GlobalMaxPool": "y = GlobalMaxPool (x)",
    "GlobalAveragePool": "y = GlobalAveragePool (x)",
    "GlobalLpPool": "y = GlobalLpPool (x)",
}
SUMS = ("Add", "Sub", "Sum", "Mean", "Min", "Max")
LINEAR = {
    "Conv": ("float[2,3,6,6] x, float[4,3,3,3] w, float[4] b", "y = Conv (x, w, b)", "float[2,4,4,4]"),
    "Gemm": ("float[2,3] x, float[4,3] w, float[4] b", "y = Gemm <transB = 1> (x, w, b)", "float[2,4]"),
}
GAINS = {
    "LayerNormalization": "float[2,5,3] x, float[3] g, float[3] b",
    "RMSNormalization": "float[2,5,3] x, float[3] g",
    "SimplifiedLayerNormalization": "float[2,5,3] x, float[3] g",
}

factors = st.lists(st.floats(0.05, 20), min_size=3, max_size=3).map(lambda found: np.array(found, np.float32))
few = settings(max_examples=12, deadline=None)


def along(array, factor, axis=1):
    shape = [1] * array.ndim
    shape[axis] = -1
    return np.asarray(array * factor.reshape(shape), np.float32)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))


def output(text, feeds):
    return run(text, feeds)["y"]


def test_every_row_that_speaks_of_factors_is_proved_here():
    told = {row.kind: row.scaling for row in builtin_table() if row.scaling is not None}
    proved = dict.fromkeys(PLAIN, Scaling.CHANNELWISE) | dict.fromkeys(SUMS, Scaling.SUM)
    proved |= dict.fromkeys(LINEAR, Scaling.LINEAR) | dict.fromkeys(GAINS, Scaling.GAIN) | {"Clip": Scaling.CLIP}
    assert told == proved


@pytest.mark.parametrize("kind", PLAIN)
@few
@given(factor=factors)
def test_a_factor_passes_through(kind, factor):
    net = graph(f"g ({X}, float[3,1,1] slope) => (float[2,3,H,W] y) {{ {PLAIN[kind]} }}", opset=18)
    feeds = random_feeds(net, seed=1)
    close(output(net, feeds | {"x": along(feeds["x"], factor)}), along(output(net, feeds), factor))


@pytest.mark.parametrize("kind", SUMS)
@few
@given(factor=factors)
def test_a_factor_that_all_inputs_have_passes_through(kind, factor):
    net = graph(f"g ({X}, float[2,3,6,6] z) => (float[2,3,6,6] y) {{ y = {kind} (x, z) }}", opset=18)
    feeds = random_feeds(net, seed=1)
    scaled = {name: along(array, factor) for name, array in feeds.items()}
    close(output(net, scaled), along(output(net, feeds), factor))


@few
@given(factor=factors)
def test_a_factor_passes_through_a_clip_whose_bounds_go_along(factor):
    net = graph(f"g ({X}, float low, float high) => (float[2,3,6,6] y) {{ y = Clip (x, low, high) }}", opset=18)
    feeds = random_feeds(net, seed=1)
    for channel, one in enumerate(factor):
        bounds = {"low": np.zeros((), np.float32), "high": np.array(0.7, np.float32)}
        expected = along(output(net, feeds | bounds), factor)[:, channel]
        bounds["high"] = np.array(0.7 * one, np.float32)
        close(output(net, bounds | {"x": along(feeds["x"], factor)})[:, channel], expected)


@pytest.mark.parametrize("kind", LINEAR)
@few
@given(factor=factors)
def test_weights_take_the_factors_of_both_sides(kind, factor):
    inputs, body, result = LINEAR[kind]
    net = graph(f"g ({inputs}) => ({result} y) {{ {body} }}", opset=18)
    feeds = random_feeds(net, seed=1)
    divided = {"x": along(feeds["x"], factor), "w": along(feeds["w"], 1 / factor)}
    close(output(net, feeds | divided), output(net, feeds))
    four = np.append(factor, np.float32(2))
    grown = {"w": along(feeds["w"], four, 0), "b": feeds["b"] * four}
    close(output(net, feeds | grown), along(output(net, feeds), four))


@pytest.mark.parametrize("kind", GAINS)
@few
@given(factor=factors)
def test_gains_take_a_factor_on_the_last_axis(kind, factor):
    inputs = GAINS[kind]
    names = "x, g, b" if inputs.endswith(" b") else "x, g"
    net = graph(f"g ({inputs}) => (float[2,5,3] y) {{ y = {kind} ({names}) }}", opset=23)
    feeds = random_feeds(net, seed=1)
    scaled = {name: array if name == "x" else array * factor for name, array in feeds.items()}
    close(output(net, scaled), along(output(net, feeds), factor, -1))
