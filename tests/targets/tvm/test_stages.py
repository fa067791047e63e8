"""The gate on quantized graphs: a mistake in one layer is found there, numbers between two codes may become either."""

import re

import numpy as np
import pytest

import nncomp
from nncomp.testing import graph as parsed
from nncomp_tvm.gating import Judge
from nncomp_tvm.stages import Stages, quantizes

FLOAT = """g (float[1,3,10,10] x) => (float[1,5] y) <
    float[8,3,3,3] w0, float[8] b0, float[24,8,1,1] w1, float[24] b1, float[24,1,3,3] w2, float[24] b2,
    float[8,24,1,1] w3, float[8] b3, float[8,5] w4, float[5] b4, float low = {0}, float high = {6}> {
    s = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w0, b0)
    stem = Clip (s, low, high)
    e = Conv (stem, w1, b1)
    expanded = Clip (e, low, high)
    d = Conv <group = 24, pads = [1,1,1,1]> (expanded, w2, b2)
    deep = Clip (d, low, high)
    projected = Conv (deep, w3, b3)
    sum = Add (projected, stem)
    mean = GlobalAveragePool (sum)
    flat = Flatten (mean)
    y = Gemm (flat, w4, b4)
}"""


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def feeds(rng):
    return {"x": rng.standard_normal((1, 3, 10, 10)).astype(np.float32)}


@pytest.fixture(scope="module")
def residual(rng, feeds):
    """An inverted residual block, as MobileNetV2 has them, quantized."""
    model = parsed(FLOAT, opset=18, seed=1)
    return nncomp.compile(model, "ort", passes=["quantize"], data=[feeds], measure=False).graph


def build(graph, feeds, change=lambda graph: None):
    """Compile a graph after ``change`` was done to a copy of it."""
    pytest.importorskip("tvm")
    from nncomp.ops import builtin_table
    from nncomp_tvm.artifact import TvmArtifact
    from nncomp_tvm.code import Compiled
    from nncomp_tvm.kernels import CpuTarget, build_cpu
    from nncomp_tvm.lowering import Sizes, lower
    from nncomp_tvm.manifest import Manifest

    copy = graph.clone()
    change(copy)
    lowered = lower(copy, builtin_table(), Sizes({name: array.shape for name, array in feeds.items()}, feeds))
    built = build_cpu(lowered.module, CpuTarget.host())
    manifest = Manifest(lowered.inputs, lowered.outputs, "cpu", {}, "", lowered.pinned)
    return TvmArtifact(Compiled(built.executable, to_keep=False), manifest, 1, parameters=built.parameters)


def constant(graph, layer, slot, part, change):
    """Change a constant of the conversion at input ``slot`` of a layer, that which gives ``layer``."""
    (op,) = [op for op in graph.ops() if op.outputs[0].name.startswith(layer) and op.kind in ("Conv", "Gemm")]
    conversion = op.inputs[slot].producer
    assert conversion.kind == "DequantizeLinear"
    old = conversion.inputs[part]
    new = graph.add_constant(f"{old.name}_changed", np.asarray(change(old.const.numpy())))
    graph.set_input(conversion, part, new)


def one_channel(scales):
    return np.where(np.arange(len(scales)) == 5, scales * np.float32(1.1), scales)


def rounded_otherwise(scales):
    return scales * np.float32(1 + 2e-6)


