"""Quantization without data: matrix products with activations quantized at run time, and embedding tables."""

import numpy as np
import pytest

from nncomp.onnx_io import to_bytes
from nncomp.runtime import run
from nncomp.testing import assert_text
from nncomp_ort.executed import executed_graph
from nncomp_quant.scales import quantize_weight


def kernels(made):
    return {node.op_type: node for node in executed_graph(to_bytes(made.graph)).graph.node}


def product(body, *, weights="float[16,8] w, float[16,8] w2, float[8] b", outputs="float[2,5,8] y"):
    return f"g (float[2,5,16] x) => ({outputs}) <{weights}> {{ {body} }}"


# ------------------------------------------------------------------ products


def test_a_product_becomes_integers_and_two_scales(quantize):
    made = quantize(
        "g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {127, 0, 0, -254}> { y = MatMul (x, w) }", data=None
    )
    assert_text(
        made.graph,
        """
        g (float[1,2] x) => (float[1,2] y)
        <int8[2,2] w_quantized = {127, 0, 0, -127}, float[2] w_scale = {1, 2}>
        {
           [x_DynamicQuantizeLinear] x_quantized, x_scale, x_zero_point = DynamicQuantizeLinear (x)
           ["MatMul(y)_integer"] y_sums = MatMulInteger (x_quantized, w_quantized, x_zero_point)
           y_cast = Cast <to = 1> (y_sums)
           y_unit = Mul (x_scale, w_scale)
           ["MatMul(y)_scaled"] y = Mul (y_cast, y_unit)
        }
        """,
    )


def test_a_product_needs_no_data(quantize):
    made = quantize(product("y = MatMul (x, w)"), data=None)
    assert set(kernels(made)) == {"DynamicQuantizeMatMul"}
    assert made.warnings == []
    assert made.sqnr() > 35


@pytest.mark.parametrize("body", ["m = MatMul (x, w) y = Add (m, b)", "m = MatMul (x, w) y = Add (b, m)"])
def test_a_bias_goes_into_the_kernel(quantize, body):
    made = quantize(product(body), data=None)
    assert set(kernels(made)) == {"DynamicQuantizeMatMul"}
    assert kernels(made)["DynamicQuantizeMatMul"].input[4] == "b"
    assert made.sqnr() > 35


@pytest.mark.parametrize(
    ("body", "bias"),
    [
        ("y = MatMul (x, w) z = MatMul (x, w2)", ""),
        ("m = MatMul (x, w) n = MatMul (x, w2) y = Add (m, b) z = Add (b, n)", "b"),
    ],
    ids=["without bias", "with bias"],
)
def test_products_of_one_activation_quantize_it_once(quantize, body, bias):
    made = quantize(product(body, outputs="float[2,5,8] y, float[2,5,8] z"), data=None)
    assert set(kernels(made)) == {"DynamicQuantizeLinear", "MatMulIntegerToFloat"}
    assert [op.kind for op in made.graph.ops()].count("DynamicQuantizeLinear") == 1
    assert kernels(made)["MatMulIntegerToFloat"].input[6:] == ([bias] if bias else [])
    assert made.sqnr() > 35


def test_a_shared_weight_is_written_once(quantize):
    made = quantize(
        "g (float[2,8] x) => (float[] y) <float[8,8] w> { m = MatMul (x, w) t = Tanh (m) y = MatMul (t, w) }", data=None
    )
    assert [value.name for value in made.graph.constants()] == ["w_quantized", "w_scale"]


def test_a_weight_that_a_float_op_reads_too_stays(quantize):
    made = quantize("g (float[8,8] x) => (float[] y) <float[8,8] w> { m = MatMul (x, w) y = Add (m, w) }", data=None)
    assert made.graph.has_name("w")
    assert made.sqnr() > 35


def test_each_column_has_its_own_scale(quantize):
    weight = np.random.default_rng(0).normal(0, 1, (16, 8)).astype(np.float32) * np.logspace(-3, 1, 8, dtype=np.float32)
    made = quantize(product("y = MatMul (x, w)"), data=None, constants={"w": weight}, pair_safe=False)
    codes, scale = quantize_weight(weight, 1)
    assert np.array_equal(made.constant("w_quantized"), codes)
    assert np.array_equal(made.constant("w_scale"), scale)


def test_the_name_of_an_output_in_the_middle_stays(quantize):
    made = quantize(product("m = MatMul (x, w) y = Softmax (m)", outputs="float[2,5,8] y, float[2,5,8] m"), data=None)
    assert [value.name for value in made.graph.outputs] == ["y", "m"]
    assert made.graph.find("m").type == made.before.find("m").type


