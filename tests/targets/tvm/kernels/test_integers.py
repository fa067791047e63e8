"""Quantized graphs in the forms that ONNX models have them."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from nncomp_tvm.library import relax


def number(value, dtype="float32"):
    return relax.const(np.array(value, dtype))


def scaled(builder, x, scale, zero, kind="uint8"):
    return builder.emit(relax.op.dequantize(x, number(scale), number(zero, kind)))


def stored(builder, x, scale, zero, kind="uint8"):
    return builder.emit(relax.op.quantize(x, number(scale), number(zero, kind), out_dtype=kind))


def rounded(real, scale, zero, kind):
    limits = np.iinfo(kind)
    return np.clip(np.rint(real / scale) + zero, limits.min, limits.max).astype(kind)


def test_signed_activations_become_unsigned_ones(bench, rng):
    """int8 in, int8 between, int8 out: all products are of bytes."""
    x = rng.integers(-128, 128, (1, 8, 5, 5)).astype(np.int8)
    w = rng.integers(-127, 128, (12, 8, 3, 3)).astype(np.int8)
    v = rng.integers(-127, 128, (8, 12, 1, 1)).astype(np.int8)

    def body(builder, value):
        y = relax.op.nn.conv2d(
            scaled(builder, value, 0.5, -3, "int8"), scaled(builder, relax.const(w), 0.25, 0, "int8")
        )
        y = stored(builder, builder.emit(y), 32.0, 5, "int8")
        y = relax.op.nn.conv2d(scaled(builder, y, 32.0, 5, "int8"), scaled(builder, relax.const(v), 0.125, 0, "int8"))
        return relax.op.quantize(builder.emit(y), number(512.0), number(0, "int8"), out_dtype="int8")

    got, built = bench.run(body, x)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64) + 3, (3, 3), axis=(2, 3))
    first = rounded(np.einsum("nchwij,ocij->nohw", windows, w) * 0.125, 32.0, 5, np.int8)
    second = np.einsum("nchw,oc->nohw", first.astype(np.int64) - 5, v[..., 0, 0]) * 4.0
    np.testing.assert_array_equal(got, rounded(second, 512.0, 0, np.int8))
    assert [kernel.ops for kernel in built.kernels if kernel.integer] == [("nn.conv2d", "quantize")] * 2


def test_a_residual_is_added_as_integers_are_read(bench, rng):
    x, w = rng.integers(0, 256, (6, 8)).astype(np.uint8), rng.integers(-127, 128, (8, 8)).astype(np.int8)

    def body(builder, value):
        real = scaled(builder, value, 0.5, 7)
        y = stored(
            builder, builder.emit(relax.op.matmul(real, scaled(builder, relax.const(w), 0.25, 0, "int8"))), 16.0, 100
        )
        total = builder.emit(relax.op.add(scaled(builder, y, 16.0, 100), real))
        return relax.op.quantize(
            builder.emit(relax.op.nn.relu(total)), number(8.0), number(0, "uint8"), out_dtype="uint8"
        )

    got, built = bench.run(body, x)
    real = (x.astype(np.float64) - 7) * 0.5
    y = rounded(real @ (w * 0.25), 16.0, 100, np.uint8)
    np.testing.assert_array_equal(got, rounded(np.maximum((y - 100.0) * 16 + real, 0), 8.0, 0, np.uint8))
    assert [kernel.ops for kernel in built.kernels] == [
        ("matmul", "quantize", "dequantize", "add", "nn.relu", "quantize")
    ]


def test_integers_that_others_read_are_stored_once(bench, rng):
    """Both products read the first one's bytes, not real numbers."""
    x, w = rng.integers(0, 256, (6, 8)).astype(np.uint8), rng.integers(-127, 128, (8, 8)).astype(np.int8)

    def body(builder, value):
        weight = scaled(builder, relax.const(w), 0.25, 0, "int8")
        first = builder.emit(relax.op.matmul(scaled(builder, value, 0.5, 7), weight))
        y = scaled(builder, stored(builder, first, 16.0, 100), 16.0, 100)
        left, right = (builder.emit(relax.op.matmul(y, weight)) for _ in range(2))
        return relax.op.add(left, right)

    got, built = bench.run(body, x)
    y = (rounded((x.astype(np.float64) - 7) * 0.5 @ (w * 0.25), 16.0, 100, np.uint8) - 100.0) * 16.0
    np.testing.assert_allclose(got, 2 * (y @ (w * 0.25)), rtol=1e-6)
    kernels = [(kernel.ops, kernel.integer) for kernel in built.kernels]
    assert sorted(kernels) == [(("matmul",), True), (("matmul", "add"), True), (("matmul", "quantize"), True)]


