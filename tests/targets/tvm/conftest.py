"""Where TVM is not installed, these tests say so."""

from importlib.util import find_spec

import numpy as np
import pytest

import nncomp
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph


@pytest.fixture(autouse=True)
def needs_tvm():
    if find_spec("tvm") is None:
        pytest.skip("apache-tvm is not installed")


@pytest.fixture
def agrees():
    """Compile graph text, run it, and compare with ONNX Runtime, element by element."""
    from nncomp_tvm.target import TvmCpuTarget

    def check(text, feeds=None, *, opset=18, rtol=1e-4, atol=1e-5, data=False):
        model = graph(text, opset=opset)
        feeds = feeds or random_feeds(model, seed=1)
        artifact = TvmCpuTarget().build(model, nncomp.Context(data=[feeds] if data else None))
        got, expected = artifact.run(feeds), run(model, feeds)
        for name, array in expected.items():
            np.testing.assert_allclose(got[name], array, rtol=rtol, atol=atol, err_msg=name)
        return expected

    return check
