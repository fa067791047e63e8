"""Codes are those of ONNX Runtime's integer kernels, all of them, whatever the scales and zero points."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("tvm")

from nncomp.onnx_io import graph_from_proto
from nncomp.ops import builtin_table
from nncomp_tvm.kernels import CpuTarget, build_cpu
from nncomp_tvm.library import relax, tensor, tvm
from nncomp_tvm.lowering import Sizes, lower


class Model:
    """A float input that is quantized, and what is written behind it."""

    def __init__(self, shape, seed, kind="uint8", zeros=None):
        self.rng, self.kind, self.zeros = np.random.default_rng(seed), np.dtype(kind), zeros
        self.limits = np.iinfo(kind)
        self.nodes, self.constants, self.feeds = [], [], {}
        self.shape = shape

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind, *inputs, **attrs):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attrs))
        return name

    def scale(self, coarse=1):
        """A scale and a zero point: any, or one of the ends."""
        zero = self.rng.integers(self.limits.min, self.limits.max + 1)
        zero = {"low": self.limits.min, "high": self.limits.max}.get(self.zeros, zero)
        return self.constant(np.float32(coarse * self.rng.uniform(0.01, 0.1))), self.constant(self.kind.type(zero))

    def input(self, shape=None):
        """Random numbers as codes, some of them beyond the last one, dequantized."""
        name, shape = f"x{len(self.feeds)}", shape or self.shape
        scale, zero = self.scale()
        low, high = self.limits.min - 40, self.limits.max + 40
        reals = self.rng.uniform(low, high, shape) - int(self.value(zero))
        self.feeds[name] = (reals * self.value(scale)).astype(np.float32)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", name, scale, zero), scale, zero), scale

    def value(self, name):
        return numpy_helper.to_array(next(one for one in self.constants if one.name == name))

    def weights(self, shape, *, scale, axis=0, per_channel=True, bias=True):
        """int8 weights and an int32 bias in units of their sums, dequantized."""
        count = shape[axis]
        scales = self.rng.uniform(0.0005, 0.004, count if per_channel else ()).astype(np.float32)
        stored = self.constant(self.rng.integers(-127, 128, shape).astype(np.int8))
        zeros = self.constant(np.zeros(scales.shape, np.int8))
        w = self.op("DequantizeLinear", stored, self.constant(scales), zeros, axis=axis)
        if not bias:
            return (w,)
        whole = self.constant(self.rng.integers(-(2**15), 2**15, count).astype(np.int32))
        units = self.constant(self.value(scale) * scales)
        return w, self.op("DequantizeLinear", whole, units, self.constant(np.zeros(scales.shape, np.int32)), axis=0)

    def quantized(self, value, scale=None):
        self.op("QuantizeLinear", value, *(scale or self.scale()))
        return self

    def proto(self):
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in self.feeds.items()]
        output = onnx.ValueInfoProto(name=self.nodes[-1].output[0])
        graph = helper.make_graph(self.nodes, "g", inputs, [output], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


def of_onnxruntime(model, folder):
    """Return results, and the kinds of kernels that gave them."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(model.proto().SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, model.feeds)
    return result, [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def of_tvm(model, cpu=None):
    graph = graph_from_proto(model.proto())
    shapes = {name: array.shape for name, array in model.feeds.items()}
    lowered = lower(graph, builtin_table(), Sizes(shapes, model.feeds))
    built = build_cpu(lowered.module, cpu or CpuTarget.host())
    machine = relax.VirtualMachine(built.executable, tvm.cpu())
    return machine["main"](*[tensor(model.feeds[port.name]) for port in lowered.inputs], *built.parameters).numpy()


def convolution(model, columns=12, bias=True, per_channel=True, bound=None, **attrs):
    x, scale = model.input()
    kernel = attrs.pop("kernel", 3)
    channels = model.shape[1] // attrs.get("group", 1)
    w = model.weights((columns, channels, kernel, kernel), scale=scale, bias=bias, per_channel=per_channel)
    y, last = model.op("Conv", x, *w, **attrs), None
    low = model.constant(model.kind.type(model.limits.min))
    if bound == "Relu":
        y, last = model.op("Relu", y), (model.scale()[0], low)
    elif bound == "Relu6":
        y = model.op("Clip", y, model.constant(np.float32(0)), model.constant(np.float32(6)))
        last = model.constant(np.float32(6 / 255)), low
    return model.quantized(y, last)


def product(model, bias):
    x, scale = model.input()
    w = model.weights((model.shape[-1], 10), scale=scale, axis=1, per_channel=False, bias=bias)
    return model.quantized(model.op("Gemm" if bias else "MatMul", x, *w))


def of_two(model, kind, other=None):
    (x, _), (y, _) = model.input(), model.input(other)
    return model.quantized(model.op(kind, x, y), model.scale(coarse=1 if kind == "Add" else 8))


def of_one(model, kind, *, same=False, **attrs):
    x, scale = model.input()
    zero = model.nodes[-1].input[2]
    return model.quantized(model.op(kind, x, **attrs), (scale, zero) if same else None)


def behind_a_convolution(model, kind, **attrs):
    """Images lie channels last behind a convolution, where averages are of codes."""
    x, scale = model.input()
    y = model.op("Conv", x, *model.weights((32, model.shape[1], 1, 1), scale=scale))
    y = model.op("DequantizeLinear", model.op("QuantizeLinear", y, *(between := model.scale())), *between)
    return model.quantized(model.op(kind, y, **attrs))


IMAGE, MATRIX = (1, 8, 6, 7), (5, 12)
KERNELS = {
    "convolution": (IMAGE, "QLinearConv", lambda m: convolution(m, pads=[1, 1, 1, 1])),
    "one scale": (IMAGE, "QLinearConv", lambda m: convolution(m, per_channel=False, bias=False)),
    "relu": (IMAGE, "QLinearConv", lambda m: convolution(m, bound="Relu", strides=[2, 2])),
    "relu6": (IMAGE, "QLinearConv", lambda m: convolution(m, bound="Relu6", pads=[0, 1, 1, 0])),
    "three channels": ((1, 3, 6, 7), "QLinearConv", lambda m: convolution(m, pads=[1, 1, 1, 1])),
    "groups": (IMAGE, "QLinearConv", lambda m: convolution(m, group=2)),
    "depthwise": (IMAGE, "QLinearConv", lambda m: convolution(m, columns=8, group=8, bound="Relu")),
    "depthwise, two of each": (IMAGE, "QLinearConv", lambda m: convolution(m, columns=16, group=8)),
    "gemm": (MATRIX, "QGemm", lambda m: product(m, bias=True)),
    "matmul": (MATRIX, "QLinearMatMul", lambda m: product(m, bias=False)),
    "odd matmul": ((5, 7), "QLinearMatMul", lambda m: product(m, bias=False)),
    "activations": ((2, 4, 6), "QLinearMatMul", lambda m: of_two(m, "MatMul", (2, 6, 9))),
    "add": (IMAGE, "QLinearAdd", lambda m: of_two(m, "Add")),
    "add a row": (IMAGE, "QLinearAdd", lambda m: of_two(m, "Add", (7,))),
    "mul": (IMAGE, "QLinearMul", lambda m: of_two(m, "Mul")),
    "average": (IMAGE, "QLinearGlobalAveragePool", lambda m: behind_a_convolution(m, "GlobalAveragePool")),
    "maximum": (IMAGE, "MaxPool", lambda m: of_one(m, "MaxPool", same=True, kernel_shape=[2, 2], pads=[0, 0, 1, 1])),
    "sigmoid": (IMAGE, "QLinearSigmoid", lambda m: of_one(m, "Sigmoid")),
    "leaky relu": (IMAGE, "QLinearLeakyRelu", lambda m: of_one(m, "LeakyRelu", alpha=0.1)),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_codes_are_equal(tmp_path, name):
    shape, kernel, build = KERNELS[name]
    model = build(Model(shape, seed=len(name)))
    expected, kinds = of_onnxruntime(model, tmp_path)
    assert kernel in kinds
    assert len(np.unique(expected)) > 8
    np.testing.assert_array_equal(of_tvm(model), expected)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(sorted(KERNELS)),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["uint8", "int8"]),
    st.sampled_from([None, "low", "high"]),
)
def test_codes_are_equal_whatever_the_scales(tmp_path_factory, name, seed, kind, zeros):
    """Signed ones, too, and zero points at the ends. ONNX Runtime leaves some of the signed ones in float."""
    shape, _, build = KERNELS[name]
    model = build(Model(shape, seed, kind, zeros))
    expected, _ = of_onnxruntime(model, tmp_path_factory.mktemp("ort"))
    np.testing.assert_array_equal(of_tvm(model), expected)


