"""Rules 7 to 10 and 15: which integer kernels the installed ONNX Runtime has, which not, and which are not used."""

from collections import Counter

import pytest

from nncomp.targets import Int8Form
from nncomp_ort.capabilities import CAPABILITIES

INT8 = CAPABILITIES.int8


QUANTIZED_CONV = {"QuantizeLinear": 1, "Transpose": 2, "QLinearConv": 1, "DequantizeLinear": 1}


# ------------------------------------------------------------------ 7: kernels there are

CASES = {
    "Conv": ("m = Conv <pads = [1, 1, 1, 1]> (c, w3)", "QLinearConv"),
    "Add": ("m = Add (c, c2)", "QLinearAdd"),
    "Mul": ("m = Mul (c, c2)", "QLinearMul"),
    "Concat": ("m = Concat <axis = 2> (c, c2)", "QLinearConcat"),
    "GlobalAveragePool": ("m = GlobalAveragePool (c)", "QLinearGlobalAveragePool"),
    "AveragePool": ("m = AveragePool <kernel_shape = [2, 2]> (c)", "QLinearAveragePool"),
    "LeakyRelu": ("m = LeakyRelu (c)", "QLinearLeakyRelu"),
    "Sigmoid": ("m = Sigmoid (c)", "QLinearSigmoid"),
    "Where": ("m = Where (mask, c, c2)", "QLinearWhere"),
    "MaxPool": ("m = MaxPool <kernel_shape = [2, 2]> (c)", "NhwcMaxPool"),
    "Reshape": ("m = Reshape (c, shape)", "Reshape"),
    "Transpose": ("m = Transpose <perm = [0, 1, 3, 2]> (c)", "Transpose"),
    "Squeeze": ("u = Unsqueeze (c, first) m = Squeeze (u, first)", "Squeeze"),
    "Unsqueeze": ("u = Unsqueeze (c, first) m = Squeeze (u, first)", "Unsqueeze"),
    "Flatten": ("f = Flatten (c) m = Reshape (f, shape)", "Flatten"),
    "Slice": ("m = Slice (c, starts, ends)", "Slice"),
    "Split": ("a, b = Split <axis = 2, num_outputs = 2> (c) m = Concat <axis = 3> (a, b)", "Split"),
    "Gather": ("m = Gather <axis = 2> (c, rows)", "Gather"),
    "Tile": ("m = Tile (c, times)", "Tile"),
    "DepthToSpace": ("d = DepthToSpace <blocksize = 2> (c) m = Concat <axis = 1> (d, d, d, d)", "DepthToSpace"),
    "Resize": ('m = Resize <mode = "nearest"> (c, , factors)', "Resize"),
}


NETWORK = """
g (float[1,3,8,8] x, bool[1,1,1,1] mask) => (float[] y)
<float[4,3,1,1] w, float[4,3,1,1] w1, float[4,4,1,1] w2, float[4,4,3,3] w3, float[1,4,1,1] k, float scalar = {0.7},
 int64[4] shape = {1, 4, 4, 16}, int64[1] first = {0}, int64[4] starts = {0, 0, 1, 1}, int64[4] ends = {1, 4, 5, 5},
 int64[3] rows = {0, 3, 2}, int64[4] times = {1, 1, 2, 2}, float[4] factors = {1, 1, 2, 2}, int64[2] pixels = {2, 3},
 int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, int64[4] image = {1, 4, 8, 8}, int64[3] row = {1, 8, 32},
 float[4] scale_4, float[4] b4, float[4] mean4, float[4] var, float[8] scale_8, float[8] b8, float[4,4,2,2] wt,
 float[1,1,32] wr, float[1,1,1] rr, float[1,3,32] wg, float[1,3,1] rg, int64[4] tail = {1, 1, 1, 8},
 float[4,16,1,1] wide, float[4,1,1,1] one>
{
   c = Conv (x, w)
   c2 = Conv (x, w1)
   %s
}
"""


SECOND_READER = "y = Conv (m, w2)"


def network(body, tail=SECOND_READER):
    found = NETWORK % f"{body} {tail}"
    return found if "c2)" in found.replace("c2 = Conv", "") else found.replace("   c2 = Conv (x, w1)\n", "")


def test_each_kernel_of_the_table_has_a_case():
    assert CASES.keys() | {"Gemm", "MatMul", "LSTM"} == INT8.kernels.keys()


@pytest.mark.parametrize("kind", CASES)
def test_each_kernel_of_the_table_is_executed_in_integers(quantize, kind):
    body, kernel = CASES[kind]
    found = quantize(network(body)).executed
    assert found.kernels["QuantizeLinear"] == 1, "the input"
    assert found.kernels["DequantizeLinear"] == 1, "the output"
    assert (found.coverage, found.other_float) == (1, {})
    # Reshape between two kernels of one layout may be merged away; then nothing was executed in float either.
    assert kernel in found.kernels or kind in {"Reshape", "Squeeze", "Unsqueeze"}


