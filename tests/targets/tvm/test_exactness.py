"""The gate where ONNX Runtime itself is far from exact: outputs of a sigmoid that are all next to nothing."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import GateError
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_tvm.exactness import exactly
from nncomp_tvm.target import TvmCpuTarget

LOGITS = """
g (float[1,64] x) => (float[1,8,4] y) <float[64,32] w, float[1] far = {-14}, int64[3] shape = {1,8,4}> {
    a = Relu (x) b = MatMul (a, w) c = Tanh (b) d = Add (c, far) s = Sigmoid (d) y = Reshape (s, shape)
}
"""


def relative(a, b):
    return np.linalg.norm(np.float64(a) - b) / np.linalg.norm(b)


def test_what_lies_behind_the_last_product_is_computed_exactly():
    model = graph(LOGITS, opset=18)
    feeds = random_feeds(model, seed=1)
    before = graph(LOGITS.replace("float[1,8,4] y", "float[1,32] b").split(" c = ")[0] + "}", opset=18)
    product = np.float64(run(before, feeds)["b"])
    exact = (1 / (1 + np.exp(14 - np.tanh(product)))).reshape(1, 8, 4)
    found = exactly(model, feeds, "y")
    assert found.dtype == np.float32
    assert relative(found, exact) < 1e-7
    assert relative(run(model, feeds)["y"], exact) > 1e-3


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,3] x) => (float[] y) <float[3,4] w> { y = MatMul (x, w) }",
        "g (float[2,3] x) => (int64[] y) { a = Neg (x) y = ArgMax (a) }",
    ],
)
def test_products_and_integers_have_no_such_result(text):
    model = graph(text, opset=18)
    assert exactly(model, random_feeds(model, seed=1), "y") is None


def test_a_build_that_is_nearer_to_the_truth_than_onnx_runtime_passes_the_gate():
    model = graph(LOGITS, opset=18)
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    feeds = random_feeds(model, seed=3)
    assert relative(artifact.run(feeds)["y"], np.float64(exactly(model, feeds, "y"))) < 1e-4


def test_a_sigmoid_that_is_wrong_there_does_not(monkeypatch):
    from nncomp_tvm.kernels.vector_math import VectorMath

    right = VectorMath.sigmoid
    monkeypatch.setattr(VectorMath, "sigmoid", lambda self, x: right(self, x) * self.number(1.001))
    with pytest.raises(GateError) as refusal:
        TvmCpuTarget().build(graph(LOGITS, opset=18), nncomp.Context())
    assert refusal.value.message.startswith("the compiled model is wrong: output 'y' is 0.0")
