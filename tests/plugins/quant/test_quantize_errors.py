"""What the pass refuses, what it warns of, and what it leaves alone: each with its code, its place and its reason."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import DataError, UnsupportedError
from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.runtime import run
from nncomp.targets import Capabilities
from nncomp.testing import assert_same_function, graph
from nncomp_quant.quantize import Quantize

CONV = """
g (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,1,1] w, float[4] b>
{ [first] c = Conv (x, w, b) y = Relu (c) }
"""


def refused(quantize, text, kind=UnsupportedError, **options):
    with pytest.raises(kind) as error:
        quantize(text, **options)
    return error.value


# ------------------------------------------------------------------ weights that are not finite (31)


@pytest.mark.row(31)
@pytest.mark.parametrize(
    ("text", "name", "shape", "node"),
    [
        (CONV, "w", (4, 3, 1, 1), "first"),
        (CONV, "b", (4,), "first"),
        ("g (float[2,3] x) => (float[] y) <float[3,4] w> { y = Gemm (x, w) }", "w", (3, 4), "Gemm(y)"),
        ("g (float[2,3] x) => (float[] y) <float[3,4] w> { y = MatMul (x, w) }", "w", (3, 4), "MatMul(y)"),
        ("g (int64[2] i) => (float[] y) <float[512,64] w> { y = Gather (w, i) }", "w", (512, 64), "Gather(y)"),
    ],
    ids=["convolution", "bias", "product", "dynamic product", "table"],
)
def test_a_weight_that_is_not_finite_is_refused_with_its_node_and_its_name(quantize, text, name, shape, node):
    array = np.ones(shape, np.float32)
    array.reshape(-1)[:2] = np.nan, -np.inf
    error = refused(quantize, text, constants={name: array})
    assert (error.code, error.exit_status) == ("NNC-M053", 4)
    assert error.message == f"weight {name!r} of {node!r} holds 2 NaN or infinite values"
    assert (error.where.node, error.where.tensor) == (node, name)
    assert error.hint == f'leave the op in float: quantize{{skip=["{node}"]}}'


def test_the_hint_for_a_weight_that_is_not_finite_works(quantize):
    array = np.full((4, 3, 1, 1), np.nan, np.float32)
    made = quantize(
        "g (float[1,3,8,8] x) => (float[] y, float[] z) <float[4,3,1,1] w, float[4,3,1,1] w2>"
        "{ y = Conv (x, w) z = Conv (x, w2) }",
        constants={"w": array},
        skip=("Conv(y)",),
    )
    assert np.array_equal(made.constant("w"), array, equal_nan=True)
    assert [op.kind for op in made.graph.ops()].count("Conv") == 2


def test_weights_are_looked_at_before_any_data_is_read(quantize):
    def data():
        raise AssertionError("read")
        yield

    array = np.full((4, 3, 1, 1), np.nan, np.float32)
    assert refused(quantize, CONV, constants={"w": array}, data=data()).code == "NNC-M053"


# ------------------------------------------------------------------ channels without weights (32)


@pytest.mark.row(32)
@pytest.mark.parametrize("value", [0.0, 1e-41, 1e-45])
def test_a_channel_without_weights_is_warned_of_and_gives_exactly_its_bias(quantize, value):
    w = np.random.default_rng(0).normal(0, 1, (4, 3, 1, 1)).astype(np.float32)
    w[2] = value
    made = quantize(CONV, constants={"w": w, "b": np.array([1, 1, 0, 1], np.float32)}, bias_samples=0)
    assert made.warnings == [("NNC-W033", "first", "the weights of 1 of 4 output channels are zero")]
    assert made.constant("w_scale")[2] == 1
    assert not run(made.graph, made.feeds[0], optimize=True)["y"][:, 2].any()
    assert made.sqnr() > 30


def test_a_weight_that_is_all_zero_is_warned_of_too(quantize):
    made = quantize(CONV, constants={"w": np.zeros((4, 3, 1, 1), np.float32)}, per_channel=False)
    assert ("NNC-W033", "first", "the weights of all channels are zero") in made.warnings
    assert np.isfinite(run(made.graph, made.feeds[0], optimize=True)["y"]).all()


@pytest.mark.parametrize("value", [1.0, -3.5, 1e-30, 1e30])
def test_a_constant_weight_is_exact(quantize, value):
    made = quantize(
        "g (float[1,1,8,8] x) => (float[] y) <float[4,1,1,1] w> { y = Conv (x, w) }",
        constants={"w": np.full((4, 1, 1, 1), value, np.float32)},
        bias_samples=0,
    )
    assert made.warnings == []
    codes = made.constant("w_quantized") * made.constant("w_scale").reshape(4, 1, 1, 1)
    assert codes == pytest.approx(value, rel=1e-6)


# ------------------------------------------------------------------ tensors without elements (33)


@pytest.mark.row(33)
@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,4] x) => (float[2,0] y, float[2,4] z) <float[4,0] w, float[4,4] w2>"
        "{ y = Gemm (x, w) z = Gemm (x, w2) }",
        "g (float[2,4] x, float[2,0] e) => (float[2,3] y, float[2,4] z) <float[0,3] w, float[4,4] w2>"
        "{ y = MatMul (e, w) z = Gemm (x, w2) }",
        "g (float[1,3,4,4] x, float[1,0,4,4] e) => (float[1,3,4,4] y) <float[3,3,1,1] w2>"
        "{ c = Conv (x, w2) d = Concat <axis = 1> (c, e) y = Conv (d, w2) }",
    ],
    ids=["no outputs", "nothing to sum", "an empty operand"],
)
def test_tensors_without_elements_are_kept(quantize, text):
    made = quantize(text)
    expected, got = run(made.before, made.feeds[0]), run(made.graph, made.feeds[0], optimize=True)
    assert {name: array.shape for name, array in expected.items()} == {name: array.shape for name, array in got.items()}
    assert made.sqnr() > 25


def test_a_value_that_never_had_elements_is_warned_of(quantize):
    made = quantize(
        "g (float[N,3,4,4] x) => (float[N,4,4,4] y) <float[4,3,1,1] w> { y = Conv (x, w) }",
        data=[{"x": np.zeros((0, 3, 4, 4), np.float32)}],
        bias_samples=0,
    )
    assert made.warnings == [
        ("NNC-W032", "x", "in calibration, this value had no elements"),
        ("NNC-W032", "y", "in calibration, this value had no elements"),
    ]


# ------------------------------------------------------------------ initializers that are inputs too (45)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("w", "its weight is an input that a caller may override"),
        ("b", "its bias is an input that a caller may override"),
    ],
)
def test_what_a_caller_may_override_is_left_alone_and_said(quantize, name, reason):
    found = graph("""
    g (float[1,3,8,8] x) => (float[] y, float[] z) <float[4,3,1,1] w, float[4] b, float[4,3,1,1] w2>
    { y = Conv (x, w, b) z = Conv (x, w2) }
    """)
    proto = graph_to_proto(found)
    (tensor,) = [one for one in proto.graph.initializer if one.name == name]
    item = proto.graph.input.add(name=name)
    item.type.tensor_type.elem_type = tensor.data_type
    for size in tensor.dims:
        item.type.tensor_type.shape.dim.add(dim_value=size)
    made = quantize(graph_from_proto(proto))
    assert [value.name for value in made.graph.inputs] == ["x", name]
    assert made.graph.inputs[1].default is not None
    assert made.ctx.results["quantize"]["left_float"] == {"Conv(y)": reason}
    other = {**made.feeds[0], name: np.full(tuple(tensor.dims), 0.5, np.float32)}
    assert np.array_equal(run(made.before, other)["y"], run(made.graph, other)["y"])


# ------------------------------------------------------------------ already quantized (63)

PAIR = "x_q = QuantizeLinear (x, s, z) x_d = DequantizeLinear (x_q, s, z)"
SCALES = "float s = {0.1}, uint8 z = {0}, float[2] w_scale, int8[3,2] wq, int8 wz = {0}, float ws = {0.1}"
DONE = {
    "pairs": f"{PAIR} y = Tanh (x_d)",
    "weights alone": "w = DequantizeLinear (wq, ws) y = MatMul (x, w)",
    "operators": "x_q = QuantizeLinear (x, s, z) p = QLinearMatMul (x_q, s, z, wq, ws, wz, s, z) "
    "y = DequantizeLinear (p, s, z)",
    "dynamic": "x_q, x_s, x_z = DynamicQuantizeLinear (x) p = MatMulInteger (x_q, wq, x_z) y = Cast <to = 1> (p)",
    "onnxruntime's": "y = com.microsoft.DynamicQuantizeMatMul (x, wq, ws)",
}


@pytest.mark.row(63)
@pytest.mark.parametrize("form", DONE)
def test_a_model_that_is_quantized_is_refused(quantize, form):
    error = refused(quantize, f"g (float[2,3] x) => (float[] y) <{SCALES}> {{ {DONE[form]} }}")
    assert (error.code, error.exit_status) == ("NNC-M050", 4)
    assert error.message.startswith("the model is already quantized: ")
    assert error.hint == "start from the float model"


def test_how_much_is_quantized_is_told(quantize):
    error = refused(quantize, f"g (float[2,3] x) => (float[] y) <{SCALES}> {{ {DONE['pairs']} }}")
    assert error.message == ("the model is already quantized: 2 integer nodes, the first is 'QuantizeLinear(x_q)'")


def test_a_body_that_is_quantized_is_found_too(quantize):
    error = refused(
        quantize,
        f"""
        g (float[2,3] x, bool k) => (float[] y) <{SCALES}>
        {{
           y = If (k) <
              then_branch = t () => (float[] p) {{ {PAIR} p = Tanh (x_d) }},
              else_branch = e () => (float[] q) {{ q = Relu (x) }}
           >
        }}
        """,
    )
    assert error.code == "NNC-M050"


def test_a_result_is_not_quantized_again(quantize):
    made = quantize(CONV)
    assert refused(quantize, made.graph, data=made.feeds).code == "NNC-M050"


# ------------------------------------------------------------------ nothing to do


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("g (float[2] x) => (float[] y) { y = Tanh (x) }", ""),
        (
            "g (float[2,3] x, float[3,2] z) => (float[] y) { y = MatMul (x, z) }",
            " (1 x MatMul: both operands are computed: float is as fast and more accurate)",
        ),
        (
            "g (float[1,2,4,4] x) => (float[] y) <float[2,2,2,2] w>"
            "{ a = ConvTranspose (x, w) y = ConvTranspose (a, w) }",
            " (2 x ConvTranspose: no INT8 kernel for transposed convolution)",
        ),
        (
            "g (double[1,2,4,4] x) => (double[] y) <double[2,2,1,1] w> { y = Conv (x, w) }",
            " (1 x Conv: its weight is double, not float32)",
        ),
    ],
)
def test_a_model_in_which_nothing_can_be_quantized_is_refused_with_the_reasons(quantize, text, told):
    error = refused(quantize, text)
    assert (error.code, error.exit_status) == ("NNC-M052", 4)
    assert error.message == f"quantize: nothing in this model can be quantized{told}"


def test_each_kind_is_counted_by_itself(quantize):
    net = (
        "g (float[1,2,4,4] x) => (float[1,3] y) <float[2,2,1,1] w, float[32,3] v, float[3] b>"
        "{ a = Conv (x, w) c = Conv (a, w) d = Flatten (c) y = Gemm (d, v, b) }"
    )
    error = refused(quantize, net, skip=("*",))
    assert error.message == ("quantize: nothing in this model can be quantized (2 x Conv, 1 x Gemm: skipped by option)")


def test_skipping_everything_leaves_nothing(quantize):
    error = refused(quantize, CONV, skip=("*",))
    assert error.message == "quantize: nothing in this model can be quantized (1 x Conv: skipped by option)"


def test_a_model_of_other_domains_only_has_nothing_to_quantize(quantize):
    found = graph("g (float[2] x) => (float[2] y) { y = com.microsoft.Gelu (x) }")
    found.set_info(opsets={"com.microsoft": 1})
    assert refused(quantize, found).code == "NNC-M052"


# ------------------------------------------------------------------ data


def test_static_quantization_without_data_is_refused(quantize):
    error = refused(quantize, CONV, DataError, data=None)
    assert (error.code, error.exit_status) == ("NNC-D006", 2)
    assert error.message == "'first' and 0 more ops need calibration data"
    assert error.hint == "give --data with a folder of images, an .npz, or module:function; --data random to try it out"


def test_no_samples_are_refused(quantize):
    error = refused(quantize, CONV, DataError, data=[])
    assert error.code == "NNC-D004"


def test_a_failed_pass_leaves_the_graph_alone():
    found = graph(CONV)
    version = found.version
    with pytest.raises(UnsupportedError):
        nncomp.Pipeline([Quantize()]).run(found, nncomp.Context())
    assert found.version == version


# ------------------------------------------------------------------ targets


@pytest.mark.parametrize("target", [None, Capabilities(13, (7, 26))], ids=["none", "float only"])
def test_a_target_without_integer_kernels_is_refused(quantize, target):
    error = refused(quantize, CONV, target=target)
    assert (error.code, error.exit_status) == ("NNC-T002", 4)
    assert error.message == "quantize: the target has no integer kernels"
    assert error.hint == "compile for one that has: -t ort"


# ------------------------------------------------------------------ opsets (66)


@pytest.mark.row(66)
@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12])
def test_a_model_older_than_per_channel_scales_is_lifted_and_told(quantize, opset):
    made = quantize(CONV, opset=opset)
    assert made.before.opsets[""] == opset
    assert made.graph.opsets[""] == 13
    assert ("info", "", f"lifted from {opset} to 13") in made.notes
    assert made.constant("w_scale").shape == (4,)
    assert made.sqnr() > 30


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_a_newer_model_keeps_its_opset(quantize, opset):
    made = quantize(CONV, opset=opset)
    assert made.graph.opsets[""] == opset
    assert not [note for note in made.notes if note[0] == "info"]


@pytest.mark.row(67)
def test_only_forms_of_onnx_itself_are_written(quantize):
    assert {op.domain for op in quantize(CONV, opset=11).graph.ops()} == {""}


# ------------------------------------------------------------------ activations that say little (85, 86)


def images(*values):
    return [{"x": np.full((1, 3, 8, 8), value, np.float32)} for value in values]


def scales(made):
    return [made.graph.array(op.inputs[1]) for op in made.graph.ops() if op.kind == "QuantizeLinear"]


@pytest.mark.row(86)
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e38, -1e38, 3.4e38, 1e-38, 1e-44])
def test_a_constant_activation_gets_a_finite_scale_and_a_warning(quantize, method, value):
    made = quantize(CONV, data=images(value, value), method=method)
    assert ("NNC-W032", "x", f"in calibration, this value was always {np.float32(value):g}") in made.warnings
    assert all(0 < scale < np.inf for scale in scales(made))
    run(made.graph, made.feeds[0], optimize=True)


@pytest.mark.row(86)
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("value", [-3.0, 5.0, 1e38, -1e38, 1e-35])
def test_activations_of_one_sign_get_a_finite_scale_that_holds_zero(quantize, method, value):
    data = [{"x": np.linspace(value, value / 2, 192, dtype=np.float32).reshape(1, 3, 8, 8)}]
    made = quantize(CONV, data=data, method=method)
    assert all(0 < scale < np.inf for scale in scales(made))
    assert int(made.constant("x_zero_point")) == (255 if value < 0 and abs(value) > 1e-30 else 0)
    assert made.warnings == [] or value == 1e-35


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_activations_that_are_never_finite_are_warned_of(quantize, method):
    made = quantize(CONV, data=images(np.nan, np.inf), method=method)
    assert ("NNC-W032", "x", "in calibration, this value was never finite") in made.warnings
    assert all(0 < scale < np.inf for scale in scales(made))


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_values_that_are_not_finite_count_for_nothing(quantize, method):
    (clean,) = images(1.0)
    clean["x"][0, 0] = np.linspace(-1, 2, 64).reshape(8, 8)
    dirty = {"x": clean["x"].copy()}
    dirty["x"][0, 1, 0, 0] = np.nan
    made = [quantize(CONV, data=[one], method=method, bias_samples=0) for one in (clean, dirty)]
    assert made[0].constant("x_scale") == made[1].constant("x_scale")


def test_biases_are_left_alone_where_the_error_is_not_finite(quantize):
    made = quantize(CONV, data=images(np.nan), bias_samples=4)
    assert np.isfinite(made.constant("b_scale")).all()


def test_one_sample_is_enough(quantize):
    assert quantize(CONV, samples=1).sqnr() > 30


# ------------------------------------------------------------------ types (34)


@pytest.mark.row(34)
def test_half_precision_weights_are_carried_bit_by_bit(quantize):
    text = """
    g (float16[1,3,8,8] x, float[2,8] r) => (float16[] y, float[] z) <float16[4,3,1,1] w, float[8,4] w2>
    { y = Conv (x, w) z = Gemm (r, w2) }
    """
    made = quantize(text)
    assert made.constant("w").tobytes() == made.before.array(made.before.find("w")).tobytes()
    assert made.ctx.results["quantize"]["left_float"] == {"Conv(y)": "its weight is float16, not float32"}


def test_integer_products_are_left_alone(quantize):
    made = quantize("""
    g (int32[2,3] i, float[2,8] r) => (int32[2,4] y, float[] z) <int32[3,4] w, float[8,4] w2>
    { y = MatMul (i, w) z = Gemm (r, w2) }
    """)
    assert_same_function(made.before, made.graph, feeds=made.feeds[0], atol=0.1)
    assert made.ctx.results["quantize"]["left_float"] == {"MatMul(y)": "its weight is int32, not float32"}
