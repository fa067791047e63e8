"""Infinities and NaN, 16-bit sums, and forms that index by a remainder: what ONNX Runtime gives."""

import numpy as np
import pytest

import nncomp
from nncomp.runtime import run
from nncomp.testing import graph
from nncomp_tvm.target import TvmCpuTarget

INF, NAN = np.inf, np.nan
ROWS = np.array(
    [[-INF] * 4, [INF] * 4, [1, -INF, 2, NAN], [NAN] * 4, [NAN, 1, 2, 3], [-INF, INF, 0, 1], [-INF, -INF, NAN, -INF]],
    np.float32,
)


@pytest.fixture
def ungated(monkeypatch):
    """Builds that nobody compares: it is the tests that do."""
    monkeypatch.setattr("nncomp_tvm.building.checked", lambda *rest, **named: 1)


def assert_equals(text, feeds, *, opset=18):
    model = graph(text, opset=opset)
    got = TvmCpuTarget().build(model, nncomp.Context()).run(feeds)
    for name, array in run(model, feeds).items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


@pytest.mark.parametrize("kind", ["ReduceMax", "ReduceMin"])
def test_extremes_of_infinities_and_nan(ungated, kind):
    assert_equals(
        f"""
        g (float[7,4] x) => (float[] rows, float[] columns, float[] all)
        <int64[1] one = {{1}}, int64[1] zero = {{0}}>
        {{ rows = {kind} <keepdims = 0> (x, one) columns = {kind} (x, zero) all = {kind} <keepdims = 0> (x) }}
        """,
        {"x": ROWS},
    )


def test_the_extreme_of_nothing_is_infinite(ungated):
    assert_equals(
        "g (float[2,0,3] x) => (float[] y) <int64[1] one = {1}> { y = ReduceMin (x, one) }",
        {"x": np.zeros((2, 0, 3), np.float32)},
    )


def test_places_of_extremes_are_inside_the_row(ungated):
    assert_equals(
        """
        g (float[7,4] x) => (int64[] y, int64[] z)
        { y = ArgMax <axis = 1> (x) z = ArgMin <axis = 1, keepdims = 0> (x) }
        """,
        {"x": ROWS},
    )
    lowest = np.full((2, 3), np.iinfo(np.int32).min, np.int32)
    assert_equals("g (int32[2,3] x) => (int64[] y) { y = ArgMax <axis = 1> (x) }", {"x": lowest})


def test_the_larger_of_nan_and_a_number_is_nan(ungated):
    assert_equals(
        """
        g (float[7,4] x, float[7,4] w) => (float[] a, float[] b, float[] c, float[] d) <float one = {1}>
        { a = Max (x, w) b = Min (w, x) c = Max (x, one) d = Min (one, x) }
        """,
        {"x": ROWS, "w": np.ones((7, 4), np.float32)},
    )


def test_a_logarithm_of_sums_of_infinities_is_infinite(ungated):
    assert_equals(
        "g (float[7,4] x) => (float[] y) <int64[1] one = {1}> { y = ReduceLogSumExp <keepdims = 0> (x, one) }",
        {"x": ROWS},
    )


def test_16_bit_products_are_summed_in_32_bits():
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0, 1, shape).astype(np.float16) for shape in ((3, 2000), (2000, 5)))
    model = graph("g (float16[3,2000] a, float16[2000,5] b) => (float16[] y) { y = MatMul (a, b) }", opset=18)
    got = TvmCpuTarget().build(model, nncomp.Context()).run({"a": a, "b": b})["y"]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, a.astype(np.float64) @ b.astype(np.float64), rtol=2.0**-11 * 1.01)


@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean", "Softmax", "CumSum"])
def test_16_bit_sums_along_a_row_are_taken_in_32_bits(kind):
    x = np.random.default_rng(0).uniform(0, 1, (2, 3000)).astype(np.float16)
    inputs = {"Softmax": "x", "CumSum": "x, one"}.get(kind, "x, axes")
    model = graph(
        f"""
        g (float16[2,3000] x) => (float16[] y) <int64[1] axes = {{1}}, int64 one = {{1}}> {{ y = {kind} ({inputs}) }}
        """,
        opset=18,
    )
    wide = x.astype(np.float64)
    expected = {
        "ReduceSum": lambda: wide.sum(1, keepdims=True),
        "ReduceMean": lambda: wide.mean(1, keepdims=True),
        "Softmax": lambda: np.exp(wide) / np.exp(wide).sum(1, keepdims=True),
        "CumSum": lambda: wide.cumsum(1),
    }[kind]()
    got = TvmCpuTarget().build(model, nncomp.Context()).run({"x": x})["y"]
    np.testing.assert_allclose(got, expected, rtol=2.0**-10)


@pytest.mark.parametrize(
    ("shape", "op"),
    [
        ((1, 32, 5, 7), "DepthToSpace <blocksize = 4> (x)"),
        ((1, 8, 20, 28), "SpaceToDepth <blocksize = 4> (x)"),
        ((3, 5, 7), 'Pad <mode = "wrap"> (x, pads)'),
        ((3, 5, 7), 'Pad <mode = "reflect"> (x, pads)'),
        ((3, 1, 7), "Expand (x, wide)"),
    ],
)
def test_forms_that_index_by_a_remainder_are_right_on_wide_vectors(ungated, shape, op):
    sizes = ",".join(map(str, shape))
    assert_equals(
        f"""
        g (float[{sizes}] x) => (float[] y) <int64[6] pads = {{1, 2, 6, 2, 3, 5}}, int64[4] wide = {{9, 3, 37, 7}}>
        {{ y = {op} }}
        """,
        {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)},
        opset=19,
    )


def test_codes_of_a_scale_that_is_computed_are_rounded_from_the_quotient(ungated):
    assert_equals(
        "g (float[6] x) => (uint8[] q, float[] s, uint8[] z) { q, s, z = DynamicQuantizeLinear (x) }",
        {"x": np.array([0, 2, -3, -2.5, 1.34, 0.5], np.float32)},  # -2.5 / s is below -127.5, -2.5 (1 / s) is not
    )
