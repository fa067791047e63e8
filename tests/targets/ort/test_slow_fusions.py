"""Additions in front of a layer normalization are kept out of a fusion that is slower than its parts."""

import numpy as np
import pytest

from nncomp.onnx_io import to_bytes
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_ort.executed import executed_graph
from nncomp_ort.slow_fusions import keep_apart

RESIDUAL = """
g (float[1,8,16] x, float[1,8,16] r) => (float[1,8,16] y)
<float[16] gain, float[16] bias>
{
   a = Add (x, r)
   y = LayerNormalization (a, gain, bias)
}
"""


def kinds(found):
    return [node.op_type for node in executed_graph(to_bytes(found)).graph.node]


def test_an_addition_in_front_of_a_layer_normalization_is_not_fused():
    found = graph(RESIDUAL, opset=17)
    before = found.clone()
    assert kinds(found) == ["SkipLayerNormalization"], "the reason for keep_apart"
    assert keep_apart(found) == 1
    assert kinds(found) == ["Sum", "LayerNormalization"]
    feeds = random_feeds(before)
    np.testing.assert_array_equal(run(before, feeds)["y"], run(found, feeds)["y"])
    assert keep_apart(found) == 0


def test_the_sum_keeps_the_name_of_the_addition_even_as_an_output():
    found = graph(RESIDUAL.replace("=> (float[1,8,16] y)", "=> (float[1,8,16] a, float[1,8,16] y)"), opset=17)
    keep_apart(found)
    assert [value.name for value in found.outputs] == ["a", "y"]
    assert set(kinds(found)) == {"Sum", "LayerNormalization"}


@pytest.mark.parametrize(("text", "opset"), [(RESIDUAL.replace("LayerNormalization (a, gain, bias)", "Tanh (a)"), 17)])
def test_other_additions_stay(text, opset):
    assert keep_apart(graph(text, opset=opset)) == 0
