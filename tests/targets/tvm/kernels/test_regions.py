"""What is fused behind a kernel, and that it computes the same."""

import math

import numpy as np
import pytest

pytest.importorskip("tvm")

from nncomp_tvm.kernels import CpuTarget
from nncomp_tvm.kernels.cpu_device import CpuDevice
from nncomp_tvm.kernels.extents import Open, Symbol
from nncomp_tvm.library import relax


def matmul(builder, x, w):
    return builder.emit(relax.op.matmul(x, relax.const(w)))


def test_a_chain_with_a_diamond_is_one_kernel(bench, rng):
    """SiLU reads its operand twice; the residual is read where it is added."""
    x, other = rng.standard_normal((5, 24), np.float32), rng.standard_normal((5, 19), np.float32)
    w, bias = rng.standard_normal((24, 19), np.float32), rng.standard_normal(19, np.float32)

    def body(builder, v, residual):
        y = builder.emit(relax.op.add(matmul(builder, v, w), relax.const(bias)))
        y = builder.emit(relax.op.multiply(y, builder.emit(relax.op.sigmoid(y))))
        return relax.op.clip(builder.emit(relax.op.add(residual, y)), -2.0, 6.0)

    got, built = bench.run(body, x, other)
    y = x @ w + bias
    np.testing.assert_allclose(got, np.clip(other + y / (1 + np.exp(-y)), -2, 6), rtol=1e-4, atol=1e-5)
    assert [kernel.ops for kernel in built.kernels] == [("matmul", "add", "sigmoid", "multiply", "add", "clip")]


def test_a_value_that_others_read_ends_a_kernel(bench, rng):
    """Both products read the sum: it is stored."""
    x, w = rng.standard_normal((4, 16), np.float32), rng.standard_normal((16, 16), np.float32)

    def body(builder, v):
        shared = builder.emit(relax.op.nn.relu(matmul(builder, v, w)))
        return relax.op.add(matmul(builder, shared, w), matmul(builder, shared, w + 1))

    got, built = bench.run(body, x)
    shared = np.maximum(x @ w, 0)
    np.testing.assert_allclose(got, shared @ w + shared @ (w + 1), rtol=1e-4, atol=1e-4)
    assert sorted(kernel.ops for kernel in built.kernels) == [("matmul",), ("matmul", "add"), ("matmul", "nn.relu")]


@pytest.mark.parametrize("shape", [(1,), (7, 1), (3, 1, 5), (3, 7, 5), (5,), (1, 7, 1)])
def test_operands_broadcast(bench, rng, shape):
    x, w = rng.standard_normal((3, 7, 4), np.float32), rng.standard_normal((4, 5), np.float32)
    other = rng.standard_normal(shape, np.float32)
    got, built = bench.run(lambda b, v, o: relax.op.subtract(o, matmul(b, v, w)), x, other)
    np.testing.assert_allclose(got, other - x @ w, rtol=1e-4, atol=1e-5)
    assert built.kernels[0].ops == ("matmul", "subtract")


@pytest.mark.parametrize(
    ("operator", "reference"),
    [
        (relax.op.exp, np.exp),
        (relax.op.tanh, np.tanh),
        (relax.op.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (relax.op.erf, np.vectorize(math.erf)),
    ],
    ids=["exp", "tanh", "sigmoid", "erf"],
)
def test_transcendental_functions_are_right_to_the_last_bits(bench, operator, reference):
    x = np.concatenate([np.linspace(-80, 80, 3001), np.linspace(-4, 4, 3000), [0.0]]).astype(np.float32)[None]
    got, _ = bench.run(lambda _, v: operator(v), x)
    np.testing.assert_allclose(got, reference(x.astype(np.float64)), rtol=3e-7, atol=5e-7)


def test_the_exponential_overflows_and_underflows_where_it_should(bench):
    x = np.array([[-np.inf, -200.0, -103.0, -90.0, 88.7, 89.0, 200.0, np.inf]], np.float32)
    got, _ = bench.run(lambda _, v: relax.op.exp(v), x)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(got, np.exp(x), rtol=1e-6, atol=2e-45)


def test_what_is_no_number_stays_none(bench):
    """A row of only -inf, and one with a NaN; the others are as they are."""
    x = np.array([[-np.inf] * 3, [1, np.nan, 2], [-np.inf, 0, 1], [1, 2, 3]], np.float32)

    def body(builder, v):
        y = builder.emit(relax.op.nn.softmax(v, axis=-1))
        return relax.op.clip(builder.emit(relax.op.nn.relu(y)), 0.0, 1.0)

    got, _ = bench.run(body, x)
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(-1, keepdims=True))
        np.testing.assert_allclose(got, e / e.sum(-1, keepdims=True), rtol=1e-6)