def test_integers_move_instead_of_real_numbers(bench, rng):
    """Transposed weights, a reshape, a concatenation: one kernel of bytes, and no conversion but its own."""
    x, w = rng.integers(0, 256, (2, 2, 4)).astype(np.uint8), rng.integers(-127, 128, (5, 16)).astype(np.int8)

    def body(builder, value):
        real = builder.emit(relax.op.reshape(scaled(builder, value, 0.5, 128), (2, 8)))
        real = builder.emit(relax.op.concat([real, real], 1))
        weight = builder.emit(relax.op.permute_dims(scaled(builder, relax.const(w), 0.25, 0, "int8"), [1, 0]))
        again = stored(builder, real, 0.5, 128)
        return relax.op.matmul(scaled(builder, again, 0.5, 128), weight)

    got, built = bench.run(body, x)
    real = (x.reshape(2, 8).astype(np.float32) - 128) * 0.5
    np.testing.assert_array_equal(got, np.concatenate([real, real], 1) @ (w.T * np.float32(0.25)))
    assert [(kernel.ops, kernel.integer) for kernel in built.kernels] == [(("matmul",), True)]


def test_a_zero_point_may_be_computed(bench, rng):
    """DynamicQuantizeLinear and MatMulInteger, as ONNX models of transformers have them."""
    x, w = rng.standard_normal((5, 12), np.float32), rng.integers(-127, 128, (12, 20)).astype(np.int8)

    def body(builder, value):
        emit, op = builder.emit, relax.op
        high = emit(op.maximum(number(0.0), emit(op.max(value))))
        low = emit(op.minimum(number(0.0), emit(op.min(value))))
        scale = emit(op.divide(emit(op.subtract(high, low)), number(255.0)))
        zero = emit(op.subtract(number(0.0), emit(op.divide(low, scale))))
        zero = emit(op.astype(emit(op.round(zero)), "uint8"))
        codes = emit(op.quantize(value, scale, zero, axis=0, out_dtype="uint8"))
        shifted = emit(op.subtract(emit(op.astype(codes, "int32")), emit(op.astype(zero, "int32"))))
        total = emit(op.matmul(shifted, emit(op.astype(relax.const(w), "int32")), out_dtype="int32"))
        return op.multiply(emit(op.astype(total, "float32")), scale)

    got, built = bench.run(body, x)
    scale = np.float32((x.max() - x.min()) / np.float32(255))
    zero = np.rint(-x.min() / scale)
    codes = np.clip(np.rint(x / scale) + zero, 0, 255) - zero
    np.testing.assert_allclose(got, (codes @ w).astype(np.float32) * scale, rtol=1e-6)
    assert {kernel.ops for kernel in built.kernels} >= {
        ("max",),
        ("min",),
        ("quantize",),
        ("matmul", "astype", "multiply"),
    }


@pytest.mark.parametrize("padding", [0, 1])
def test_a_zero_point_of_images_may_be_computed(bench, rng, padding):
    """ConvInteger behind DynamicQuantizeLinear; on CPUs, what is padded with a computed number is summed as float32."""
    x, w = rng.integers(0, 256, (2, 8, 6, 5)).astype(np.uint8), rng.integers(-127, 128, (12, 8, 3, 3)).astype(np.int8)

    def body(builder, codes, zero):
        real = builder.emit(relax.op.dequantize(codes, number(1.0), zero, axis=0))
        weights = scaled(builder, relax.const(w), 1.0, 0, "int8")
        return relax.op.nn.conv2d(real, weights, padding=(padding,) * 4)

    got, built = bench.run(body, x, np.array(7, np.uint8))
    padded = np.pad(x.astype(np.int64) - 7, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    np.testing.assert_array_equal(got, np.einsum("nchwij,ocij->nohw", windows, w))
    assert [kernel.integer for kernel in built.kernels if "nn.conv2d" in kernel.ops] == [not padding]
