"""Bias correction: quantization shifts the mean of a layer's outputs, and the bias takes the shift back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nncomp.data import DataSource
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.runtime import Feeds, Session
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.quantize import Quantize

_TEXT = """
g (float[1,8,6,6] x) => (float[1,16,6,6] y)
<float[16,8,1,1] w>
{
   y = Conv (x, w)
}
"""


class _Bright(DataSource):
    """Inputs far from zero: there, rounding a weight shifts the mean."""

    name = "bright"

    def __iter__(self) -> Iterator[Feeds]:
        rng = np.random.default_rng(0)
        return iter([{"x": (4 + rng.random((1, 8, 6, 6))).astype(np.float32)} for _ in range(8)])

    def fingerprint(self) -> str:
        return "bright"


def _shift(bias_samples: int) -> float:
    """Largest mean error of a channel of the quantized layer over the data."""
    model: Graph = graph(_TEXT)
    quantized = model.clone()
    ctx = Context(target=CAPABILITIES, data=_Bright())
    infer_types(quantized, ctx.ops)
    Quantize(bias_samples=bias_samples).run(quantized, ctx)
    before, after = Session(model), Session(quantized)
    errors = [after.run(feeds)["y"] - before.run(feeds)["y"] for feeds in _Bright()]
    return float(np.abs(np.mean(errors, axis=(0, 1, 3, 4))).max())


def test_the_mean_of_each_channel_comes_back() -> None:
    assert _shift(8) < 0.5 * _shift(0)


def test_a_layer_without_a_bias_gets_one() -> None:
    model = graph(_TEXT)
    ctx = Context(target=CAPABILITIES, data=_Bright())
    infer_types(model, ctx.ops)
    Quantize(bias_samples=4).run(model, ctx)
    (conv,) = [op for op in model.ops() if op.kind == "Conv"]
    assert len(conv.inputs) == 3