MISTAKES = {
    "a zero point": ("e", 0, 2, lambda zero: (zero + 1).astype(zero.dtype)),
    "one channel's scale": ("projected", 1, 1, one_channel),
    "a bias": ("d", 2, 0, np.zeros_like),
    "another zero point": ("projected", 0, 2, lambda zero: (zero + 1).astype(zero.dtype)),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_in_one_layer_is_found_there(residual, feeds, what):
    layer = MISTAKES[what][0]

    def wrong(graph, fed):
        return build(graph, fed, lambda copy: constant(copy, *MISTAKES[what]))

    problem = Judge(residual, wrong(residual, feeds), wrong).problem(feeds)
    behind = {"e": "expanded", "d": "deep"}.get(layer, layer)
    assert re.match(
        rf"(Clip|Conv)\({behind}\): \d+ of \d+ codes '{behind}_quantized' lie up to \S+ steps from ", problem
    )


def test_what_is_right_equals_onnxruntime_and_is_built_once(residual, feeds):
    def never(graph, fed):
        raise AssertionError

    assert Judge(residual, build(residual, feeds), never).problem(feeds) == ""


def test_numbers_between_two_codes_may_become_either(residual, feeds):
    """A scale that differs in its last bits moves some of them; at the end that is more than floats may differ."""

    def otherwise(graph, fed):
        def change(copy):
            for layer in ("s", "e", "d", "projected"):
                constant(copy, layer, 1, 1, rounded_otherwise)

        return build(graph, fed, change)

    built = otherwise(residual, feeds)
    assert Judge(residual, built, otherwise).problem(feeds) == ""


def test_a_whole_that_is_put_together_otherwise_is_wrong_all_the_same(residual, feeds):
    """Each stage is right, the model is not."""
    other = build(residual, feeds, lambda copy: constant(copy, "y", 0, 1, lambda scale: -scale))
    problem = Judge(residual, other, build).problem(feeds)
    assert re.fullmatch(r"output 'y' is \S+ relative away from ONNX Runtime's", problem)


def test_scales_computed_from_numbers_end_a_stage_in_numbers():
    model = parsed(
        """g (float[4,8] x) => (float[4,6] y) <float[8,8] v, int8[8,6] w> {
            r = MatMul (x, v)
            q, s, z = DynamicQuantizeLinear (r)
            t = MatMulInteger (q, w, z)
            f = Cast <to = 1> (t)
            y = Mul (f, s)
        }""",
        opset=18,
    )
    stages = Stages.of(model)
    assert [(stage.value, stage.fed, stage.real) for stage in stages.stages] == [("r", "r_fed", "")]
    assert [value.name for value in stages.graph.outputs] == ["y", "r"]
    feeds = {"x": np.ones((4, 8), np.float32)}

    def wrong(graph, fed):
        def change(copy):
            (product,) = [op for op in copy.ops() if op.kind == "MatMul"]
            new = copy.add_constant("changed", product.inputs[1].const.numpy() * np.float32(1.01))
            copy.set_input(product, 1, new)

        return build(graph, fed, change)

    problem = Judge(model, wrong(model, feeds), wrong).problem(feeds)
    assert problem == "MatMul(r): output 'r' is 0.01 relative away from ONNX Runtime's"


def test_kernels_on_codes_are_cut_behind_their_conversions():
    model = parsed(
        """g (uint8[2,4] x) => (uint8[2,3] y)
        <float s = {0.5}, uint8 z = {3}, int8[4,3] w, float t = {0.25}, int8 n = {0}> {
            y = QLinearMatMul (x, s, z, w, t, n, s, z)
        }""",
        opset=18,
    )
    stages = Stages.of(model)
    assert [op.kind for op in stages.graph.ops()][-2:] == ["MatMul", "QuantizeLinear"]
    feeds = {"x": np.arange(8, dtype=np.uint8).reshape(2, 4)}
    captured = stages.captured(feeds)
    (stage,) = stages.stages
    assert stage.misfit(captured[stage.real], captured["y"]) == ""
    off = captured["y"] + np.uint8(1)
    assert stage.misfit(captured[stage.real], off) == (
        "4 of 6 codes 'y' lie up to 1.5 steps from the numbers that they round"
    )


def test_a_graph_that_quantizes_in_a_body_cannot_be_cut():
    model = parsed(
        """g (bool c, float[2] x) => (float[2] y) <float s = {0.5}, uint8 z = {3}> {
            y = If (c) <
                then_branch = t () => (float[2] a) { q = QuantizeLinear (x, s, z) a = DequantizeLinear (q, s, z) },
                else_branch = e () => (float[2] b) { b = Identity (x) }>
        }""",
        opset=18,
    )
    assert quantizes(model)
    assert Stages.of(model) is None


def test_a_scale_that_is_computed_cannot_be_cut():
    model = parsed(
        "g (float[2] x, float[] s) => (uint8[2] y) <uint8 z = {3}> { y = QuantizeLinear (x, s, z) }", opset=18
    )
    assert Stages.of(model) is None
