"""Every statement about forms in ``capabilities`` and of the rules behind it, on the ONNX Runtime that is installed.

Numbers in names of sections are those of the rules for INT8 on ONNX Runtime's CPU provider; those about which kernels
there are, 7 to 10 and 15, have a page of their own.
"""

import pytest

from nncomp.onnx_io import to_bytes
from nncomp.runtime import RuntimeFailure, random_feeds, run
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import executed_graph

INT8 = CAPABILITIES.int8


QUANTIZED_CONV = {"QuantizeLinear": 1, "Transpose": 2, "QLinearConv": 1, "DequantizeLinear": 1}


# ------------------------------------------------------------------ 1: unsigned activations, signed weights


def test_unsigned_activations_and_signed_weights_run_in_integers(kernels, pair):
    assert kernels(f"c = Conv (x_d, w_d) {pair('c', out='y')}") == QUANTIZED_CONV


def residual(pair, scale, zero):
    return f"""
    {pair("x", scale, zero).replace("x_q", "x_r").replace("x_d", "x_e")}
    c = Conv (x_e, w_d) {pair("c", scale, zero)}
    e = Conv (c_d, w_d) {pair("e", scale, zero)}
    a = Add (e_d, c_d) {pair("a", scale, zero)}
    f = Conv (a_d, w_d) {pair("f", scale, zero, out="y")}
    """


def test_unsigned_activations_keep_a_residual_block_in_integers(kernels, pair):
    found = kernels(residual(pair, "s", "z"))
    assert (found["QLinearConv"], found["QLinearAdd"], found["Conv"]) == (3, 1, 0)


def test_signed_activations_leave_float_convolutions_where_a_tensor_has_two_readers(kernels, pair):
    found = kernels(residual(pair, "s", "zs"))
    assert (found["QLinearConv"], found["QLinearAdd"], found["Conv"]) == (1, 0, 2)


# ------------------------------------------------------------------ 2: per-channel weights cost nothing


@pytest.mark.parametrize("weight", ["w_d", "v_d"], ids=["per channel", "per tensor"])
def test_weights_of_either_granularity_take_the_same_kernels(kernels, pair, weight):
    assert kernels(f"c = Conv (x_d, {weight}) {pair('c', out='y')}") == QUANTIZED_CONV


def test_matrix_products_take_one_weight_scale_a_column(kernels, pair):
    assert kernels("y = MatMul (x_d, m_d)") == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}
    assert kernels(f"{pair('x_2')} y = Gemm (x_2_d, m_d)") == {"Flatten": 1, "QuantizeLinear": 1, "QGemm": 1}


# ------------------------------------------------------------------ 3: activation scales are per tensor


def test_a_convolution_of_an_activation_with_one_scale_a_channel_does_not_run(pattern, pair):
    text = """
    p = QuantizeLinear <axis = 1> (x, scale_x, zx)
    q = DequantizeLinear <axis = 1> (p, scale_x, zx)
    """
    found = pattern(f"{text} c = Conv (q, w_d) {pair('c', out='y')}")
    run(found, random_feeds(found))
    with pytest.raises(RuntimeFailure, match="input zero point must be a scalar or 1D tensor of size 1"):
        run(found, random_feeds(found), optimize=True)


# ------------------------------------------------------------------ 4: a convolution needs a quantizer behind it


def test_a_convolution_without_a_quantizer_behind_it_is_float_and_unpacks_its_weights_on_every_run(kernels):
    assert kernels("y = Conv (x_d, w_d)") == {"QuantizeLinear": 1, "DequantizeLinear": 2, "Conv": 1}


@pytest.mark.parametrize(("kind", "form"), [("Conv", "qdq"), ("Gemm", "qdq-float-out"), ("MatMul", "dynamic")])
def test_the_form_says_whether_the_output_is_quantized(kind, form):
    assert INT8.kernels[kind].form == form


# ------------------------------------------------------------------ 5: the bias has the scale of the products


