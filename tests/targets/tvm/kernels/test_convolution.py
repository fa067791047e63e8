"""Convolutions against numpy, for all that can be odd about them."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("tvm")

from nncomp_tvm.kernels import ByteDot, CpuTarget
from nncomp_tvm.kernels.gpu.device import GpuDevice
from nncomp_tvm.kernels.gpu.tiling import TILES, GpuTile
from nncomp_tvm.kernels.tiling import Contraction
from nncomp_tvm.library import relax


def convolved(x, w, strides=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1), groups=1):
    """NCHW x OIHW -> NCHW, in the type of x."""
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(2, 3))
    windows = windows[:, :, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]
    parts = [
        np.einsum("nchwij,ocij->nohw", a, b)
        for a, b in zip(np.split(windows, groups, 1), np.split(w, groups, 0), strict=True)
    ]
    return np.concatenate(parts, 1)


# input, weights, what is passed to conv2d
CASES = {
    "odd channels": ((1, 3, 7, 9), (5, 3, 3, 3), {"padding": (1, 1, 1, 1)}),
    "stride": ((1, 8, 9, 10), (20, 8, 3, 3), {"padding": (1, 1, 1, 1), "strides": (2, 2)}),
    "dilation, one side padded": ((1, 4, 11, 9), (17, 4, 3, 3), {"padding": (0, 2, 3, 0), "dilation": (2, 2)}),
    "groups": ((2, 8, 6, 5), (36, 4, 3, 3), {"padding": (1, 1, 1, 1), "groups": 2}),
    "1 x 1": ((2, 12, 5, 3), (40, 12, 1, 1), {}),
    "1 x 1, stride": ((2, 8, 5, 6), (16, 8, 1, 1), {"strides": (2, 2)}),
    "long kernel": ((1, 4, 4, 23), (16, 4, 1, 7), {"padding": (0, 3, 0, 3)}),
    "depthwise": ((2, 21, 9, 7), (21, 1, 3, 3), {"padding": (1, 1, 1, 1), "groups": 21}),
    "depthwise, stride": ((1, 16, 9, 12), (16, 1, 5, 5), {"padding": (2, 2, 2, 2), "strides": (2, 2), "groups": 16}),
    "multiplier": ((1, 4, 6, 6), (8, 1, 3, 3), {"padding": (1, 1, 1, 1), "groups": 4}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_convolution_agrees_with_numpy(bench, rng, case):
    shape, weights, options = case
    x, w = rng.standard_normal(shape, np.float32), rng.standard_normal(weights, np.float32)
    got, built = bench.run(lambda _, v: relax.op.nn.conv2d(v, relax.const(w), **options), x)
    expected = convolved(x, w, **as_numpy(options))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert built.kernels[0].ops == ("nn.conv2d",)


def test_convolutions_of_rows_are_chained_as_images_of_one_row(bench, rng):
    """Bias and activation are fused, a residual of other origin too; in between nothing is transposed."""
    x, w = rng.standard_normal((2, 5, 13), np.float32), rng.standard_normal((6, 5, 3), np.float32)
    v, bias = rng.standard_normal((6, 1, 3), np.float32), rng.standard_normal((6, 1), np.float32)
    other = rng.standard_normal((2, 6, 7), np.float32)

    def body(builder, value, residual):
        y = builder.emit(relax.op.nn.conv1d(value, relax.const(w), strides=2, padding=(1, 1)))
        y = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(y, relax.const(bias)))))
        y = builder.emit(relax.op.nn.conv1d(y, relax.const(v), padding=(0, 2), groups=6))
        return relax.op.add(y, residual)

    got, built = bench.run(body, x, other)
    middle = np.maximum(convolved(x[:, :, None], w[:, :, None], (1, 2), (0, 1, 0, 1)) + bias[:, None], 0)
    expected = convolved(middle, v[:, :, None], (1, 1), (0, 0, 0, 2), groups=6)[:, :, 0] + other
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert [kernel.ops for kernel in built.kernels] == [("nn.conv2d", "add", "nn.relu"), ("nn.conv2d", "add")]


@pytest.mark.parametrize("axes", [1, 2])
def test_a_number_that_is_computed_follows_a_convolution(bench, rng, axes):
    x, w = rng.standard_normal((1, 4, *[6] * axes), np.float32), rng.standard_normal((5, 4, *[1] * axes), np.float32)
    convolve = relax.op.nn.conv1d if axes == 1 else relax.op.nn.conv2d
    factor = np.array(3.0, np.float32)
    got, _ = bench.run(lambda builder, v, f: relax.op.multiply(builder.emit(convolve(v, relax.const(w))), f), x, factor)
    np.testing.assert_allclose(got, 3 * np.einsum("nc...,oc->no...", x, w.reshape(5, 4)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("window", "strides", "ours"), [((2, 3), (2, 3), True), ((3, 3), (2, 2), False)], ids=["apart", "overlapping"]
)
def test_a_transposed_convolution_agrees_with_numpy(bench, rng, window, strides, ours):
    x, w = rng.standard_normal((2, 5, 4, 6), np.float32), rng.standard_normal((5, 7, *window), np.float32)

    def body(builder, v):
        return relax.op.nn.relu(builder.emit(relax.op.nn.conv2d_transpose(v, relax.const(w), strides=strides)))

    got, built = bench.run(body, x)
    expected = np.zeros(got.shape)
    for row in range(4):
        for column in range(6):
            top, left = row * strides[0], column * strides[1]
            part = np.einsum("nc,cohw->nohw", x[:, :, row, column], w)
            expected[:, :, top : top + window[0], left : left + window[1]] += part
    np.testing.assert_allclose(got, np.maximum(expected, 0), rtol=1e-4, atol=1e-5)
    assert any("nn.conv2d" in kernel.ops for kernel in built.kernels) == ours


@pytest.mark.parametrize("zero", [0, 7, 128])
@pytest.mark.parametrize("name", ["stride", "groups", "1 x 1", "depthwise", "dilation, one side padded"])
def test_bytes_are_multiplied_exactly(bench, rng, name, zero):
    """The scales are powers of two, so that float32 holds the sums: not one step may differ."""
    assert_exact(bench, rng, *CASES[name], zero)


def test_older_cpus_multiply_bytes_exactly_too(any_bench, rng):
    """Largest factors: 16-bit sums would saturate."""
    assert_exact(any_bench, rng, (1, 8, 5, 6), (20, 8, 3, 3), {"padding": (1, 1, 1, 1)}, 3, extreme=True)


def assert_exact(bench, rng, shape, weights, options, zero, *, extreme=False):
    x, body, expected = exactly(rng, shape, weights, options, zero, extreme=extreme)
    got, built = bench.run(body, x)
    np.testing.assert_array_equal(got, expected)
    assert built.kernels[0].integer
    assert built.kernels[0].ops == ("nn.conv2d", "quantize")


def exactly(rng, shape, weights, options, zero, *, extreme=False):
    """Return an input, a convolution of it, and its result."""
    x = rng.integers(0, 256, shape).astype(np.uint8)
    w = rng.integers(-128, 128, weights).astype(np.int8)
    if extreme:
        x, w = np.full_like(x, 255), np.where(w < 0, -128, 127).astype(np.int8)
    scales = np.float32(2.0) ** rng.integers(-9, -5, weights[0]).astype(np.float32)
    sums = convolved(x.astype(np.int32) - zero, w.astype(np.int32), **as_numpy(options))
    real = sums * (0.5 * scales.astype(np.float64))[:, None, None]
    return x, quantized(w, scales, zero, options), np.clip(np.rint(real / 4) + 100, 0, 255).astype(np.uint8)


def as_numpy(options):
    return {{"padding": "pads"}.get(key, key): value for key, value in options.items()}


def quantized(w, scales, zero, options):
    """A convolution of u8 with scale 0.5 and zero point ``zero``; its result has scale 4 and zero point 100."""

    def body(builder, v):
        real = builder.emit(relax.op.dequantize(v, relax.const(np.float32(0.5)), relax.const(np.uint8(zero))))
        zeros = relax.const(np.zeros_like(scales, np.int8))
        weight = builder.emit(relax.op.dequantize(relax.const(w), relax.const(scales), zeros, axis=0))
        total = builder.emit(relax.op.nn.conv2d(real, weight, **options))
        return relax.op.quantize(total, relax.const(np.float32(4.0)), relax.const(np.uint8(100)), out_dtype="uint8")

    return body


@pytest.mark.parametrize(
    ("shape", "weights", "options"),
    [
        ((1, 40, 9, 9), (3, 3), {"padding": (2, 0, 2, 2), "dilation": (2, 2)}),
        ((2, 16, 3, 7), (5, 3), {"padding": (4, 1, 3, 1)}),  # every output line sees other rows
        ((1, 24, 12, 6), (6, 2), {"padding": (3, 1, 0, 0), "strides": (2, 1)}),  # two groups of rows, blocks overlap
        ((1, 11, 5, 5), (1, 4), {"padding": (0, 2, 0, 1)}),  # half a vector of channels
        ((1, 5, 6, 6), (3, 3), {"padding": (1, 1, 1, 1)}),  # too few channels for products of four rows
    ],
)
@pytest.mark.parametrize("zero", [0, 200])
def test_depthwise_convolutions_of_bytes_are_exact(bench, rng, shape, weights, options, zero):
    channels = shape[1]
    assert_exact(bench, rng, shape, (channels, 1, *weights), {**options, "groups": channels}, zero)


def test_a_depthwise_convolution_multiplies_bytes(bench, rng):
    body = quantized(rng.integers(-128, 128, (16, 1, 3, 3)).astype(np.int8), np.ones(16, np.float32), 0, {"groups": 16})
    built = type(bench)(CpuTarget.named("icelake-server")).build(body, np.zeros((1, 16, 6, 6), np.uint8))
    assert "vpdpbusd" in built.executable.mod.imports[0].inspect_source("asm")


@pytest.mark.parametrize(("mcpu", "instruction"), [("icelake-server", "vpdpbusd"), ("haswell", "vpmaddwd")])
def test_the_machine_code_multiplies_bytes(bench, rng, mcpu, instruction):
    body = quantized(rng.integers(-128, 128, (16, 8, 1, 1)).astype(np.int8), np.ones(16, np.float32), 0, {})
    built = type(bench)(CpuTarget.named(mcpu)).build(body, np.zeros((1, 8, 4, 4), np.uint8))
    assert instruction in built.executable.mod.imports[0].inspect_source("asm")


def test_what_a_cpu_has_is_llvms_knowledge():
    assert CpuTarget.named("icelake-server").dot is ByteDot.VNNI
    assert (CpuTarget.named("skylake-avx512").dot, CpuTarget.named("skylake-avx512").lanes) == (ByteDot.WIDENED, 16)
    assert (CpuTarget.named("haswell").dot, CpuTarget.named("haswell").lanes) == (ByteDot.WIDENED, 8)
    assert (CpuTarget.named("x86-64").dot, CpuTarget.named("x86-64").lanes) == (ByteDot.PLAIN, 4)


@pytest.fixture
def cut_as(monkeypatch):
    """Return a function that has GPU kernels cut in the tiles that it is given, one after the other."""

    def choose(tiles):
        following = iter([GpuTile(*TILES[tile % len(TILES)], 8 << tile % 2) for tile in tiles])
        monkeypatch.setattr("nncomp_tvm.kernels.gpu.device.candidates", lambda shape: [next(following)])

    return choose


def run_together(gpu, cases):
    """Run convolutions as one module, because a C++ compiler takes seconds; return their kernels."""
    inputs, bodies, expected = zip(*cases, strict=True)

    def body(builder, *values):
        return relax.Tuple([builder.emit(part(builder, value)) for part, value in zip(bodies, values, strict=True)])

    got, built = gpu.run(body, *inputs, outputs=len(inputs))
    for found, wanted in zip(got, expected, strict=True):
        if found.dtype == np.uint8:
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    return built.kernels


def test_a_gpu_multiplies_bytes_exactly(gpu, rng, cut_as):
    cut_as(range(len(CASES)))
    kernels = run_together(gpu, [exactly(rng, *case, int(rng.integers(0, 256))) for case in CASES.values()])
    assert {(kernel.ops, kernel.integer) for kernel in kernels} == {(("nn.conv2d", "quantize"), True)}


def test_a_gpu_multiplies_floats(gpu, rng, cut_as):
    cut_as(range(8, 14))

    def case(shape, weights, options):
        x, w = rng.standard_normal(shape, np.float32), rng.standard_normal(weights, np.float32)
        return x, lambda _, v: relax.op.nn.conv2d(v, relax.const(w), **options), convolved(x, w, **as_numpy(options))

    names = ("odd channels", "groups", "1 x 1", "stride", "long kernel", "multiplier", "depthwise")
    kernels = run_together(gpu, [case(*CASES[name]) for name in names])
    assert {(kernel.ops, kernel.integer) for kernel in kernels} == {(("nn.conv2d",), False)}


def test_a_gpu_pools_bytes(gpu, rng):
    """With one scale and zero point, a maximum is that of the codes; averages are rounded half to even."""
    x = rng.integers(0, 256, (2, 20, 6, 7)).astype(np.uint8)

    def pooled(operator, **options):
        def body(builder, codes):
            scale, zero = relax.const(np.float32(0.5)), relax.const(np.uint8(6))
            real = builder.emit(relax.op.dequantize(codes, scale, zero))
            return relax.op.quantize(builder.emit(operator(real, **options)), scale, zero, out_dtype="uint8")

        return body

    seen = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), axis=(2, 3))
    fours = x[..., :6].reshape(2, 20, 3, 2, 3, 2).mean((3, 5))
    cases = [
        (x, pooled(relax.op.nn.max_pool2d, pool_size=(3, 3), padding=(1, 1, 1, 1)), seen.max((4, 5))),
        (x, pooled(relax.op.nn.avg_pool2d, pool_size=(2, 2), strides=(2, 2)), np.rint(fours).astype(np.uint8)),
    ]
    kernels = run_together(gpu, cases)
    assert [kernel.ops for kernel in kernels] == [("nn.max_pool2d", "quantize"), ("nn.avg_pool2d", "quantize")]


@pytest.mark.parametrize(("batch", "taken"), [((1 << 17) - 1, True), (1 << 17, False)])
def test_what_32_bits_do_not_count_has_no_kernel_for_a_gpu(batch, taken):
    x = relax.Var("x", relax.TensorType((batch, 64, 64, 4), "float32"))
    shape, output = Contraction(batch, 64, 64, 4, 4), (batch, 64, 64, 4)
    found = GpuDevice().contraction(x, np.zeros((1, 1, 1, 4, 4), np.float32), shape, output)
    assert (found is not None) == taken


def test_a_gpu_reads_halves_and_sums_floats(gpu, rng):
    x = rng.standard_normal((1, 17, 6, 5), np.float32)
    w, v = rng.standard_normal((20, 17, 3, 3), np.float32), rng.standard_normal((20, 1, 3, 3), np.float32)

    def body(builder, value):
        first = builder.emit(relax.op.nn.relu(builder.emit(relax.op.nn.conv2d(value, relax.const(w)))))
        return relax.op.nn.conv2d(first, relax.const(v), groups=20)

    def halves(array):
        return array.astype(np.float16).astype(np.float32)

    got, built = gpu.run(body, x, half=True)
    first = halves(np.maximum(convolved(halves(x), halves(w)), 0))
    np.testing.assert_allclose(got, convolved(first, halves(v), groups=20), rtol=1e-3, atol=1e-3)
    assert [kernel.ops for kernel in built.kernels] == [("astype",), ("nn.conv2d", "nn.relu", "astype"), ("nn.conv2d",)]


SIZES = st.integers(1, 9)
SHAPES = st.fixed_dictionaries(
    {
        "image": st.tuples(st.integers(1, 2), SIZES, SIZES),
        "channels": st.sampled_from([1, 3, 4, 16, 17, 20, 33]),
        "columns": st.sampled_from([1, 3, 6, 17, 20, 36]),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 3)),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 2)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 3)),
        "padding": st.tuples(*[st.integers(0, 3)] * 4),
        "groups": st.integers(1, 3),
        "zero": st.integers(0, 255),
        "tile": st.integers(0, 2 * len(TILES)),
    }
)


def fits(one):
    (_, height, width), (top, left, bottom, right) = one["image"], one["padding"]
    seen = [(k - 1) * d + 1 for k, d in zip(one["kernel"], one["dilation"], strict=True)]
    return seen[0] <= height + top + bottom and seen[1] <= width + left + right


@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(SHAPES.filter(fits), min_size=6, max_size=6), st.integers(0, 2**32 - 1))
def test_a_gpu_multiplies_bytes_of_any_shape_exactly(gpu, cut_as, shapes, seed):
    cut_as(one["tile"] for one in shapes if one["channels"] > 1 or one["columns"] > 1)
    rng = np.random.default_rng(seed)

    def case(one):
        (batch, *image), groups = one["image"], one["groups"]
        options = {name: one[name] for name in ("strides", "dilation", "padding", "groups")}
        weights = (groups * one["columns"], one["channels"], *one["kernel"])
        return exactly(rng, (batch, groups * one["channels"], *image), weights, options, one["zero"])

    assert all(kernel.integer for kernel in run_together(gpu, [case(one) for one in shapes]))


def test_a_gpu_takes_open_batches_and_zero_points_that_are_computed(gpu, rng):
    x, zero = rng.integers(0, 256, (3, 5, 6, 7)).astype(np.uint8), np.array(9, np.uint8)
    w = rng.integers(-127, 128, (6, 5, 3, 3)).astype(np.int8)

    def body(builder, codes, point):
        real = builder.emit(relax.op.dequantize(codes, relax.const(np.float32(1)), point, axis=0))
        weights = builder.emit(relax.op.dequantize(relax.const(w), relax.const(np.float32(1)), relax.const(np.int8(0))))
        return relax.op.nn.conv2d(real, weights, padding=(1, 1, 1, 1))

    got, built = gpu.run(body, x, zero, shapes=[("n", 5, 6, 7), ()])
    np.testing.assert_array_equal(got, convolved(x.astype(np.int64) - 9, w.astype(np.int64), pads=(1, 1, 1, 1)))
    assert [(kernel.ops, kernel.integer) for kernel in built.kernels] == [(("nn.conv2d",), True)]
