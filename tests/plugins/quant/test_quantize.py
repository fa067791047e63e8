"""The pass end to end: what it writes, how near results stay, and that integers compute what the pairs say."""

import dataclasses

import numpy as np
import pytest

import nncomp
from nncomp.data import FeedSource
from nncomp.errors import RecipeError
from nncomp.gate import Gate
from nncomp.onnx_io import to_bytes
from nncomp.runtime import random_feeds, run
from nncomp.targets import Capabilities, Int8Support
from nncomp.testing import assert_text, graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import executed_graph
from nncomp_quant.quantize import Quantize

# ------------------------------------------------------------------ what is written

BEFORE = """
g (float[1,1,2,2] x) => (float[1,2,2,2] y) <float[2,1,1,1] w = {127, -254}, float[2] b = {0, -4}>
{
   c = Conv (x, w, b)
   y = Relu (c)
}
"""
AFTER = """
g (float[1,1,2,2] x) => (float[1,2,2,2] y)
<
   int8[2,1,1,1] w_quantized = {127, -127}, float[2] w_scale = {1, 2}, int8[2] w_zero_point = {0, 0},
   int32[2] b_quantized = {0, -2}, float[2] b_scale = {1, 2}, int32[2] b_zero_point = {0, 0},
   float x_scale = {1}, uint8 x_zero_point = {0},
   float y_scale = {127}, uint8 y_zero_point = {0}
>
{
   [w_DequantizeLinear] w_dequantized = DequantizeLinear <axis = 0> (w_quantized, w_scale, w_zero_point)
   [b_DequantizeLinear] b_dequantized = DequantizeLinear <axis = 0> (b_quantized, b_scale, b_zero_point)
   [x_QuantizeLinear] x_quantized = QuantizeLinear (x, x_scale, x_zero_point)
   [x_DequantizeLinear] x_dequantized = DequantizeLinear (x_quantized, x_scale, x_zero_point)
   c = Conv (x_dequantized, w_dequantized, b_dequantized)
   y_before = Relu (c)
   [y_QuantizeLinear] y_quantized = QuantizeLinear (y_before, y_scale, y_zero_point)
   [y_DequantizeLinear] y = DequantizeLinear (y_quantized, y_scale, y_zero_point)
}
"""
PIXELS = [{"x": np.array([0, 255, 7, 100], np.float32).reshape(1, 1, 2, 2)}]


def test_a_convolution_with_its_activation_becomes_pairs_around_it(quantize):
    assert_text(quantize(BEFORE, data=PIXELS, method="minmax", bias_samples=0).graph, AFTER)


def test_weights_and_biases_that_nobody_reads_any_more_are_gone(quantize):
    made = quantize(BEFORE, data=PIXELS)
    assert {value.name for value in made.graph.constants()}.isdisjoint({"w", "b"})


def test_the_interface_stays(quantize):
    made = quantize("""
    g (float[N,3,8,8] image, bool[1,1,1,1] mask) => (float[N,4,8,8] a, float[N,4,8,8] y)
    <float[4,3,1,1] w, float[4,4,1,1] w2>
    { a = Conv (image, w) m = Where (mask, a, a) y = Conv (m, w2) }
    """)
    assert [str(value) for value in made.graph.inputs] == [str(value) for value in made.before.inputs]
    assert [(value.name, value.type.shape) for value in made.graph.outputs] == [
        ("a", ("N", 4, 8, 8)),
        ("y", ("N", 4, 8, 8)),
    ]


def test_what_was_done_is_left_for_the_report(quantize):
    made = quantize("""
    g (float[2,8] x, int64[3] i) => (float[] y, float[] e)
    <float[8,16] w, float[16,16] w2, float[512,64] table>
    { [first] c = Gemm (x, w) t = Tanh (c) u = Gemm <alpha = 2.0> (t, w2) y = MatMul (u, w2) e = Gather (table, i) }
    """)
    assert made.ctx.results["quantize"] == {
        "static": ["first"],
        "dynamic": ["MatMul(y)"],
        "recurrent": [],
        "tables": ["Gather(e)"],
        "scaled_values": 1,
        "tightened": {},
        "left_float": {
            "Tanh(t)": "no INT8 kernel",
            "Gemm(u)": "alpha, beta or transA is set: the integer kernel has none",
        },
    }
    assert ("declined", "Tanh(t)", "no INT8 kernel") in made.notes


