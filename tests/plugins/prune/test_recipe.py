"""Pruning in a recipe: in front of quantization, for ONNX Runtime, with the report saying what each step cost."""

from __future__ import annotations

import numpy as np
import pytest

import nncomp
from nncomp.errors import RecipeError, UnsupportedError
from nncomp.testing import graph

WIDE = """
g (float[n,3,8,8] x) => (float[n,4] y)
<float[64,3,3,3] w1, float[64] b1, float[64,64,3,3] w2, float[64] b2, float[64,4] w3, float[4] b3>
{
   c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
   r1 = Relu (c1)
   c2 = Conv <pads=[1,1,1,1]> (r1, w2, b2)
   r2 = Relu (c2)
   p = GlobalAveragePool (r2)
   f = Flatten (p)
   y = Gemm (f, w3, b3)
}
"""


def compiled(*passes, **fields):
    data = {"x": np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)}
    return nncomp.compile_model(
        nncomp.CompileRequest(model=graph(WIDE), data=data, passes=passes, measure=False, **fields)
    )


def test_pruned_and_then_quantized():
    result = compiled("cleanup", "fuse", "prune-structured{macs=0.5}", "equalize", "quantize")
    sizes = result.report.results["prune-structured"]["dimensions"]
    assert sum(one["left"] % 16 != 0 for one in sizes.values()) <= 1  # the budget is met, too
    assert 0.49 <= result.report.after.macs / result.report.before.macs <= 0.5
    assert result.report.target_report["int8_coverage"] == 1.0
    gates = {record.spec.partition("{")[0]: record.gate for record in result.report.passes}
    assert gates["prune-structured"].deviation.sqnr_db > 5
    assert gates["quantize"].deviation.sqnr_db > 20


def test_the_wrong_order_is_refused():
    with pytest.raises(RecipeError) as caught:
        compiled("quantize", "prune-structured{macs=0.5}")
    assert "what is left is refitted in float" in caught.value.message


def test_zeros_for_onnx_runtime_are_refused():
    with pytest.raises(UnsupportedError) as caught:
        compiled('sparsify{pattern="2:4"}')
    assert caught.value.exit_status == 4
    assert "no faster with zeros" in caught.value.message
