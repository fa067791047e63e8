"""What the tests of target ``ort`` do: write a quantized pattern by hand or by the pass, and read what is executed."""

from collections import Counter
from dataclasses import dataclass

import pytest

import nncomp
from nncomp.data import FeedSource
from nncomp.infer import infer_types
from nncomp.onnx_io import to_bytes
from nncomp.runtime import random_feeds
from nncomp.testing import graph
from nncomp_ort.artifact import OrtArtifact
from nncomp_ort.executed import Executed, executed_graph
from nncomp_ort.target import OrtTarget
from nncomp_quant.quantize import Quantize

# What patterns by hand are made of: x is quantized as x_d, weights as w_d and so on; each pattern drops what it does
# not read. Codes of weights are 0, 1 and 2.
PATTERN = """
g (float[1,16,8,8] x) => (float[] y)
<float s = {0.05}, uint8 z = {128}, float s0 = {0.04}, uint8 z0 = {0}, int8 zs = {0}, uint16 z16 = {32768},
 float s6 = {0.0235294122248888}, float s7 = {0.0274509806185961}, float lo = {0}, float hi = {6},
 float[16] scale_x, uint8[16] zx = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
 int8[16,16,1,1] w, float[16] scale_w, int8[16] zw = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
 int8[16,16,1,1] v, float sv = {0.01}, int8 zv = {0}, int8[16,1,3,3] depthwise, int8[16,4,3,3] grouped,
 int32[16] b, int32 zb = {0}, float exact = {0.0005}, float near = {0.000505}, float far = {0.00051}, float[16] bf,
 float[1,16,1,1] k, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float[16,16,1,1] wf,
 int8[8,8] m, float[8] scale_m, int8[8] zm = {0, 0, 0, 0, 0, 0, 0, 0}>
{
   x_q = QuantizeLinear (x, s, z)
   x_d = DequantizeLinear (x_q, s, z)
   w_d = DequantizeLinear <axis = 0> (w, scale_w, zw)
   v_d = DequantizeLinear (v, sv, zv)
   m_d = DequantizeLinear <axis = 1> (m, scale_m, zm)
   x_2 = Flatten <axis = 3> (x)
   %s
}
"""


def drop_dead(found):
    """Take out what no output needs."""
    for op in reversed(found.ops()):
        if not any(found.uses(value) or found.is_output(value) for value in op.outputs):
            found.remove(op)
    found.remove_unused(found.constants())


@pytest.fixture(scope="session")
def pattern():
    """Return the graph of a pattern by hand; ``body`` computes y."""

    def make(body, *, opset=21):
        found = graph(PATTERN % body, opset=opset)
        drop_dead(found)
        infer_types(found)
        return found

    return make


@pytest.fixture(scope="session")
def pair():
    """Return the text that quantizes ``value`` and dequantizes it as ``value_d``, or as ``out``."""

    def text(value, scale="s", zero="z", *, out=""):
        quantize = f"{value}_q = QuantizeLinear ({value}, {scale}, {zero})"
        return f"{quantize} {out or value + '_d'} = DequantizeLinear ({value}_q, {scale}, {zero})"

    return text


@pytest.fixture(scope="session")
def kernels(pattern):
    """Return how often each kernel is executed for a pattern by hand, or for a graph."""

    def count(body, *, opset=21):
        found = pattern(body, opset=opset) if isinstance(body, str) else body
        return Counter(node.op_type for node in executed_graph(to_bytes(found)).graph.node)

    return count


@dataclass
class Made:
    """What the pass made of a graph, and ONNX Runtime of that."""

    before: nncomp.Graph
    graph: nncomp.Graph
    artifact: OrtArtifact
    ctx: nncomp.Context
    feeds: list

    @property
    def executed(self) -> Executed:
        return self.artifact.executed


@pytest.fixture(scope="session")
def quantize():
    """Quantize a graph given as text for ``ort`` on random data, and build it."""

    def run(text, *, opset=20, samples=4, **options):
        found = graph(text, opset=opset)
        found.remove_unused(found.constants())
        feeds = [random_feeds(found, seed=seed) for seed in range(samples)]
        before = found.clone()
        ctx = nncomp.Context(target=OrtTarget.capabilities, data=FeedSource(feeds, found))
        nncomp.Pipeline([Quantize(**options)]).run(found, ctx)
        return Made(before, found, OrtTarget().build(found, ctx), ctx, feeds)

    return run