def test_values_that_move_share_the_constants_of_their_scale(quantize):
    made = quantize("""
    g (float[1,3,8,8] x) => (float[] y) <float[4,3,1,1] w, float[4,4,1,1] w2>
    { c = Conv (x, w) m = MaxPool <kernel_shape = [2, 2]> (c) t = Transpose <perm = [0, 1, 3, 2]> (m) y = Conv (t, w2) }
    """)
    read = {op.output.name: op.inputs[1] for op in made.graph.ops() if op.kind == "QuantizeLinear"}
    assert read["c_quantized"] is read["m_quantized"] is read["t_quantized"]
    assert read["c_quantized"] is not read["x_quantized"]


def test_a_shared_weight_is_written_once_and_its_biases_each_with_their_own_scale(quantize):
    made = quantize("""
    g (float[1,4,8,8] x) => (float[] y) <float[4,4,1,1] w, float[4] b> { c = Conv (x, w, b) y = Conv (c, w, b) }
    """)
    names = {value.name for value in made.graph.constants()}
    assert "w_quantized" in names and "w_quantized_1" not in names
    unit = made.constant("x_scale") * made.constant("w_scale"), made.constant("c_scale") * made.constant("w_scale")
    scales = [value for value in made.graph.constants() if value.name.endswith("scale") and value.name.startswith("b_")]
    assert [made.graph.array(value).tolist() for value in scales] == [one.tolist() for one in unit]


def test_a_constant_operand_is_quantized_on_its_own_range(quantize):
    made = quantize("""
    g (float[1,3,8,8] x) => (float[] y) <float[4,3,1,1] w, float k = {-2}, float[4,4,1,1] w2>
    { c = Conv (x, w) m = Mul (c, k) y = Conv (m, w2) }
    """)
    scale, zero = float(made.constant("k_scale")), int(made.constant("k_zero_point"))
    assert scale * (int(made.constant("k_quantized")) - zero) == pytest.approx(-2, rel=1e-6)
    assert made.sqnr() > 30


def test_one_scale_a_tensor_on_request(quantize):
    made = quantize(BEFORE, data=PIXELS, per_channel=False, bias_samples=0)
    assert made.constant("w_scale").shape == made.constant("b_scale").shape == ()
    assert made.constant("w_quantized").reshape(-1).tolist() == [64, -127]


def test_a_target_that_wants_one_scale_a_tensor_gets_it(quantize):
    int8 = Int8Support(per_channel_weights=False, kernels=CAPABILITIES.int8.kernels)
    made = quantize(BEFORE, data=PIXELS, target=Capabilities(13, (7, 26), int8))
    assert made.constant("w_scale").shape == ()


def test_the_range_of_an_absorbed_clip_ends_at_its_bounds(quantize):
    made = quantize("""
    g (float[1,3,8,8] x) => (float[] y)
    <float[4,3,1,1] w, float[4,4,1,1] w2, float low = {-0.5}, float high = {0.5}>
    { c = Conv (x, w) r = Clip (c, low, high) y = Conv (r, w2) }
    """)
    scale, zero = float(made.constant("r_scale")), int(made.constant("r_zero_point"))
    assert -0.5 <= -zero * scale < (255 - zero) * scale <= 0.5
    assert kernels(made) == {"QuantizeLinear", "Transpose", "QLinearConv", "DequantizeLinear"}


def kernels(made):
    return {node.op_type for node in executed_graph(to_bytes(made.graph)).graph.node}


# ------------------------------------------------------------------ options


