"""Ranges by what the output loses: values far out that the network does not need give way to all the others."""

import numpy as np
import pytest

import nncomp
from nncomp.cache import Cache
from nncomp.data import FeedSource
from nncomp.infer import infer_types
from nncomp.runtime import Session
from nncomp.statistics import Histogram, Range
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.output_ranges import TAIL
from nncomp_quant.quantize import Quantize
from nncomp_quant.scales import activation_params, tail

RNG = np.random.default_rng(3)
CONSTANTS = {
    "w": RNG.normal(size=(8, 4, 1, 1)).astype(np.float32),
    "u": RNG.normal(size=(8, 8, 1, 1)).astype(np.float32),
    "v": RNG.normal(size=(8, 8, 1, 1)).astype(np.float32),
    "top": np.array(1.0, np.float32),
    "zero": np.array(0.0, np.float32),
}
NET = """
g (float[1,4,12,12] x) => (float[1,8,12,12] y)
<float[8,4,1,1] w, float[8,8,1,1] u, float[8,8,1,1] v, float zero, float top>
{
   a = Conv (x, w)
   b = Conv (a, u)
   s = Add (a, b)
   c = Conv (s, v)
   y = Clip (c, zero, top)
}
"""


def feeds(*, far, count=24):
    """Samples of which one in six has a position whose values are ``far`` times the usual ones."""
    found = []
    for seed in range(count):
        x = np.random.default_rng(seed).normal(size=(1, 4, 12, 12)).astype(np.float32) * np.float32(0.1)
        if seed % 6 == 5:
            x[:, :, 4, 7] *= far
        found.append({"x": x})
    return found


def narrowed(quantized):
    return quantized.ctx.results["quantize"]["tightened"]


def test_a_range_that_a_few_values_stretch_is_narrowed_where_the_output_gains(quantize):
    data = feeds(far=200.0)
    plain = quantize(NET, constants=CONSTANTS, data=data, output_samples=0)
    searched = quantize(NET, constants=CONSTANTS, data=data, output_samples=12)
    assert narrowed(plain) == {}
    assert {"a", "b", "s"} <= set(narrowed(searched))
    assert searched.sqnr() > plain.sqnr() + 3
    factor = narrowed(searched)["s"]
    assert searched.constant("s_scale") == pytest.approx(plain.constant("s_scale") * factor, rel=0.01)
    assert searched.constant("s_zero_point") == plain.constant("s_zero_point")


def test_what_a_sum_ties_together_is_narrowed_together(quantize):
    found = narrowed(quantize(NET, constants=CONSTANTS, data=feeds(far=200.0), output_samples=12))
    assert found["a"] == found["b"] == found["s"] < 1


def test_ranges_without_a_tail_are_left_alone(quantize, monkeypatch):
    monkeypatch.setattr("nncomp_quant.output_ranges._Trial", None)  # nothing is even tried
    assert narrowed(quantize(NET, constants=CONSTANTS, data=feeds(far=1.0))) == {}


def test_a_range_that_the_output_needs_is_left_alone(quantize):
    text = NET.replace("y = Clip (c, zero, top)", "y = Relu (c)")
    data = [{"x": one["x"] * np.float32(1 + 20 * (seed % 3 == 0))} for seed, one in enumerate(feeds(far=30.0))]
    searched = quantize(text, constants=CONSTANTS, data=data, output_samples=24)
    plain = quantize(text, constants=CONSTANTS, data=data, output_samples=0)
    assert searched.sqnr() > plain.sqnr() - 1


def test_threads_and_a_second_run_give_the_same_and_the_second_makes_no_inference(quantize, tmp_path, monkeypatch):
    data = feeds(far=200.0)
    one = quantize(NET, constants=CONSTANTS, data=data)
    assert narrowed(quantize(NET, constants=CONSTANTS, data=data, threads=3)) == narrowed(one) != {}

    def again():
        model = graph(NET, constants=CONSTANTS)
        infer_types(model)
        ctx = nncomp.Context(target=CAPABILITIES, data=FeedSource(data, model), cache=Cache(tmp_path))
        nncomp.Pipeline([Quantize()]).run(model, ctx)
        return ctx.results["quantize"]["tightened"]

    assert again() == narrowed(one)
    monkeypatch.setattr(Session, "run", None)
    assert again() == narrowed(one)


def test_a_tail_is_how_far_a_range_goes_beyond_nearly_all_values():
    seen = Histogram()
    seen.update(np.array([0.0] * 100 + [1.0] * 99 + [-8.0], np.float32))
    assert tail(seen, activation_params(-8.0, 1.0)) == pytest.approx(8.0, rel=0.01)
    seen.update(np.full(10, -8.0, np.float32))
    assert tail(seen, activation_params(-8.0, 1.0)) == pytest.approx(1.0, rel=0.01)
    assert tail(Range(), activation_params(-8.0, 1.0)) == 0.0
    assert tail(Histogram(), activation_params(0.0, 0.0)) == 0.0


@pytest.mark.parametrize("shape", ["normal", "laplace"])
def test_ranges_of_least_squared_error_of_usual_distributions_have_no_tail(shape):
    from nncomp_quant.scales import Method, chosen_range

    seen = Histogram(per_sample=1 << 16)
    seen.update(getattr(np.random.default_rng(0), shape)(size=1 << 16).astype(np.float32))
    assert 1.2 < tail(seen, activation_params(*chosen_range(seen, Method.MSE))) < TAIL - 1