def error_on_bright_inputs(quantize, **options):
    """Return the relative error where all weights have one sign: sums of pairs are as large as can be."""
    rng = np.random.default_rng(0)
    weight = np.asarray(0.5 + np.abs(rng.normal(0, 1, (64, 8))), np.float32)
    text = "g (float[2,64] x) => (float[] y) <float[64,8] w> { y = MatMul (x, w) }"
    made = quantize(text, data=None, constants={"w": weight}, **options)
    bright = {"x": (1 - 0.1 * rng.random((2, 64))).astype(np.float32)}
    expected, got = run(made.before, bright)["y"], run(made.graph, bright, optimize=True)["y"]
    return float(np.abs(expected - got).max() / expected.max())


def test_sums_do_not_saturate_whatever_the_cpu(quantize):
    assert error_on_bright_inputs(quantize) < 0.005


def test_without_pair_safety_sums_saturate_on_cpus_that_add_pairs_in_16_bits(quantize, pairs_saturate):
    assert error_on_bright_inputs(quantize, pair_safe=False) > 0.02


def test_products_and_convolutions_live_in_one_graph(quantize):
    made = quantize("""
    g (float[1,3,8,8] x) => (float[] y) <float[4,3,1,1] w, float[8,16] w2>
    { c = Conv (x, w) r = Relu (c) y = MatMul (r, w2) }
    """)
    assert {"QLinearConv", "DynamicQuantizeMatMul"} <= set(kernels(made))
    assert made.sqnr() > 30


def test_a_product_whose_weight_has_no_elements_stays_float(quantize):
    made = quantize(
        "g (float[2,0] x, float[2,8] z) => (float[2,4] y, float[2,8] u) <float[0,4] w, float[8,8] w2>"
        "{ y = MatMul (x, w) u = MatMul (z, w2) }",
        data=None,
    )
    assert made.ctx.results["quantize"]["left_float"] == {"MatMul(y)": "its weight has no elements"}
    assert not run(made.graph, made.feeds[0], optimize=True)["y"].any()


# ------------------------------------------------------------------ embedding tables


def test_a_table_is_stored_as_integers_with_one_scale_a_row(quantize):
    rng = np.random.default_rng(0)
    table = (rng.normal(0, 1, (512, 64)) * np.logspace(-2, 2, 512)[:, None]).astype(np.float32)
    made = quantize(
        "g (int64[2,5] i) => (float[2,5,64] y) <float[512,64] t> { y = Gather (t, i) }",
        data=None,
        constants={"t": table},
    )
    assert made.constant("t_quantized").dtype == np.int8
    assert made.constant("t_scale").shape == (512, 1)
    assert not made.graph.has_name("t")
    every = {"i": np.arange(510).reshape(102, 5)}
    expected, got = table[every["i"]], run(made.graph, {"i": every["i"][:2]}, optimize=True)["y"]
    steps = np.abs(table).max(axis=1)[every["i"][:2]] / 127
    assert (np.abs(expected[:2] - got).max(axis=-1) <= steps / 2 * (1 + 1e-5)).all()


def test_a_row_of_zeros_stays_zero(quantize):
    table = np.ones((512, 64), np.float32)
    table[3] = 0
    made = quantize(
        "g (int64[2] i) => (float[2,64] y) <float[512,64] t> { y = Gather (t, i) }", data=None, constants={"t": table}
    )
    got = run(made.graph, {"i": np.array([3, 4])}, optimize=True)["y"]
    assert not got[0].any()
    assert got[1] == pytest.approx(1)


def test_indices_from_behind_work_as_before(quantize):
    text = "g (int64[2] i) => (float[2,64] y) <float[512,64] t> { y = Gather (t, i) }"
    made = quantize(text, data=None)
    last = {"i": np.array([-1, -512])}
    assert np.array_equal(run(made.graph, last)["y"], run(made.graph, {"i": np.array([511, 0])})["y"])


def test_two_gathers_share_one_table(quantize):
    made = quantize(
        "g (int64[2] i, int64[3] j) => (float[2,64] y, float[3,64] z) <float[512,64] t>"
        "{ y = Gather (t, i) z = Gather (t, j) }",
        data=None,
    )
    assert [value.name for value in made.graph.constants()] == ["t_quantized", "t_scale"]


def test_a_table_that_is_also_a_weight_stays_for_the_other_reader(quantize):
    made = quantize(
        "g (int64[2] i) => (float[2,512] y) <float[512,64] t>"
        "{ e = Gather (t, i) u = Transpose <perm = [1, 0]> (t) y = MatMul (e, u) }",
        data=None,
    )
    assert made.graph.has_name("t")
    assert made.sqnr() > 30


def test_tables_stay_float_on_request(quantize):
    made = quantize(
        "g (int64[2] i, float[2,8] x) => (float[2,64] y, float[] z) <float[512,64] t, float[8,8] w>"
        "{ y = Gather (t, i) z = MatMul (x, w) }",
        data=None,
        embeddings=False,
    )
    assert made.graph.has_name("t")
    assert made.ctx.results["quantize"]["tables"] == []