def test_several_threads_compute_the_same(bench, rng):
    x = rng.standard_normal((2, 8, 9, 9), np.float32)
    w = relax.const(rng.standard_normal((24, 8, 3, 3), np.float32))

    def body(builder, v):
        y = builder.emit(relax.op.nn.conv2d(v, w, padding=(1, 1, 1, 1)))
        y = builder.emit(relax.op.nn.max_pool2d(y, pool_size=(3, 3), strides=(2, 2)))
        return relax.op.nn.softmax(builder.emit(relax.op.matmul(y, y)), axis=-1)

    one, _ = bench.run(body, x)
    two, _ = bench.run(body, x, threads=2)
    np.testing.assert_array_equal(one, two)


def test_nothing_is_computed_of_nothing(bench):
    x = np.zeros((0, 4), np.float32)
    got, _ = bench.run(lambda b, v: relax.op.nn.relu(matmul(b, v, np.ones((4, 3), np.float32))), x)
    assert got.shape == (0, 3)


@pytest.mark.parametrize("columns", [1, 5, 16, 50])
def test_softmax(bench, rng, columns):
    x = 10 * rng.standard_normal((2, 3, columns), np.float32)
    got, built = bench.run(lambda _, v: relax.op.nn.softmax(v, axis=-1), x)
    e = np.exp(x - x.max(-1, keepdims=True))
    np.testing.assert_allclose(got, e / e.sum(-1, keepdims=True), rtol=1e-5, atol=1e-7)
    assert built.kernels[0].ops == ("nn.softmax",)


@pytest.mark.parametrize("columns", [3, 48, 70])
def test_layer_normalisation(bench, rng, columns):
    x = rng.standard_normal((4, columns), np.float32)
    gamma, beta = rng.standard_normal((2, columns), np.float32)
    got, built = bench.run(
        lambda _, v: relax.op.nn.layer_norm(v, relax.const(gamma), relax.const(beta), axes=[-1], epsilon=1e-5), x
    )
    centred = x - x.mean(-1, keepdims=True)
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert built.kernels[0].ops == ("nn.layer_norm",)


@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3, 5, 7), (2, 3, 7, 20)), ((4, 5, 7), (1, 7, 3)), ((1, 5, 7), (4, 7, 33)), ((5, 7), (2, 7, 9))],
)
def test_products_of_activations(bench, rng, left, right):
    a, b = rng.standard_normal(left, np.float32), rng.standard_normal(right, np.float32)
    got, built = bench.run(lambda _, x, y: relax.op.matmul(x, y), a, b)
    np.testing.assert_allclose(got, a @ b, rtol=1e-4, atol=1e-5)
    assert built.kernels[0].ops == ("matmul",)


def test_pooling_and_means(bench, rng):
    x = rng.standard_normal((2, 19, 7, 9), np.float32)

    def body(builder, v):
        highest = builder.emit(relax.op.nn.max_pool2d(v, pool_size=(3, 3), strides=(2, 2), padding=(1, 1)))
        average = builder.emit(relax.op.nn.avg_pool2d(highest, pool_size=(2, 2)))
        return relax.op.mean(average, [2, 3])

    got, built = bench.run(body, x)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    average = np.lib.stride_tricks.sliding_window_view(windows.max((-1, -2)), (2, 2), axis=(2, 3)).mean((-1, -2))
    np.testing.assert_allclose(got, average.mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert [kernel.ops for kernel in built.kernels] == [("nn.max_pool2d",), ("nn.avg_pool2d",), ("mean",)]


def test_a_cast_to_what_it_is_copies(bench, rng):
    x = rng.standard_normal((3, 40), np.float32)
    got, _ = bench.run(lambda builder, value: relax.op.astype(value, "float32"), x)
    np.testing.assert_array_equal(got, x)


def test_results_are_the_same_with_any_number_of_threads(bench, rng):
    """Three panels of columns and a rest, shared out with their pixels; rows; lines of an image."""
    x, w = rng.standard_normal((1, 24, 30, 30), np.float32), rng.standard_normal((120, 24, 1, 1), np.float32)
    deep = rng.standard_normal((120, 1, 3, 3), np.float32)

    def body(b, v):
        y = b.emit(relax.op.nn.relu(b.emit(relax.op.nn.conv2d(v, relax.const(w)))))
        y = b.emit(relax.op.nn.conv2d(y, relax.const(deep), groups=120, padding=1))
        return relax.op.nn.softmax(b.emit(relax.op.reshape(y, (120, 900))))

    results = [bench.run(body, x, threads=threads)[0] for threads in (1, 2)]
    np.testing.assert_array_equal(*results)


def test_kernels_of_little_work_stay_on_one_thread():
    device = CpuDevice(CpuTarget.host(), parallel=True)
    assert device.spreads(10**6, 500_000) and not device.spreads(499_999, 500_000)
    assert device.spreads(Open(50_000, (Symbol("n", None),)), 500_000)
    assert not CpuDevice(CpuTarget.host(), parallel=False).spreads(10**9, 500_000)