def test_a_product_with_a_bias_is_executed_in_integers(quantize):
    made = quantize("g (float[2,8] x) => (float[] y) <float[8,4] w, float[4] b> { y = Gemm (x, w, b) }")
    assert made.executed.kernels == {"QuantizeLinear": 1, "QGemm": 1}
    assert INT8.kernels["Gemm"].form is Int8Form.QDQ_FLOAT_OUT


@pytest.mark.parametrize("shape", ["2,8", "2,5,8", "N,5,8"])
@pytest.mark.parametrize("body", ["y = MatMul (x, w)", "m = MatMul (x, w) y = Add (b, m)"])
def test_a_product_with_calibrated_activations_is_executed_in_integers(quantize, shape, body):
    text = f"g (float[{shape}] x) => (float[] y) <float[8,4] w, float[4] b> {{ {body} }}"
    made = quantize(text, static=("kind:MatMul",)).executed
    assert made.kernels["MatMulIntegerToFloat"] == made.kernels["QuantizeLinear"] == 1
    assert made.coverage == 1
    assert INT8.kernels["MatMul"].also == {Int8Form.QDQ_FLOAT_OUT}


def test_a_product_with_a_bias_may_have_its_activations_quantized_at_run_time(quantize):
    made = quantize("g (float[2,8] x) => (float[] y) <float[8,4] w, float[4] b> { y = Gemm (x, w, b) }", dynamic=("*",))
    assert made.executed.kernels == {"DynamicQuantizeMatMul": 1}
    assert INT8.kernels["Gemm"].also == {Int8Form.DYNAMIC}


@pytest.mark.parametrize(
    "body",
    ["m = Mul (c, k)", "m = Mul (c, scalar)", "m = Add (scalar, c)", "m = Add (c, k)", "m = Where (mask, c, scalar)"],
)
def test_a_constant_operand_becomes_integer_too(quantize, body):
    found = quantize(network(body)).executed
    assert (found.coverage, found.other_float, found.kernels["QuantizeLinear"]) == (1, {}, 1)


def test_operands_of_concat_may_have_their_own_scales(kernels, pair):
    body = f"a = Relu (x) {pair('a', 's0', 'z0')} c = Concat <axis = 1> (x_d, a_d) {pair('c', out='y')}"
    assert kernels(body)["QLinearConcat"] == 1


def test_argmax_reads_integers(kernels):
    found = kernels("c = ArgMax <axis = 1> (x_d) y = Cast <to = 1> (c)")
    assert found == {"QuantizeLinear": 1, "ArgMax": 1, "Cast": 1}


# ------------------------------------------------------------------ 8: kernels there are not

FLOAT = {
    "Attention": "m = Attention (c, c, c)",
    "BatchNormalization": "m = BatchNormalization (c, scale_4, b4, mean4, var)",
    "ConvTranspose": "m = ConvTranspose (c, wt)",
    "Div": "m = Div (c, c2)",
    "Elu": "m = Elu (c)",
    "Erf": "m = Erf (c)",
    "Gelu": "m = Gelu (c)",
    "HardSigmoid": "m = HardSigmoid (c)",
    "HardSwish": "m = HardSwish (c)",
    "InstanceNormalization": "m = InstanceNormalization (c, scale_4, b4)",
    "RNN": "r = Reshape (c, row) l = RNN <hidden_size = 1> (r, wr, rr) m = Reshape (l, tail)",
    "GRU": "r = Reshape (c, row) l = GRU <hidden_size = 1> (r, wg, rg) m = Reshape (l, tail)",
    "LayerNormalization": "m = LayerNormalization (c, scale_8, b8)",
    "PRelu": "m = PRelu (c, k)",
    "Pad": "m = Pad (c, pads)",
    "Pow": "m = Pow (c, c2)",
    "ReduceMean": "m = ReduceMean (c, pixels)",
    "Resize": 'm = Resize <mode = "linear"> (c, , factors)',
    "SpaceToDepth": "m = SpaceToDepth <blocksize = 2> (c)",
    "Sqrt": "m = Sqrt (c)",
    "Sub": "m = Sub (c, c2)",
    "Tanh": "m = Tanh (c)",
}


TAILS = {"SpaceToDepth": "y = Conv (m, wide)", "RNN": "y = Conv (m, one)", "GRU": "y = Conv (m, one)"}


def test_each_float_kind_of_the_table_has_a_case():
    assert FLOAT.keys() == INT8.float_causes.keys()


@pytest.mark.parametrize("kind", FLOAT)
def test_each_float_kind_of_the_table_is_executed_in_float_between_integer_neighbours(quantize, kind):
    """A runtime that learns one of these fails here: move the kind to the table of kernels then."""
    opset = 23 if kind == "Attention" else 20
    made = quantize(network(FLOAT[kind], TAILS.get(kind, SECOND_READER)), opset=opset)
    found = made.executed
    assert found.kernels["QuantizeLinear"] == 2, "behind the input, and behind the float op"
    assert not [kernel for kernel in found.kernels if kernel.startswith("QLinear") and kernel != "QLinearConv"]
    assert found.other_float or found.islands
    declined = {note.node.partition("(")[0]: note.reason for note in made.ctx.notes if note.event == "declined"}
    assert declined[kind] == INT8.float_causes[kind]


