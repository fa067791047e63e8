"""What the tests of pruning do: a small network with a residual, calibration data, and a pass run on it."""

from __future__ import annotations

import numpy as np
import pytest

from nncomp.data import FeedSource
from nncomp.infer import infer_types
from nncomp.passes import Context
from nncomp.runtime import run
from nncomp.testing import graph

NETWORK = """
g (float[n,3,6,6] x) => (float[n,5] y)
<float[16,3,3,3] w1, float[16] b1, float[16,1,3,3] w2, float[16,16,3,3] w3, float[16] b3, float[16,5] w5, float[5] b5>
{
   c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
   r1 = Relu (c1)
   c2 = Conv <group=16, pads=[1,1,1,1]> (r1, w2)
   r2 = Relu (c2)
   c3 = Conv <pads=[1,1,1,1]> (r2, w3, b3)
   s = Add (c3, r1)
   p = GlobalAveragePool (s)
   f = Flatten (p)
   y = Gemm (f, w5, b5)
}
"""

CHAIN = """
g (float[n,8] x) => (float[n,4] y)
<float[8,24] w1, float[24] b1, float[24,12] w2, float[12] b2, float[12,4] w3>
{
   h1 = Gemm (x, w1, b1)
   a1 = Relu (h1)
   m2 = MatMul (a1, w2)
   h2 = Add (m2, b2)
   a2 = Relu (h2)
   y = MatMul (a2, w3)
}
"""


def typed(text):
    made = graph(text)
    infer_types(made)
    return made


def samples(made, count=64, seed=0):
    """Return inputs whose channels hang together, as those of images do."""
    rng = np.random.default_rng(seed)
    shape = [size if isinstance(size, int) else 1 for size in made.inputs[0].shape]
    mix = np.random.default_rng(7).normal(size=(shape[1], shape[1])) / 2
    found = [np.moveaxis(np.tensordot(rng.normal(size=shape), mix, axes=(1, 0)), -1, 1) for _ in range(count)]
    return [{"x": one.astype(np.float32)} for one in found]


@pytest.fixture(scope="session")
def context():
    """Return what makes a pass's context with calibration data for a graph."""

    def make(made, **fields):
        return Context(data=FeedSource(samples(made), made), **fields)

    return make


@pytest.fixture(scope="session")
def distance():
    """Return the relative error of one graph against another over inputs that calibration has not seen."""

    def measure(a, b):
        pairs = [(run(a, feeds)["y"], run(b, feeds)["y"]) for feeds in samples(a, 16, seed=1)]
        wrong = sum(float(np.square(one - other).sum()) for one, other in pairs)
        return wrong / sum(float(np.square(one).sum()) for one, _ in pairs)

    return measure


@pytest.fixture
def network():
    return typed(NETWORK)


@pytest.fixture
def chain():
    return typed(CHAIN)


@pytest.fixture(scope="session")
def built():
    """Return what makes a graph with its types from text."""
    return typed
