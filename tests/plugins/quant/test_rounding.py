"""Weights rounded for the least error of a layer's output: never worse than the nearest, often much better."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.cache import Cache
from nncomp.data import FeedSource
from nncomp.infer import infer_types
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.quantize import Quantize
from nncomp_quant.rounding import best_codes

NET = """
g (float[1,6,8,8] x) => (float[1,8,8,8] y)
<float[12,6,3,3] w, float[12] b, float[12,1,3,3] d, float[8,12,1,1] u>
{
   a = Conv <pads = [1,1,1,1]> (x, w, b)
   r = Relu (a)
   c = Conv <pads = [1,1,1,1], group = 12> (r, d)
   y = Conv (c, u)
}
"""


def problem(seed, *, groups=2, outputs=5, columns=7):
    """A layer whose inputs are alike, as those of neighbouring pixels are."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(groups, outputs, columns))
    x = rng.normal(size=(groups, 40, columns)) + 3 * rng.normal(size=(groups, 40, 1))
    step = np.abs(matrix).max(axis=2, keepdims=True) / 7
    return matrix, step, x.swapaxes(1, 2) @ x / 40


def error(codes, matrix, step, moments):
    left = codes * step - matrix
    return np.einsum("gok,gkl,gol->go", left, moments, left)


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 6), st.integers(1, 9))
def test_codes_are_neighbours_of_the_weight_and_leave_no_more_error_than_the_nearest(seed, groups, outputs, columns):
    matrix, step, moments = problem(seed, groups=groups, outputs=outputs, columns=columns)
    codes = best_codes(matrix, step, moments, top=7)
    assert np.all(np.abs(codes - matrix / step) < 1 + 1e-9)
    assert np.all(codes == np.rint(codes))
    assert np.abs(codes).max() <= 7
    nearest = np.clip(np.rint(matrix / step), -7, 7)
    damped = moments + 0.01 * np.einsum("gkk->g", moments)[:, None, None] / columns * np.eye(columns)
    assert np.all(error(codes, matrix, step, damped) <= error(nearest, matrix, step, damped) * (1 + 1e-9) + 1e-12)


def test_inputs_that_are_alike_make_up_for_each_other():
    matrix, step, moments = problem(0, outputs=20, columns=12)
    nearest = np.rint(matrix / step)
    better = error(best_codes(matrix, step, moments, top=7), matrix, step, moments).sum()
    assert better < 0.3 * error(nearest, matrix, step, moments).sum()


def test_inputs_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest():
    matrix, step, _ = problem(1)
    np.testing.assert_array_equal(
        best_codes(matrix, step, np.broadcast_to(np.eye(7), (2, 7, 7)), top=7), np.rint(matrix / step)
    )


def written(made, weight):
    """Return codes and scales of the weight of this name."""
    conv = next(op for op in made.graph.ops() if op.kind == "Conv" and op.inputs[1].name.startswith(f"{weight}_"))
    codes, scale, _ = conv.inputs[1].producer.inputs
    return made.graph.array(codes).astype(int), made.graph.array(scale)


def test_a_model_is_rounded_on_the_scales_that_it_had(quantize):
    nearest = quantize(NET, samples=8, output_samples=0)
    rounded = quantize(NET, samples=8, output_samples=0, round_samples=8)
    moved = 0
    for weight in "wdu":
        (codes, scale), (others, same) = written(nearest, weight), written(rounded, weight)
        np.testing.assert_array_equal(scale, same)
        assert np.abs(others - codes).max() <= 1
        moved += np.count_nonzero(others - codes)
    assert moved > 20


def test_in_portions_and_from_the_cache_codes_are_the_same(quantize, tmp_path, monkeypatch):
    expected = written(quantize(NET, samples=4, output_samples=0, round_samples=4), "w")[0]
    monkeypatch.setattr("nncomp_quant.rounding._ROOM", 1)

    def cached():
        net = graph(NET)
        infer_types(net)
        data = FeedSource([random_feeds(net, seed=seed) for seed in range(4)], net)
        ctx = nncomp.Context(target=CAPABILITIES, data=data, cache=Cache(tmp_path))
        nncomp.Pipeline([Quantize(output_samples=0, round_samples=4)]).run(net, ctx)
        return SimpleNamespace(graph=net)

    np.testing.assert_array_equal(written(cached(), "w")[0], expected)
    monkeypatch.setattr("nncomp.runtime.Session.run", None)
    np.testing.assert_array_equal(written(cached(), "w")[0], expected)


def test_what_rounding_shifts_goes_into_the_bias(quantize):
    x = [{"x": (3 + np.random.default_rng(seed).random((1, 6, 8, 8))).astype(np.float32)} for seed in range(8)]

    def shift(**options):
        made = quantize(NET, data=x, bias_samples=0, output_samples=0, **options)
        return np.mean([run(made.graph, feed)["y"] - run(made.before, feed)["y"] for feed in x], axis=(0, 1, 3, 4))

    assert np.abs(shift(round_samples=8)).max() < 0.5 * np.abs(shift()).max()