def test_the_spec_names_what_is_not_default():
    assert Quantize().spec == "quantize"
    assert Quantize(method="percentile", percentile=99.9, skip=("head",)).spec == (
        'quantize{method="percentile", percentile=99.9, skip=["head"]}'
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "max"}, "quantize.method: expected 'minmax', 'percentile', 'mse' or 'entropy', got 'max'"),
        ({"percentile": 50}, "quantize.percentile: expected more than 50, got 50"),
        ({"percentile": 101}, "quantize.percentile: expected at most 100, got 101"),
        ({"bias_samples": -1}, "quantize.bias_samples: expected at least 0, got -1"),
        ({"pairsafe": True}, "quantize: unknown option 'pairsafe'"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(RecipeError) as error:
        Quantize.from_options(options)
    assert str(error.value) == message


@pytest.mark.parametrize("skip", ["head", "he*", "output:y", "kind:Gemm", "re:h.*d"])
def test_ops_are_skipped_by_name_or_selector(quantize, skip):
    made = quantize(
        """
        g (float[1,8,1,1] x) => (float[] y) <float[8,8,1,1] w, float[8,4] w2>
        { [first] c = Conv (x, w) f = Flatten (c) [head] y = Gemm (f, w2) }
        """,
        skip=(skip,),
    )
    assert made.ctx.results["quantize"]["left_float"] == {"head": "skipped by option"}
    assert len(made.ctx.results["quantize"]["static"]) == 1


def test_a_selector_that_selects_nothing_is_refused(quantize):
    with pytest.raises(RecipeError) as error:
        quantize(BEFORE, data=PIXELS, skip=("haed",))
    assert error.value.code == "NNC-R011"
    assert error.value.message == "quantize.skip: selector 'haed' matches no op"


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_each_method_gives_a_good_result(quantize, method):
    assert quantize(CNN, data=IMAGES, method=method).sqnr() > 28


# ------------------------------------------------------------------ how near results stay

CNN = """
g (float[1,3,16,16] image) => (float[1,10] scores)
<float[16,3,3,3] stem, float[16] stem_b, float[16,1,3,3] dw, float[16] dw_b, float[16,16,1,1] pw,
 float[4,16,1,1] se1, float[16,4,1,1] se2, float[16] se_b, float[16,16,3,3] res, float[16,16,1,1] left,
 float[8,16,3,3] right, float[10,24] head, float[10] head_b, float zero = {0}, float six = {6}>
{
   s = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (image, stem, stem_b)
   sr = Clip (s, zero, six)
   d = Conv <group = 16, pads = [1, 1, 1, 1]> (sr, dw, dw_b)
   dr = Relu (d)
   p = Conv (dr, pw)
   q0 = GlobalAveragePool (p)
   q1 = Conv (q0, se1)
   q2 = Relu (q1)
   q3 = Conv (q2, se2, se_b)
   q4 = Sigmoid (q3)
   e = Mul (p, q4)
   a = Add (e, sr)
   r1 = Conv <pads = [1, 1, 1, 1]> (a, res)
   r2 = Relu (r1)
   r3 = Add (r2, a)
   m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r3)
   l = Conv (m, left)
   t = Conv <pads = [1, 1, 1, 1]> (m, right)
   lr = Relu (l)
   tr = LeakyRelu (t)
   j = Concat <axis = 1> (lr, tr)
   v = GlobalAveragePool (j)
   f = Flatten (v)
   scores = Gemm <transB = 1> (f, head, head_b)
}
"""
IMAGES = [{"image": np.random.default_rng(seed).normal(0.5, 1, (1, 3, 16, 16)).astype(np.float32)} for seed in range(8)]


def test_a_network_with_residuals_gates_and_branches_stays_near(quantize):
    made = quantize(CNN, data=IMAGES)
    assert not kernels(made) & {"Conv", "FusedConv", "Gemm", "Add", "Mul", "Relu", "Clip", "Sigmoid", "Concat"}
    # One rounding to 8 bits gives some 48 dB; a dozen layers in a row add their errors, and lose 10 dB at the most.
    assert made.sqnr() > 37
    assert abs(made.sqnr() - made.sqnr(optimize=False)) < 1


def test_one_scale_a_channel_is_nearer_than_one_a_tensor(quantize):
    rng = np.random.default_rng(0)
    spread = np.asarray(rng.normal(0, 1, (16, 3, 3, 3)) * np.logspace(-2, 0, 16).reshape(-1, 1, 1, 1), np.float32)
    text = "g (float[1,3,16,16] image) => (float[] y) <float[16,3,3,3] w> { y = Conv (image, w) }"
    made = [
        quantize(text, data=IMAGES, constants={"w": spread}, per_channel=per_channel) for per_channel in (True, False)
    ]
    errors = []
    for one in made:
        a, b = run(one.before, IMAGES[0])["y"], run(one.graph, IMAGES[0])["y"]
        errors.append(float(np.abs(a - b)[:, 0].max()))  # the channel with the smallest weights
    assert errors[0] <= errors[1]


def test_the_gate_passes_what_declares_a_loss():
    found = graph(CNN)
    found.remove_unused(found.constants())
    ctx = nncomp.Context(target=CAPABILITIES, data=FeedSource(IMAGES, found))
    (record,) = nncomp.Pipeline([Quantize()], gate=Gate(IMAGES[:2])).run(found, ctx)
    assert record.changed
    assert record.gate.passed
    assert record.gate.deviation.sqnr_db > 30


def test_biases_are_corrected_for_the_mean_error_of_their_layer(quantize):
    rng = np.random.default_rng(0)
    data = [{"x": rng.uniform(0, 1, (1, 8, 8, 8)).astype(np.float32)} for _ in range(8)]
    text = "g (float[1,8,8,8] x) => (float[] y) <float[16,8,3,3] w, float[16] b> { y = Conv (x, w, b) }"
    mean_errors = []
    for samples in (0, 16):
        made = quantize(text, data=data, bias_samples=samples)
        errors = [run(made.graph, feed)["y"] - run(made.before, feed)["y"] for feed in data]
        mean_errors.append(float(np.abs(np.mean(errors, axis=(0, 1, 3, 4))).mean()))
    assert mean_errors[1] < 0.5 * mean_errors[0]


# ------------------------------------------------------------------ biases


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_scale_of_a_bias_is_exactly_that_of_the_products(quantize, per_channel):
    made = quantize(CNN, data=IMAGES, bias_samples=0, per_channel=per_channel)
    checked = 0
    for op in made.graph.ops():
        if op.kind in ("Conv", "Gemm") and op.input(2) is not None:
            data, weight, bias = (made.graph.array(value.producer.inputs[1]) for value in op.inputs)
            assert bias.dtype == np.float32
            assert np.array_equal(bias, np.float32(data) * weight)
            checked += 1
    assert checked == 4


def test_a_layer_without_bias_gets_one_only_where_there_is_an_error_to_correct(quantize):
    text = "g (float[1,4,8,8] x) => (float[] y) <float[4,4,1,1] w> { y = Conv (x, w) }"
    assert [len(op.inputs) for op in quantize(text, bias_samples=0).graph.ops() if op.kind == "Conv"] == [2]
    assert [len(op.inputs) for op in quantize(text).graph.ops() if op.kind == "Conv"] == [3]


LINE = "g (float[1,8,8,8] x) => (float[1,4,8,8] y) <float[4,8,1,1] w, float[4] b> { y = Conv (x, w, b) }"
BRIGHT = [{"x": np.random.default_rng(seed).uniform(0, 1, (1, 8, 8, 8)).astype(np.float32)} for seed in range(3)]


@pytest.mark.parametrize("weight", [1e-3, 1e-5, 4e-7, 1e-9, 1e-30, 1e-40, 0.0])
@pytest.mark.parametrize("bias", [10.0, -10.0, 0.0])
def test_weights_that_are_tiny_beside_the_bias_do_not_overflow_the_sum(quantize, weight, bias):
    rng = np.random.default_rng(0)
    w = np.asarray(rng.uniform(0.5, 1, (4, 8, 1, 1)) * weight, np.float32)
    made = quantize(LINE, data=BRIGHT, constants={"w": w, "b": np.full(4, bias, np.float32)})
    step = float(made.constant("y_scale"))
    assert made.off_by() <= 1.001 * step
    expected, got = (run(one, BRIGHT[0], optimize=True)["y"] for one in (made.before, made.graph))
    assert np.abs(expected - got).max() <= 1.6 * step


def test_a_large_bias_widens_the_scale_of_its_own_channel_only(quantize):
    w = np.full((4, 8, 1, 1), 1e-4, np.float32)
    plain = quantize(LINE, data=BRIGHT, constants={"w": w, "b": np.zeros(4, np.float32)}, bias_samples=0)
    b = np.array([0, 1e6, 0, 0], np.float32)
    made = quantize(LINE, data=BRIGHT, constants={"w": w, "b": b}, bias_samples=0)
    wider = made.constant("w_scale") / plain.constant("w_scale")
    assert wider[1] > 10
    assert wider[[0, 2, 3]].tolist() == [1, 1, 1]
    assert abs(int(made.constant("b_quantized")[1])) <= 2**30 + 2**7


def test_a_channel_without_weights_has_exactly_its_bias(quantize):
    w = np.random.default_rng(0).normal(0, 1, (4, 8, 1, 1)).astype(np.float32)
    w[1:3] = 0
    b = np.array([0.1, 0, 0.4, 0.2], np.float32)
    data = [{"x": 255 * feed["x"]} for feed in BRIGHT]  # a coarse input, whose step is larger than the bias
    made = quantize(LINE, data=data, constants={"w": w, "b": b}, bias_samples=0)
    assert made.constant("w_scale")[1] == 1
    bias = made.constant("b_quantized") * made.constant("b_scale").astype(np.float64)
    assert bias[1] == 0
    assert bias[2] == pytest.approx(0.4, rel=1e-6)
    assert not run(made.graph, data[0], optimize=True)["y"][:, 1].any()


@pytest.mark.parametrize("shape", ["16", "1,16", "1", ""])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bias_samples", [0, 4])
def test_the_bias_of_a_product_may_have_any_shape_that_broadcasts(quantize, shape, per_channel, bias_samples):
    dims = f"[{shape}]" if shape else ""
    made = quantize(
        f"g (float[2,8] x) => (float[] y) <float[8,16] w, float{dims} b> {{ y = Gemm (x, w, b) }}",
        per_channel=per_channel,
        bias_samples=bias_samples,
    )
    assert made.sqnr() > 30
    assert made.off_by() < 1e-5
    assert kernels(made) == {"QuantizeLinear", "QGemm"}


# ------------------------------------------------------------------ integers compute what the pairs say

LAYERS = {
    "3x3": ("1,16,8,8", "16,16,3,3", ""),
    "3x3 of three channels": ("1,3,8,8", "16,3,3,3", ""),
    "3x3 of one channel": ("1,1,8,8", "16,1,3,3", ""),
    "1x1": ("1,16,8,8", "16,16,1,1", ""),
    "1x1 of seven channels": ("1,7,8,8", "16,7,1,1", ""),
    "grouped": ("1,16,8,8", "16,4,3,3", "<group = 4>"),
    "grouped, odd": ("1,6,8,8", "6,3,3,3", "<group = 2>"),
    "depthwise": ("1,16,8,8", "16,1,3,3", "<group = 16>"),
    "depthwise 5x5, strided": ("1,16,9,9", "16,1,5,5", "<group = 16, strides = [2, 2]>"),
    "depthwise, two outputs a channel": ("1,16,8,8", "32,1,3,3", "<group = 16>"),
    "dilated": ("1,8,9,9", "8,8,3,3", "<dilations = [2, 2]>"),
    "1d": ("1,16,32", "16,16,3", ""),
    "depthwise 1d": ("1,16,32", "16,1,3", "<group = 16>"),
    "3d": ("1,4,5,5,5", "8,4,3,3,3", ""),
}
EXACT_ANYWAY = {"depthwise", "depthwise 5x5, strided", "depthwise 1d"}
"""Kernels that add in 32 bits on every CPU."""


def adversary(quantize, layer, **options):
    """Quantize a layer whose weights have one sign a channel, on bright inputs: sums are as large as can be."""
    x, w, attrs = LAYERS[layer]
    shape, weight_shape = ([int(dim) for dim in dims.split(",")] for dims in (x, w))
    rng = np.random.default_rng(0)
    sign = np.where(np.arange(weight_shape[0]) % 2, 1, -1).reshape(-1, *[1] * (len(weight_shape) - 1))
    weight = np.asarray((0.5 + np.abs(rng.normal(0, 1, weight_shape))) * sign, np.float32)
    data = [{"x": (1 - 0.1 * rng.random(shape)).astype(np.float32)} for _ in range(3)]
    text = f"g (float[{x}] x) => (float[] y) <float[{w}] w> {{ y = Conv {attrs} (x, w) }}"
    made = quantize(text, data=data, constants={"w": weight}, **options)
    return made, made.off_by() / float(made.constant("y_scale"))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
def test_integer_sums_are_those_of_the_pairs_whatever_the_cpu(quantize, layer, per_channel):
    made, steps = adversary(quantize, layer, per_channel=per_channel)
    assert steps <= 1.001
    assert made.sqnr() > 30


@pytest.mark.parametrize("layer", LAYERS)
def test_without_pair_safety_sums_saturate_on_cpus_that_add_pairs_in_16_bits(quantize, pairs_saturate, layer):
    made, steps = adversary(quantize, layer, pair_safe=False)
    if layer in EXACT_ANYWAY:
        assert steps <= 1.001
        assert made.constant("w_scale").tolist() == adversary(quantize, layer)[0].constant("w_scale").tolist()
    else:
        assert steps > 5


@pytest.mark.parametrize("transposed", [0, 1])
def test_sums_of_a_product_are_those_of_the_pairs_whatever_the_cpu(quantize, transposed):
    rng = np.random.default_rng(0)
    weight = np.asarray(0.5 + np.abs(rng.normal(0, 1, (64, 8))), np.float32)
    shape = "8,64" if transposed else "64,8"
    made = quantize(
        f"g (float[2,64] x) => (float[] y) <float[{shape}] w> {{ y = Gemm <transB = {transposed}> (x, w) }}",
        data=[{"x": (1 - 0.1 * rng.random((2, 64))).astype(np.float32)} for _ in range(3)],
        constants={"w": weight.T.copy() if transposed else weight},
    )
    assert made.off_by() < 1e-4
    assert made.sqnr() > 40


def test_a_target_whose_sums_do_not_saturate_gets_the_full_range(quantize):
    int8 = dataclasses.replace(CAPABILITIES.int8, pair_saturation=False)
    wide = dataclasses.replace(CAPABILITIES, int8=int8)
    text = "g (float[1,2,4,4] x) => (float[] y) <float[1,2,1,1] w = {1, 1}> { y = Conv (x, w) }"
    assert quantize(text, target=wide).constant("w_quantized").reshape(-1).tolist() == [127, 127]
    assert quantize(text).constant("w_quantized").reshape(-1).tolist() == [64, 64]


# ------------------------------------------------------------------ ops with several outputs, odd operands


@pytest.mark.parametrize(
    "body",
    [
        "p, q = Split <axis = 1, num_outputs = 2> (c) y = Concat <axis = 1> (q, p)",
        "s = Add (c, c) y = Conv (s, w2)",
        "s = Mul (c, half) y = Conv (s, w2)",
        "s = Add (k, c) y = Conv (s, w2)",
        "s = Where (mask, c, half) y = Conv (s, w2)",
        "t = Tanh (c) s = Add (t, c) y = Conv (s, w2)",
        'r = Resize <mode = "linear"> (c, , f) y = Conv (r, w2)',
        "m, i = MaxPool <kernel_shape = [2, 2]> (c) n = Cast <to = 1> (i) y = Add (m, n)",
        "r = Relu (c) s = Add (r, c) y = Conv (s, w2)",
    ],
)
def test_results_stay_near_whatever_reads_a_value(quantize, body):
    made = quantize(f"""
    g (float[1,3,8,8] x, bool[1,1,1,1] mask) => (float[] y)
    <float[4,3,1,1] w, float[4,4,1,1] w2, float half = {{0.5}}, float[1,4,1,1] k, float[4] f = {{1, 1, 2, 2}}>
    {{ c = Conv (x, w) {body} }}
    """)
    assert made.sqnr() > 25
    steps = [made.graph.array(value) for value in made.graph.constants() if value.name in ("c_scale", "y_scale")]
    assert made.off_by() <= 2 * max(steps)


def test_an_empty_batch_is_data_that_says_nothing(quantize):
    text = "g (float[N,3,4,4] x) => (float[N,4,4,4] y) <float[4,3,1,1] w> { y = Conv (x, w) }"
    full = random_feeds(graph(text))
    made = quantize(text, data=[{"x": np.zeros((0, 3, 4, 4), np.float32)}, full], bias_samples=0)
    alone = quantize(text, data=[full], bias_samples=0)
    assert made.constant("x_scale") == alone.constant("x_scale")