def test_windows_are_averaged_to_within_one_step(tmp_path):
    """ONNX Runtime sums rounded numbers there, so that halves fall to either side."""
    model = of_one(Model((1, 24, 9, 9), seed=3), "AveragePool", same=True, kernel_shape=[2, 2])
    expected, kinds = of_onnxruntime(model, tmp_path)
    assert "QLinearAveragePool" in kinds
    steps = np.abs(of_tvm(model).astype(int) - expected)
    assert steps.max() <= 1
    assert (steps > 0).mean() < 0.05


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_computed_from_dynamic_codes_is_equal(tmp_path, order):
    """DynamicQuantizeLinear and MatMulInteger: products are rounded before the bias is added."""
    model = Model((6, 16), seed=1)
    model.feeds["x0"] = model.rng.standard_normal((6, 16)).astype(np.float32)
    model.nodes.append(helper.make_node("DynamicQuantizeLinear", ["x0"], ["q", "s", "z"]))
    w = model.constant(model.rng.integers(-127, 128, (16, 40)).astype(np.int8))
    total = model.op("Cast", model.op("MatMulInteger", "q", w, "z"), to=1)
    scale = model.op("Mul", "s", model.constant(model.rng.uniform(0.001, 0.01, 40).astype(np.float32)))
    bias = model.constant(model.rng.standard_normal(40).astype(np.float32))
    model.op("Add", *((bias, model.op("Mul", total, scale))[::order]))
    expected, kinds = of_onnxruntime(model, tmp_path)
    assert "DynamicQuantizeMatMul" in kinds
    np.testing.assert_array_equal(of_tvm(model), expected)