@pytest.mark.parametrize(
    ("bias", "kernel"),
    [
        ("b_d = DequantizeLinear (b, exact, zb)", "QLinearConv"),
        ("b_d = DequantizeLinear (b, near, zb)", "QLinearConv"),  # 1 % off
        ("b_d = DequantizeLinear (b, far, zb)", "Conv"),  # 2 % off
        ("b_d = Identity (bf)", "QLinearConv"),
    ],
    ids=["exact", "1 % off", "2 % off", "float"],
)
def test_a_bias_whose_scale_is_not_that_of_the_products_makes_the_convolution_float(kernels, pair, bias, kernel):
    found = kernels(f"{bias} c = Conv (x_d, v_d, b_d) {pair('c', out='y')}")
    assert [kind for kind in ("Conv", "QLinearConv") if kind in found] == [kernel]


# ------------------------------------------------------------------ 6: clipping vanishes into the quantizer


@pytest.mark.parametrize(
    ("activation", "scale", "zero", "absorbed"),
    [
        ("Relu (c)", "s0", "z0", True),
        ("Relu (c)", "s", "z", False),
        ("Clip (c, lo, hi)", "s6", "z0", True),
        ("Clip (c, lo, hi)", "s7", "z0", False),
        ("Clip (c, lo, hi)", "s", "z", False),
    ],
    ids=["relu at 0", "relu at 128", "relu6 up to 6", "relu6 up to 7", "relu6 at 128"],
)
def test_clipping_vanishes_only_where_all_codes_lie_inside_its_bounds(kernels, pair, activation, scale, zero, absorbed):
    found = kernels(f"c = Conv (x_d, w_d) r = {activation} {pair('r', scale, zero, out='y')}")
    assert (found == QUANTIZED_CONV) is absorbed
    assert ("QLinearConv" in found) is absorbed


@pytest.mark.parametrize("activation", ["LeakyRelu", "Sigmoid", "HardSwish", "Tanh"])
def test_another_activation_without_a_quantizer_in_front_makes_the_convolution_float(kernels, pair, activation):
    assert "QLinearConv" not in kernels(f"c = Conv (x_d, w_d) r = {activation} (c) {pair('r', out='y')}")


ABSORBED = {
    "Conv": "a = Conv (c, w2)",
    "Add": "a = Add (c, d)",
    "Mul": "a = Mul (c, d)",
    "Gemm": "a = Gemm (row, m)",
}


@pytest.mark.parametrize("kind", [kind for kind, kernel in INT8.kernels.items() if kernel.absorbs])
@pytest.mark.parametrize(
    "activation",
    ["Relu (a)", "Clip (a, zero, six)", "Clip (a, low, high)", "Clip (a, , six)", "Clip (a, low)"],
    ids=["relu", "relu6", "both sides", "no lower bound", "no upper bound"],
)
def test_each_kernel_absorbs_what_the_table_says(quantize, kind, activation):
    behind = "y = Gemm (r, m2)" if kind == "Gemm" else "y = Conv (r, w2)"
    made = quantize(f"""
    g (float[1,3,8,8] x, float[2,8] row) => (float[] y)
    <float[4,3,1,1] w, float[4,3,1,1] w1, float[4,4,1,1] w2, float[8,8] m, float[8,8] m2, float zero = {{0}},
     float six = {{6}}, float low = {{-1}}, float high = {{1}}>
    {{
       c = Conv (x, w)
       d = Conv (x, w1)
       {ABSORBED[kind]}
       r = {activation}
       {behind}
    }}
    """)
    assert INT8.kernels[kind].absorbs == {"Relu", "Clip"}
    assert (made.executed.coverage, made.executed.other_float) == (1, {})
    assert not {"Relu", "Clip"} & made.executed.kernels.keys()


# ------------------------------------------------------------------ 11: QDQ and QOperator are the same in the end


def test_the_portable_form_ends_in_the_same_kernels_as_that_of_integer_operators(kernels, pair):
    portable = kernels(f"c = Conv (x_d, w_d) {pair('c', out='y')}")
    operators = kernels("c = QLinearConv (x_q, s, z, w, scale_w, zw, s, z) y = DequantizeLinear (c, s, z)")
    assert portable == operators == QUANTIZED_CONV


