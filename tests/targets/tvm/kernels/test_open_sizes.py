"""Kernels of open sizes: the same numbers, byte by byte, as kernels that are made for one size."""

import numpy as np
import pytest

pytest.importorskip("tvm")

from nncomp_tvm.kernels.extents import Open, Symbol, extent_of, product
from nncomp_tvm.kernels.program import broadcasts
from nncomp_tvm.library import relax, tirx

N = Open(1, (Symbol("n", None),))
M = Open(1, (Symbol("m", None),))


def agree(bench, body, shapes, ops, *, sizes, dtype="float32", low=-2.0, high=2.0):
    """Assert that what is built for open ``shapes`` gives the bytes of what is built for each of ``sizes``."""
    rng = np.random.default_rng(1)
    built, run = bench.runner(body, shapes, [dtype] * len(shapes))
    assert [kernel.ops for kernel in built.kernels] == ops
    for size in sizes:
        inputs = [
            rng.uniform(low, high, [size[one] if isinstance(one, str) else one for one in shape]).astype(dtype)
            for shape in shapes
        ]
        np.testing.assert_array_equal(run(*inputs), bench.run(body, *inputs)[0], err_msg=str(size))


def test_images_of_any_number_are_convolved_and_pooled(bench, rng):
    w = rng.standard_normal((20, 3, 3, 3), np.float32)
    deep, one = rng.standard_normal((20, 1, 3, 3), np.float32), rng.standard_normal((8, 20, 1, 1), np.float32)

    def body(b, x):
        y = b.emit(relax.op.nn.relu(b.emit(relax.op.nn.conv2d(x, relax.const(w), padding=1))))
        y = b.emit(relax.op.nn.conv2d(y, relax.const(deep), groups=20, strides=2))
        return relax.op.mean(b.emit(relax.op.nn.conv2d(y, relax.const(one))), [2, 3], keepdims=True)

    ops = [("nn.conv2d", "nn.relu"), ("nn.conv2d",), ("nn.conv2d",), ("mean",)]
    agree(bench, body, [("n", 3, 7, 9)], ops, sizes=[{"n": n} for n in (1, 3, 0)])


@pytest.mark.parametrize("shape", [("n", 24), ("n", "m", 24), ("n", 20, 24)])
def test_rows_of_any_number_are_multiplied_and_normalised(bench, rng, shape):
    w, bias = rng.standard_normal((24, 19), np.float32), rng.standard_normal(19, np.float32)
    gamma = rng.standard_normal(19, np.float32)

    def body(b, x):
        y = b.emit(relax.op.add(b.emit(relax.op.matmul(x, relax.const(w))), relax.const(bias)))
        return relax.op.nn.layer_norm(y, relax.const(gamma), relax.const(bias), axes=[-1])

    sizes = [{"n": n, "m": m} for n, m in ((1, 1), (2, 3), (17, 17), (0, 3))]
    agree(bench, body, [shape], [("matmul", "add"), ("nn.layer_norm",)], sizes=sizes)


def test_attention_of_any_length(bench):
    def body(b, x, mask):
        scores = b.emit(relax.op.matmul(x, b.emit(relax.op.permute_dims(x, [0, 1, 3, 2]))))
        scores = b.emit(relax.op.add(scores, mask))
        return relax.op.matmul(b.emit(relax.op.nn.softmax(scores)), x)

    sizes = [{"n": n, "m": m} for n, m in ((1, 1), (2, 3), (1, 17), (1, 67))]
    ops = [("matmul", "add"), ("nn.softmax",), ("matmul",)]
    agree(bench, body, [("n", 2, "m", 8), ("n", 1, 1, "m")], ops, sizes=sizes)


def test_bytes_of_any_number_are_multiplied(bench, rng):
    weights = rng.integers(-128, 128, (32, 8), np.int8)

    def body(b, x):
        def dequantized(value, scale, zero, kind):
            return b.emit(relax.op.dequantize(value, relax.const(np.float32(scale)), relax.const(np.array(zero, kind))))

        y = b.emit(
            relax.op.matmul(dequantized(x, 0.02, 7, np.uint8), dequantized(relax.const(weights), 0.01, 0, np.int8))
        )
        scale, zero = relax.const(np.float32(0.1)), relax.const(np.uint8(100))
        return relax.op.quantize(b.emit(relax.op.nn.relu(y)), scale, zero, out_dtype="uint8")

    sizes = [{"n": n} for n in (1, 3, 17)]
    ops = [("matmul", "nn.relu", "quantize")]
    agree(bench, body, [("n", 32)], ops, sizes=sizes, dtype="uint8", low=0, high=255)


def test_operands_of_open_sizes_broadcast(bench):
    def body(b, x, y, z):
        return relax.op.multiply(b.emit(relax.op.add(b.emit(relax.op.exp(x)), y)), z)

    sizes = [{"n": n, "m": m} for n, m in ((1, 1), (4, 21))]
    agree(bench, body, [("n", 3, "m"), ("n", 1, "m"), (3, 1)], [("exp", "add", "multiply")], sizes=sizes)


def test_two_sizes_that_may_differ_do_not_broadcast():
    assert broadcasts((N, 1), (N, 3)) and broadcasts((1, 3), (N, 3)) and broadcasts((3,), (N, 3))
    assert not broadcasts((M, 3), (N, 3)) and not broadcasts((3,), (2, N)) and not broadcasts((1, N, 3), (N, 3))


def test_open_sizes_are_equal_when_their_factors_and_symbols_are():
    n, m = (tirx.Var(name, "int64") for name in "nm")
    assert extent_of(n * 12 * m) == extent_of(m * n * 4 * 3) == product([2, extent_of(m), 6, extent_of(n)])
    assert extent_of(n * n) != extent_of(n) and extent_of(n + 1) == extent_of(n + 1) != extent_of(n)
    assert product([0, extent_of(n)]) == 0
    assert str(extent_of(n * 12).value) == "T.int64(12) * n"
