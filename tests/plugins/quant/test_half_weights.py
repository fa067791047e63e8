"""Weights of 16 bits: how near results stay, what is left alone, and who is refused."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nncomp
from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import DataType
from nncomp.onnx_io import to_bytes
from nncomp.runtime import random_feeds, run
from nncomp.testing import assert_text, graph
from nncomp_ort.capabilities import CAPABILITIES
from nncomp_ort.executed import executed_graph
from nncomp_quant.half_weights import HalfWeights

SMALL = "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1, 0.5, -2, 3}> { y = MatMul (x, w) }"
NET = """
g (float[N,3,6,6] x, int64[2] i) => (float[N,8,4,4] y, float[2,16] z)
<float[8,3,3,3] w, float[8] b, float[40,16] table>
{ y = Conv (x, w, b) z = Gather (table, i) }
"""


def halved(text, *, opset=18, target=CAPABILITIES, constants=None, **options):
    found = graph(text, opset=opset, constants=constants)
    infer_types(found)
    before = found.clone()
    ctx = nncomp.Context(target=target)
    nncomp.Pipeline([HalfWeights(**{"least": 100} | options)]).run(found, ctx)
    return before, found, ctx


def test_a_cast_stands_behind_the_weight():
    assert_text(
        halved(SMALL, least=1)[1],
        """
        g (float[N,2] x) => (float[N,2] y) <float16[2,2] w_float16 = {15360, 14336, 49152, 16896}>
        { [w_Cast] w_float = Cast <to = 1> (w_float16) y = MatMul (x, w_float) }
        """,
    )


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_results_stay_within_the_rounding_of_weights(dtype, bits):
    before, after, ctx = halved(NET, dtype=dtype)
    feeds = random_feeds(before, seed=3) | {"i": np.array([1, 39])}
    expected, got = run(before, feeds), run(after, feeds)
    assert np.abs(got["z"] - expected["z"]).max() <= np.abs(expected["z"]).max() * 2.0**-bits
    bound = 27 * np.abs(feeds["x"]).max() * np.abs(before.array(before.find("w"))).max() * 2.0**-bits
    assert 0 < np.abs(got["y"] - expected["y"]).max() <= bound
    assert ctx.results["half-weights"] == {"stored": 2}  # the bias is not worth a Cast
    assert len(to_bytes(after)) < 0.6 * len(to_bytes(before))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_runtime_computes_the_casts_when_it_loads(dtype):
    kinds = [node.op_type for node in executed_graph(to_bytes(halved(NET, dtype=dtype)[1])).graph.node]
    assert "Cast" not in kinds


def test_old_models_are_lifted():
    text = "g (float[3,20] x) => (float[3,20] y) <float[20,20] w> { y = MatMul (x, w) }"
    before, after, ctx = halved(text, opset=9)
    assert after.opsets[""] == 13
    assert [(note.event, note.reason) for note in ctx.notes] == [("info", "lifted from 9 to 13")]
    feeds = random_feeds(before, seed=0)
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-2, atol=1e-2)


def test_weights_in_bodies_and_those_that_an_op_in_a_body_reads():
    text = """
    g (bool c, float[3,20] x) => (float[3,20] y) <float[20,20] w>
    {
       y = If (c) <
          then_branch = t () => (float[3,20] p) { p = MatMul (x, w) },
          else_branch = e () => (float[3,20] q) { q = Identity (x) }
       >
    }
    """
    before, after, _ = halved(text)
    feeds = random_feeds(before, seed=0) | {"c": np.array(True)}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], rtol=1e-2, atol=1e-2)


def test_what_float16_does_not_hold_is_left_alone():
    text = "g (float[3,2] x) => (float[3,2] y) <float[2,2] w = {1, 70000, 1, 1}> { y = MatMul (x, w) }"
    with pytest.raises(UnsupportedError) as caught:
        halved(text, least=2)
    assert str(caught.value).endswith("half-weights: no float32 weight of 2 elements or more that float16 holds")
    assert caught.value.code == "NNC-M052"
    assert halved(text, least=2, dtype="bfloat16")[2].results["half-weights"] == {"stored": 1}


def test_scales_of_integers_stay_float():
    text = """
    g (float[3,64] x) => (float[3,8] y, float[3,64] z)
    <int8[64,8] w, float[2,8] s, float[64] v, float[64,64] m>
    { d = DequantizeLinear <axis = 0, block_size = 32> (w, s) y = MatMul (x, d) h = Mul (x, v) z = MatMul (h, m) }
    """
    scales = {"s": np.full((2, 8), 0.01, np.float32)}
    _, after, ctx = halved(text, opset=21, least=2, constants=scales)
    assert ctx.results["half-weights"] == {"stored": 1}
    assert after.find("m_float16").type.dtype == DataType.FLOAT16


def test_skip_leaves_the_weights_of_an_op_alone():
    assert halved(NET, skip=("kind:Conv",))[2].results["half-weights"] == {"stored": 1}


def test_a_target_that_takes_none_refuses_before_any_work():
    target = replace(CAPABILITIES, half_weights=frozenset({DataType.BFLOAT16}))
    assert HalfWeights().objection(target) == "the target takes no float16 weights"
    assert HalfWeights(dtype="bfloat16").objection(target) == ""
    assert HalfWeights().objection(None) == ""
    with pytest.raises(UnsupportedError) as caught:
        halved(NET, target=target)
    assert str(caught.value).endswith("half-weights: the target takes no float16 weights")
    assert caught.value.code == "NNC-T002"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-65504, 65504, width=32), min_size=4, max_size=4), st.sampled_from(["float16", "bfloat16"]))
def test_weights_are_rounded_to_the_nearest(values, dtype):
    w = np.array(values, np.float32).reshape(2, 2)
    _, after, _ = halved(SMALL.replace(" = {1, 0.5, -2, 3}", ""), least=1, dtype=dtype, constants={"w": w})
    stored = after.array(after.find(f"w_{dtype}"))
    expected = w.astype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    assert np.array_equal(np.asarray(stored).view(np.uint16), expected.view(np.uint16))