# ------------------------------------------------------------------ 12 and 13: transformers


@pytest.mark.parametrize(
    ("products", "expected"),
    [
        ("y = MatMul (x, w)", {"DynamicQuantizeMatMul": 1}),
        ("m = MatMul (x, w) y = Add (m, b)", {"DynamicQuantizeMatMul": 1}),
        ("m = MatMul (x, w) y = Add (b, m)", {"DynamicQuantizeMatMul": 1}),
        (
            "m = MatMul (x, w) n = Add (m, b) p = MatMul (x, w2) q = Add (p, b) y = Concat <axis = 0> (n, q)",
            {"MatMulIntegerToFloat": 2, "DynamicQuantizeLinear": 1, "Concat": 1},
        ),
    ],
    ids=["alone", "bias behind", "bias in front", "two of one activation"],
)
def test_the_dynamic_form_is_fused_with_its_bias(quantize, products, expected):
    text = "g (float[2,5,16] x) => (float[] y) <float[16,8] w, float[16,8] w2, float[8] b> {" + products + "}"
    assert quantize(text).executed.kernels == expected


def test_a_static_product_is_float_out_or_integer_out_as_the_quantizer_says(kernels, pair):
    assert "MatMulIntegerToFloat" in kernels("y = MatMul (x_d, m_d)")
    assert "QLinearMatMul" in kernels(f"c = MatMul (x_d, m_d) {pair('c', out='y')}")


def test_an_embedding_table_is_gathered_as_integers(quantize):
    found = quantize("g (int64[2,5] ids) => (float[] y) <float[512,64] table> { y = Gather (table, ids) }").executed
    assert found.kernels == {"Gather": 2, "Cast": 1, "Mul": 1}


# ------------------------------------------------------------------ 14 and 16: weights alone


def test_a_weight_alone_of_4_bits_makes_a_product_of_packed_weights(kernels):
    text = """
    g (float[1,64] x) => (float[1,32] y) <int4[64,32] w, float[2,32] scale_w>
    {
       w_d = DequantizeLinear <axis = 0, block_size = 32> (w, scale_w)
       y = MatMul (x, w_d)
    }
    """
    assert kernels(graph(text, opset=21)) == {"MatMulNBits": 1}


def test_a_weight_alone_of_8_bits_is_dequantized_on_every_run_of_a_convolution(kernels):
    assert kernels("y = Conv (x, w_d)") == {"DequantizeLinear": 1, "Conv": 1}


@pytest.mark.parametrize(
    ("body", "weights"),
    [("Conv (x_d, wf)", 1), ("ConvTranspose (x_d, wf)", 1), ("Conv (copy, wf)", 0), ("ConvTranspose (copy, wf)", 0)],
)
def test_float_weights_between_integer_neighbours_are_quantized_on_loading_unless_a_copy_stands_in_front(
    pattern, pair, body, weights
):
    """The reason for ``keep_float``: without a copy, an op that was left float is not."""
    found = pattern(f"copy = Concat <axis = 0> (x_d) c = {body} {pair('c', out='y')}")
    names = {tensor.name: list(tensor.dims) for tensor in executed_graph(to_bytes(found)).graph.initializer}
    assert [names[name] for name in names if name == "_weight_scale"] == [[]] * weights, "one scale a tensor"


# ------------------------------------------------------------------ activations of 16 bits


WIDE = """
g (float[1,16,8,8] x) => (float[1,16,8,8] y)
<int8[16,16,1,1] w, float ws = {0.01}, int8 wz = {0}, float s = {0.0001}, uint16 z = {30000}>
{
   q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) e = DequantizeLinear (w, ws, wz)
   c = Conv (d, e) p = QuantizeLinear (c, s, z) y = DequantizeLinear (p, s, z)
}
"""


def test_activations_of_16_bits_are_computed_in_float_between_conversions(kernels):
    assert kernels(graph(WIDE, opset=21)) == {"QuantizeLinear": 2, "DequantizeLinear": 3, "Conv": 1}
    assert not INT8.wide.pays
