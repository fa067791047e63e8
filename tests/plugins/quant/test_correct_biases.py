"""Biases corrected for the rounding of weights: means from data, or from BatchNormalization alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.data import FeedSource
from nncomp.errors import DataError, RecipeError, UnsupportedError
from nncomp.infer import infer_types
from nncomp.ops import builtin_table
from nncomp.runtime import run
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.correct_biases import CorrectBiases
from nncomp_quant.expectation import Normal, expected_means
from nncomp_quant.quantize import Quantize

NET = """
g (float[8,6,12,12] x) => (float[8,7,12,12] y)
<float[5,6,1,1] w, float[5] gamma, float[5] beta, float[5] mean, float[5] var, float zero, float six, float[7,5,1,1] u>
{
   c = Conv (x, w)
   n = BatchNormalization (c, gamma, beta, mean, var)
   r = Clip (n, zero, six)
   [last] y = Conv (r, u)
}
"""
RNG = np.random.default_rng(5)
CONSTANTS = {
    "w": RNG.normal(size=(5, 6, 1, 1)).astype(np.float32),
    "gamma": np.array([0.5, 1.0, 2.0, 1.0, 3.0], np.float32),
    "beta": np.array([2.0, 3.0, 4.0, -1.0, 5.0], np.float32),
    "mean": np.zeros(5, np.float32),
    "u": RNG.normal(size=(7, 5, 1, 1)).astype(np.float32),
    "zero": np.array(0.0, np.float32),
    "six": np.array(6.0, np.float32),
}
CONSTANTS["var"] = np.square(CONSTANTS["w"]).sum(axis=(1, 2, 3))  # what normal inputs give


def made(text=NET, **constants):
    found = graph(text, constants=CONSTANTS | constants)
    found.remove_unused(found.constants())
    infer_types(found)
    return found


def feeds(count=8):
    return [{"x": np.random.default_rng(seed).normal(size=(8, 6, 12, 12)).astype(np.float32)} for seed in range(count)]


def corrected(net, *, data=True, following=(), **options):
    ctx = nncomp.Context(target=CAPABILITIES, data=FeedSource(feeds(), net) if data else None, following=following)
    CorrectBiases(**options).run(net, ctx)
    return ctx


def shift(net, reference):
    """Largest mean error of a channel once the weights of the last layer are rounded."""
    rounded = net.clone()
    last = next(op for op in rounded.ops() if op.label == "last")
    array = CONSTANTS["u"]
    scale = np.abs(array).max(axis=1, keepdims=True) / 127
    scale = np.maximum(scale, pair_scale(array))
    rounded.set_input(last, 1, rounded.add_constant("rounded", (np.rint(array / scale) * scale).astype(np.float32)))
    errors = [run(rounded, feed)["y"] - run(reference, feed)["y"] for feed in feeds(20)]
    return np.abs(np.mean(errors, axis=(0, 1, 3, 4))).max()


def pair_scale(array):
    from nncomp_quant.scales import pair_safe_scale

    return pair_safe_scale(array, 0).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("data", [True, False])
def test_the_mean_error_of_rounded_weights_is_taken_out_with_data_and_without(data):
    reference, net = made(), made()
    ctx = corrected(net, data=data)
    assert shift(net, reference) < 0.2 * shift(reference, reference)
    assert ctx.results["correct-biases"] == ({"corrected": 2, "left": 0} if data else {"corrected": 1, "left": 1})
    declined = [(note.node, note.reason) for note in ctx.notes if note.event == "declined"]
    reason = "nothing is known of the mean of what it reads"
    assert declined == ([] if data else [(net.find("c").producer.label, reason)])


def test_data_are_not_read_where_means_are_to_come_from_batchnormalization():
    one, other = made(), made()
    corrected(one, source="batchnorm")
    corrected(other, data=False)
    assert str(one) == str(other)


def test_layers_may_be_left_alone():
    net = made()
    assert corrected(net, skip=("last",)).results["correct-biases"] == {"corrected": 1, "left": 0}
    assert len(net.find("y").producer.inputs) == 2


@settings(max_examples=20)
@given(st.floats(-3, 8), st.floats(0.05, 4), st.sampled_from([(0.0, 6.0), (0.0, None), (None, 1.0), (None, None)]))
def test_clipped_means_and_variances_are_those_of_samples(mean, spread, bounds):
    x = mean + spread * np.random.default_rng(0).normal(size=200_000)
    y = np.clip(x, -np.inf if bounds[0] is None else bounds[0], np.inf if bounds[1] is None else bounds[1])
    found = Normal(np.array([mean]), np.array([spread**2])).clipped(*bounds)
    np.testing.assert_allclose(found.mean, y.mean(), atol=0.02 * spread)  # 200,000 samples: 0.0022 spread
    np.testing.assert_allclose(found.variance, y.var(), atol=0.03 * spread**2)


def test_sums_add_means_and_what_nobody_knows_stays_unknown():
    text = """
    g (float[1,6,4,4] x) => (float[1,5,4,4] y, float[1,5] z, float[1,5,4,4] q)
    <float[5,6,1,1] w, float[5] gamma, float[5] beta, float[5] mean, float[5] var>
    {
       c = Conv (x, w)
       a = BatchNormalization (c, gamma, beta, mean, var)
       b = BatchNormalization (c, gamma, mean, mean, var)
       s = Add (a, b)
       y = Relu (s)
       p = GlobalAveragePool (s)
       z = Flatten (p)
       q = Add (s, c)
    }
    """
    found = {value.name: mean for value, mean in expected_means(made(text), builtin_table()).items()}
    assert set(found) == {"a", "b", "s", "y", "p", "z"}
    np.testing.assert_allclose(found["z"], CONSTANTS["beta"])
    expected = Normal(CONSTANTS["beta"], 2 * CONSTANTS["gamma"] ** 2).clipped(0.0, None).mean
    np.testing.assert_allclose(found["y"], expected, rtol=1e-6)


def test_what_cannot_be_done_is_said():
    with pytest.raises(RecipeError) as twice:
        corrected(made(), following=(Quantize(),))
    assert str(twice.value) == (
        "correct-biases: quantize behind it corrects biases, too: each mean would be taken out twice"
    )
    assert (twice.value.code, twice.value.hint) == (
        "NNC-R012",
        "quantize{bias_samples=0}, or leave out correct-biases",
    )
    corrected(made(), following=(Quantize(bias_samples=0),))
    with pytest.raises(DataError) as missing:
        corrected(made(), data=False, source="data")
    assert str(missing.value) == "correct-biases: means of channels need calibration data"
    assert (
        missing.value.hint == 'give --data, or take means from BatchNormalization: correct-biases{source="batchnorm"}'
    )
    with pytest.raises(UnsupportedError, match=r"^correct-biases: the target has no integer kernels$"):
        CorrectBiases().run(made(), nncomp.Context())
