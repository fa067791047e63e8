"""The same bytes come out whatever the hash seed, the threads, the order of samples and how they are split."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncomp.onnx_io import to_bytes
from nncomp.statistics import Histogram, Range, Threads, collect
from nncomp.testing import graph
from nncomp_quant.bias_correction import MeanVector

NETWORK = """
g (float[N,3,16,16] x, int64[2] i) => (float[] y, float[] e)
<float[8,3,3,3] w1, float[8] b1, float[8,1,3,3] w2, float[8,8,1,1] w3, float[8,8,1,1] w4, float[16,10] w5,
 float[10,10] w6, float[512,64] table>
{
   c1 = Conv <strides = [2, 2]> (x, w1, b1)
   r1 = Relu (c1)
   c2 = Conv <group = 8, pads = [1, 1, 1, 1]> (r1, w2)
   c3 = Conv (c2, w3)
   a = Add (c3, r1)
   c4 = Conv (a, w4)
   s = Sigmoid (c4)
   m = Mul (c4, s)
   j = Concat <axis = 1> (m, a)
   p = GlobalAveragePool (j)
   f = Flatten (p)
   g1 = Gemm (f, w5)
   t = Tanh (g1)
   y = MatMul (t, w6)
   e = Gather (table, i)
}
"""


def samples(count=12, batch=1):
    images = np.random.default_rng(0).normal(0, 1, (count, 3, 16, 16)).astype(np.float32)
    return [{"x": images[at : at + batch], "i": np.array([1, 2])} for at in range(0, count, batch)]


def digest(made):
    return hashlib.sha256(to_bytes(made.graph)).hexdigest()


# ------------------------------------------------------------------ bytes

SCRIPT = f"""
import hashlib, sys
import numpy as np
import nncomp
from nncomp.data import FeedSource
from nncomp.onnx_io import to_bytes
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.quantize import Quantize

found = graph('''{NETWORK}''', opset=18)
images = np.random.default_rng(0).normal(0, 1, (12, 3, 16, 16)).astype(np.float32)
feeds = [{{"x": image[None], "i": np.array([1, 2])}} for image in images]
ctx = nncomp.Context(target=CAPABILITIES, data=FeedSource(feeds, found), threads=int(sys.argv[1]))
nncomp.Pipeline([Quantize()]).run(found, ctx)
print(hashlib.sha256(to_bytes(found)).hexdigest())
"""


@pytest.mark.parametrize(("hash_seed", "threads"), [("0", "1"), ("1", "2"), ("4711", "4")])
def test_bytes_depend_on_neither_hash_seed_nor_process(quantize, hash_seed, threads):
    paths = [str(Path(__file__).parents[3] / part) for part in ("", "plugins", "targets")]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(paths)}
    found = subprocess.run([sys.executable, "-c", SCRIPT, threads], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == digest(quantize(NETWORK, data=samples()))


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_bytes_do_not_depend_on_threads(quantize, method, threads):
    one = quantize(NETWORK, data=samples(), method=method)
    assert digest(quantize(NETWORK, data=samples(), method=method, threads=threads)) == digest(one)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_bytes_do_not_depend_on_the_order_of_samples(quantize, method):
    data = samples()
    one = quantize(NETWORK, data=data, method=method)
    assert digest(
        quantize(NETWORK, data=[data[at] for at in (5, 1, 0, 11, 8, 2, 3, 10, 9, 4, 7, 6)], method=method)
    ) == (digest(one))


def test_bytes_depend_on_the_data(quantize):
    """The digests above would be worth nothing otherwise."""
    assert digest(quantize(NETWORK, data=samples(8))) != digest(quantize(NETWORK, data=samples(12)))


# ------------------------------------------------------------------ statistics (90)

ARRAYS = st.lists(hnp.arrays(np.float32, st.integers(0, 12), elements=st.floats(width=32)), min_size=1, max_size=8)


def state(seen):
    if isinstance(seen, Range):
        return (seen.low, seen.high, seen.count, seen.bad)
    if isinstance(seen, MeanVector):
        return seen.mean().tobytes()
    return (state(seen.range), seen.exponent, seen.counts.tobytes())


def fed(make, arrays):
    seen = make()
    for array in arrays:
        seen.update(array)
    return seen


@given(ARRAYS, st.randoms(use_true_random=False), st.sampled_from([Range, Histogram]))
def test_statistics_do_not_depend_on_order_nor_on_how_samples_are_split(arrays, random, make):
    whole = state(fed(make, arrays))
    shuffled = random.sample(arrays, len(arrays))
    at = random.randint(0, len(arrays))
    left, right = fed(make, shuffled[:at]), fed(make, shuffled[at:])
    left.merge(right)
    assert state(left) == whole
    right.merge(fed(make, shuffled[:at]))
    assert state(right) == whole


@given(ARRAYS)
def test_statistics_do_not_depend_on_how_elements_are_batched(arrays):
    """Tensors that are read whole: a stride is a sampling decision for one tensor."""
    one = fed(Histogram, [np.concatenate(arrays)])
    assert state(one) == state(fed(Histogram, arrays))


@given(
    st.lists(hnp.arrays(np.float32, 3, elements=st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_means_do_not_depend_on_order(vectors, random):
    shuffled = random.sample(vectors, len(vectors))
    at = random.randint(0, len(vectors))
    left, right = fed(MeanVector, shuffled[:at]), fed(MeanVector, shuffled[at:])
    left.merge(right)
    assert state(left) == state(fed(MeanVector, vectors))


CHAIN = """
g (float[N,3,8,8] x) => (float[] y) <float[4,3,3,3] w> { c = Conv (x, w) y = Relu (c) }
"""


def collected(batch, threads):
    images = np.random.default_rng(0).normal(0, 1, (16, 3, 8, 8)).astype(np.float32)
    feeds = [{"x": images[at : at + batch]} for at in range(0, 16, batch)]
    seen = collect(graph(CHAIN), feeds, ["x", "c", "y"], lambda name: Histogram(), executor=Threads(threads))
    return {name: state(one) for name, one in seen.items()}


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("batch", [1, 4, 8])
def test_statistics_are_those_of_single_samples_whatever_batch_and_threads(batch, threads):
    assert collected(batch, threads) == collected(1, 1)


@pytest.mark.parametrize("batch", [3, 6])
def test_scales_do_not_depend_on_the_batch(quantize, batch):
    one = quantize(NETWORK, data=samples(batch=1), bias_samples=0)
    many = quantize(NETWORK, data=samples(batch=batch), bias_samples=0)
    assert digest(one) == digest(many)


def test_statistics_of_large_tensors_do_not_depend_on_the_batch():
    images = np.random.default_rng(0).normal(0, 1, (4, 3, 64, 64)).astype(np.float32)
    assert state(fed(Histogram, [images])) == state(fed(Histogram, list(images[:, None])))