def test_dynamic_codes_of_an_image_are_read_channels_last(tmp_path):
    """Their zero point is no image: it stays as it is."""
    model = Model((1, 4, 6, 8), seed=4)
    model.feeds["x0"] = model.rng.standard_normal(model.shape).astype(np.float32)
    pooled = model.op("MaxPool", "x0", kernel_shape=[2, 1])
    model.nodes.append(helper.make_node("DynamicQuantizeLinear", [pooled], ["q", "s", "z"]))
    w = model.constant(model.rng.integers(-127, 128, (8, 12)).astype(np.int8))
    total = model.op("Cast", model.op("MatMulInteger", "q", w, "z"), to=1)
    model.op("Mul", total, "s")
    expected, _ = of_onnxruntime(model, tmp_path)
    np.testing.assert_array_equal(of_tvm(model), expected)


def test_an_older_cpu_gives_the_same_codes(tmp_path):
    model = KERNELS["relu6"][2](Model(IMAGE, seed=5))
    expected, _ = of_onnxruntime(model, tmp_path)
    for cpu in ("haswell", "x86-64"):
        np.testing.assert_array_equal(of_tvm(model, CpuTarget.named(cpu)), expected)


def test_a_sum_that_float32_does_not_hold_is_no_sum_of_whole_numbers(tmp_path):
    """Of 65,000 pixels: 255 n >= 2^24, so it stays in real numbers, to within one step."""
    model = behind_a_convolution(Model((1, 4, 258, 258), seed=2), "GlobalAveragePool")
    expected, _ = of_onnxruntime(model, tmp_path)
    assert np.abs(of_tvm(model).astype(int) - expected).max() <= 1
