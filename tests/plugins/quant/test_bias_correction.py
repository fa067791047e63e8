"""Bias correction: quantization shifts the mean of a layer's outputs, and the bias takes the shift back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nncomp.data import DataSource
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph
from nncomp.passes import Context
from nncomp.runtime import Feeds, Session
from nncomp.testing import graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_quant.bias_correction import MeanVector
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


class _Spoilt(_Bright):
    """The same with some samples that say nothing."""

    def __init__(self, *spoilt: int) -> None:
        super().__init__()
        self._spoilt = spoilt

    def __iter__(self) -> Iterator[Feeds]:
        for number, feeds in enumerate(super().__iter__()):
            if number in self._spoilt:
                feeds["x"][0, 3, 2, 2] = np.nan
            yield feeds

    def fingerprint(self) -> str:
        return f"spoilt {self._spoilt}"


def _corrected(data: DataSource) -> tuple[npt.NDArray[Any], list[tuple[str, str, str]]]:
    """Return the bias that quantization leaves, in real numbers, and the warnings of bias correction."""
    model = graph(_TEXT)
    ctx = Context(target=CAPABILITIES, data=data)
    infer_types(model, ctx.ops)
    Quantize(bias_samples=8).run(model, ctx)
    zero = Session(model).run({"x": np.zeros((1, 8, 6, 6), np.float32)})["y"]
    return zero[0, :, 0, 0], [(note.code, note.node, note.reason) for note in ctx.notes if note.code == "NNC-W034"]


def _shift(bias_samples: int, *, bits: Literal[4, 8] = 8) -> float:
    """Largest mean error of a channel of the quantized layer over the data."""
    model: Graph = graph(_TEXT)
    quantized = model.clone()
    assert CAPABILITIES.int8 is not None
    int8 = replace(CAPABILITIES.int8, narrow_weights=frozenset({DataType.INT4}))
    ctx = Context(target=replace(CAPABILITIES, int8=int8), data=_Bright())
    infer_types(quantized, ctx.ops)
    Quantize(bias_samples=bias_samples, weight_bits=bits).run(quantized, ctx)
    before, after = Session(model), Session(quantized)
    errors = [after.run(feeds)["y"] - before.run(feeds)["y"] for feeds in _Bright()]
    return float(np.abs(np.mean(errors, axis=(0, 1, 3, 4))).max())


def test_the_mean_of_each_channel_comes_back() -> None:
    assert _shift(8) < 0.5 * _shift(0)
    assert _shift(8, bits=4) < 0.1 * _shift(0, bits=4)


def test_a_layer_without_a_bias_gets_one() -> None:
    model = graph(_TEXT)
    ctx = Context(target=CAPABILITIES, data=_Bright())
    infer_types(model, ctx.ops)
    Quantize(bias_samples=4).run(model, ctx)
    (conv,) = [op for op in model.ops() if op.kind == "Conv"]
    assert len(conv.inputs) == 3


def test_a_sample_that_is_not_finite_is_left_out_of_the_mean() -> None:
    whole, nothing = _corrected(_Bright())
    bias, warnings = _corrected(_Spoilt(2, 5))
    assert nothing == []
    reason = "2 of 8 samples are NaN, infinite or empty here: the bias is corrected without them"
    assert warnings == [("NNC-W034", "Conv(y)", reason)]
    assert np.abs(whole).max() > 0.01
    np.testing.assert_allclose(bias, whole, atol=0.3 * np.abs(whole).max())


def test_without_a_finite_sample_the_bias_stays() -> None:
    bias, warnings = _corrected(_Spoilt(*range(8)))
    reason = "8 of 8 samples are NaN, infinite or empty here: the bias stays as it is"
    assert warnings == [("NNC-W034", "Conv(y)", reason)]
    assert not bias.any()


def test_the_mean_is_of_finite_vectors() -> None:
    mean = MeanVector()
    mean.update(np.array([1.0, 4.0], np.float32))
    mean.update(np.array([[np.nan, 2.0], [3.0, -np.inf], [3.0, 8.0]], np.float32))
    assert mean.mean().tolist() == [2.0, 6.0]
