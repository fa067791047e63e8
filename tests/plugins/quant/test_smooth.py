"""The pass ``smooth``: outlier channels go from activations into weights, and the function stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.data import FeedSource
from nncomp.gate import Gate, compare
from nncomp.infer import infer_types
from nncomp.runtime import run
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.quantize import Quantize
from nncomp_quant.smooth import ChannelRanges, Smooth

WIDTH = 32
NORMALIZED = """
g (float[N,5,32] x) => (float[N,5,16] y)
<float[32] gain, float[32] bias, float[32,16] w>
{ n = LayerNormalization (x, gain, bias) y = MatMul (n, w) }
"""
RESIDUAL = """
g (float[N,5,32] x) => (float[N,5,32] y)
<float[32] gain, float[32] bias, float[32,32] w, float[32,32] v>
{ n = LayerNormalization (x, gain, bias) a = MatMul (n, w) b = MatMul (n, v) c = Mul (a, b) y = Add (n, c) }
"""
PLAIN = "g (float[N,5,32] x) => (float[N,5,16] y) <float[32,16] w> { t = Tanh (x) y = MatMul (t, w) }"


def outliers(text, *, size=30.0, channels=(3, 17), samples=4, seed=0):
    """Return a graph whose products read a few channels ``size`` times as large as the rest, and data."""
    random = np.random.default_rng(seed)
    gain = random.uniform(0.5, 1.0, WIDTH).astype(np.float32)
    gain[list(channels)] *= size
    constants = {"gain": gain, "bias": random.normal(size=WIDTH).astype(np.float32) * 0.1}
    for name, columns in (("w", 16 if "float[32,16] w" in text else WIDTH), ("v", WIDTH)):
        constants[name] = (random.normal(size=(WIDTH, columns)) / 6).astype(np.float32)
        constants[name][list(channels)] /= size  # what is read of them is as large as of the others
    found = graph(text, opset=17, constants={name: data for name, data in constants.items() if f"] {name}" in text})
    infer_types(found)
    feeds = [{"x": random.normal(size=(2, 5, WIDTH)).astype(np.float32)} for _ in range(samples)]
    return found, feeds


def smoothed(found, feeds, *, then=(), target=CAPABILITIES, **options):
    ctx = nncomp.Context(target=target, data=FeedSource(feeds, found) if feeds else None)
    nncomp.Pipeline([Smooth(**options), *then], gate=Gate()).run(found, ctx)
    return [(note.event, note.reason) for note in ctx.notes if note.subject == "smooth"]


def kinds(found):
    return [op.kind for op in found.ops()]


def sqnr(before, after, feeds):
    return compare([run(before, feed) for feed in feeds], [run(after, feed) for feed in feeds]).sqnr_db


def test_a_normalization_takes_the_factors():
    found, feeds = outliers(NORMALIZED)
    before = found.clone()
    (note,) = smoothed(found, feeds)
    assert note[0] == "fired"
    assert kinds(found) == ["LayerNormalization", "MatMul"]
    assert sqnr(before, found, feeds) > 110
    factors = before.array(before.find("gain")) / found.array(found.find("gain_smooth"))
    np.testing.assert_allclose(
        before.array(before.find("bias")) / found.array(found.find("bias_smooth")), factors, rtol=1e-6
    )
    np.testing.assert_allclose(
        found.array(found.find("w_smooth")), before.array(before.find("w")) * factors[:, None], rtol=1e-6
    )
    assert factors[3] > 5 * np.median(factors)


def test_where_others_read_the_normalization_a_vector_is_multiplied_once_for_all_products():
    found, feeds = outliers(RESIDUAL)
    before = found.clone()
    smoothed(found, feeds)
    assert sorted(kinds(found)) == ["Add", "LayerNormalization", "MatMul", "MatMul", "Mul", "Mul"]
    assert [op.inputs[0].name for op in found.ops() if op.kind == "MatMul"] == ["n_smooth", "n_smooth"]
    assert sqnr(before, found, feeds) > 110


def test_quantization_gains_what_was_promised():
    plain, feeds = outliers(RESIDUAL)
    before = plain.clone()
    smooth = plain.clone()
    ctx = nncomp.Context(target=CAPABILITIES)
    nncomp.Pipeline([Quantize()]).run(plain, ctx)
    smoothed(smooth, feeds, then=[Quantize()])
    assert sqnr(before, smooth, feeds) > sqnr(before, plain, feeds) + 6


def test_even_channels_get_no_multiplication():
    found, feeds = outliers(RESIDUAL, size=1.0)
    (note,) = smoothed(found, feeds)
    assert note[0] == "declined"
    assert note[1].startswith("not worth a multiplication: ")
    assert kinds(found).count("Mul") == 1
    assert found.has_name("w")


def test_multiplications_can_be_ruled_out_or_asked_for_everywhere():
    found, feeds = outliers(RESIDUAL)
    assert [event for event, _ in smoothed(found, feeds, multiply=False)] == ["declined"]
    found, feeds = outliers(PLAIN)
    assert [event for event, _ in smoothed(found, feeds, enough_db=float("inf"), gain_db=0.0)] == ["fired"]


@pytest.mark.parametrize(
    ("data", "target", "text", "reason"),
    [
        (False, CAPABILITIES, NORMALIZED, "no calibration data"),
        (True, None, NORMALIZED, "the target has no integer kernels"),
        (
            True,
            CAPABILITIES,
            "g (float[N,5,32] x) => (float[N,5,32] y) { y = Tanh (x) }",
            "no products with activations that are quantized at run time",
        ),
    ],
    ids=["no data", "no target", "no products"],
)
def test_what_cannot_be_done_is_said(data, target, text, reason):
    found, feeds = outliers(text)
    assert smoothed(found, feeds if data else None, target=target) == [("skipped", reason)]


def test_a_weight_that_two_products_share_stays():
    found, feeds = outliers(
        "g (float[N,5,32] x) => (float[N,5,32] y) <float[32,32] w> { t = Tanh (x) a = MatMul (t, w) y = MatMul (a, w) }"
    )
    assert smoothed(found, feeds) == [("skipped", "no products with activations that are quantized at run time")]


def test_samples_with_nan_count_for_nothing():
    ranges = ChannelRanges()
    ranges.update(np.full((2, 3), np.nan, np.float32))
    assert ranges.rows == []


@given(seed=st.integers(0, 50), size=st.floats(0.01, 100.0), text=st.sampled_from([NORMALIZED, RESIDUAL, PLAIN]))
@settings(max_examples=20, deadline=None)
def test_the_function_stays(seed, size, text):
    found, feeds = outliers(text, size=size, seed=seed)
    before = found.clone()
    smoothed(found, feeds, enough_db=float("inf"), gain_db=0.0)
    assert sqnr(before, found, feeds) > 100


def test_the_order_of_samples_does_not_matter():
    results = []
    for step in (1, -1):
        found, feeds = outliers(RESIDUAL, samples=5)
        smoothed(found, feeds[::step])
        results.append(found.array(found.find("w_smooth")).tobytes())
    assert results[0] == results[1]