def test_silu_with_a_pair_on_the_sigmoid_stays_in_integers(kernels, pair):
    body = f"g = Sigmoid (x_d) {pair('g', 's0', 'z0')} c = Mul (x_d, g_d) {pair('c', out='y')}"
    assert kernels(body) == {"QuantizeLinear": 1, "QLinearSigmoid": 1, "QLinearMul": 1, "DequantizeLinear": 1}


@pytest.mark.parametrize("kind", ["Add", "Mul"])
def test_a_float_constant_operand_makes_the_op_float(kernels, pair, kind):
    found = kernels(f"c = {kind} (x_d, k) {pair('c', out='y')}")
    assert found == {"QuantizeLinear": 2, "DequantizeLinear": 2, kind: 1}


@pytest.mark.parametrize(("scale", "integer"), [("s", True), ("s0", False)], ids=["one scale", "two scales"])
def test_maxpool_is_integer_only_with_one_scale_on_both_sides(kernels, pair, scale, integer):
    found = kernels(f"c = MaxPool <kernel_shape = [2, 2]> (x_d) {pair('c', scale, out='y')}")
    assert (found["QuantizeLinear"] == 1) is integer
    assert INT8.kernels["MaxPool"].same_scale


def test_activations_of_16_bits_leave_the_convolution_float(kernels, pair):
    body = pair("x", "s", "z16").replace("x_q", "x_r").replace("x_d", "x_e")
    assert kernels(f"{body} c = Conv (x_e, w_d) {pair('c', 's', 'z16', out='y')}")["Conv"] == 1


def test_softmax_is_taken_in_integers_where_both_neighbours_are_so_it_stands_in_neither_table(quantize):
    found = quantize(network("m = Softmax (c)")).executed
    assert found.kernels["QLinearSoftmax"] == 1
    assert "Softmax" not in INT8.kernels.keys() | INT8.float_causes.keys()


# ------------------------------------------------------------------ 9 and 10: one chain, no islands


@pytest.mark.parametrize("weight", ["depthwise", "grouped"])
def test_depthwise_and_grouped_convolutions_are_integer(kernels, pair, weight):
    group = {"depthwise": 16, "grouped": 4}[weight]
    text = f"g_d = DequantizeLinear <axis = 0> ({weight}, scale_w, zw) c = Conv <group = {group}> (x_d, g_d)"
    assert kernels(f"{text} {pair('c', out='y')}") == QUANTIZED_CONV


CHAIN = """
g (float[1,16,8,8] x) => (float[] y)
<float[16,16,1,1] w1, float[16,1,3,3] w2, float[16,16,1,1] w3>
{
   a = Conv (x, w1)
   ar = Relu (a)
   b = Conv <group = 16, pads = [1, 1, 1, 1]> (ar, w2)
   br = Relu (b)
   c = Conv (br, w3)
   y = Relu (c)
}
"""


def test_a_chain_that_is_all_integer_changes_layout_twice(quantize):
    found = quantize(CHAIN).executed
    assert found.kernels == {"Transpose": 2, "QuantizeLinear": 1, "QLinearConv": 3, "DequantizeLinear": 1}


def test_a_depthwise_convolution_left_float_costs_a_quantizer_on_each_side_and_two_layout_changes(quantize):
    whole = Counter(quantize(CHAIN).executed.kernels)
    found = Counter(quantize(CHAIN, skip=("output:b",)).executed.kernels)
    more = found - whole
    assert (more["QuantizeLinear"], more["DequantizeLinear"]) == (1, 1)
    assert more["Transpose"] + more["ReorderInput"] + more["ReorderOutput"] >= 2
    assert found["Conv"] == 1


@pytest.mark.parametrize(("scale", "zero"), [("s", "z"), ("s0", "z0")], ids=["one scale", "two scales"])
def test_a_second_pair_between_two_convolutions_is_merged_away(kernels, pair, scale, zero):
    body = f"c = Conv (x_d, w_d) {pair('c')} {pair('c_d', scale, zero, out='e')} f = Conv (e, w_d) {pair('f', out='y')}"
    assert kernels(body) == QUANTIZED_CONV | {"QLinearConv": 2}


# ------------------------------------------------------------------ 15: never emitted


@pytest.mark.parametrize("text", [CHAIN, network("m = MaxPool <kernel_shape = [2, 2]> (c)")], ids=["chain", "pool"])
def test_integer_operators_that_are_slow_are_never_emitted(quantize, text):
    kinds = {op.kind for op in quantize(text).graph.ops()}
    assert not kinds & {"ConvInteger", "QLinearConv", "QLinearMatMul"}
