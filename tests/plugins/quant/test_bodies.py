"""Quantization inside If, Loop and Scan: calibrated there, written there, right there."""

import numpy as np
import pytest

from nncomp.errors import UnsupportedError
from nncomp.onnx_io import to_bytes
from nncomp.runtime import random_feeds, run
from nncomp.testing import graph
from nncomp_ort.executed import executed_graph, read_executed

BRANCHES = """
    g (float[1,8,12,12] x, bool k) => (float[1,16,12,12] y) <float[16,8,3,3] w>
    {
       y = If (k) <
          then_branch = t () => (float[1,16,12,12] p) { [taken] c = Conv <pads = [1,1,1,1]> (x, w) p = Relu (c) },
          else_branch = e () => (float[1,16,12,12] q) <float[16,8,1,1] v> { [other] q = Conv (x, v) }
       >
    }
"""


def feeds(text, flags):
    found = graph(text, opset=18)
    return [random_feeds(found, seed=seed) | {"k": np.array(flag)} for seed, flag in enumerate(flags)]


def executed(made):
    return read_executed(executed_graph(to_bytes(made.graph)), {}, {})


def test_both_branches_are_quantized_where_both_were_seen(quantize):
    made = quantize(BRANCHES, data=feeds(BRANCHES, [True, False, True, False]), bias_samples=0)
    assert made.ctx.results["quantize"]["static"] == ["taken", "other"]
    assert executed(made).coverage == 1.0
    assert made.sqnr() > 30
    assert made.graph.has_name("w") is False  # the body captured it, and lets go
    assert len(to_bytes(made.graph)) < 0.7 * len(to_bytes(made.before))


def test_scales_are_those_of_the_values_inside(quantize):
    small = feeds(BRANCHES, [True, False])
    large = [one | {"x": 100 * one["x"]} for one in small]
    scales = []
    for data in (small, large):
        made = quantize(BRANCHES, data=data, method="minmax")
        body = next(part for part in made.graph.graphs() if part.has_name("p_scale"))
        scales.append(float(body.array(body.find("p_scale"))))
    assert scales[1] == pytest.approx(100 * scales[0], rel=1e-3)


def test_a_branch_that_no_sample_took_stays_float_and_is_said(quantize):
    made = quantize(BRANCHES, data=feeds(BRANCHES, [True, True]))
    assert made.ctx.results["quantize"]["static"] == ["taken"]
    reason = "calibration never came here: no sample took this branch"
    assert made.ctx.results["quantize"]["left_float"] == {"other": reason}
    assert ("declined", "other", reason) in made.notes
    other = {**made.feeds[0], "k": np.array(False)}
    np.testing.assert_array_equal(run(made.graph, other)["y"], run(made.before, other)["y"])


def test_skip_reaches_into_bodies(quantize):
    made = quantize(BRANCHES, data=feeds(BRANCHES, [True, False]), skip=["taken"])
    assert made.ctx.results["quantize"]["static"] == ["other"]


LOOP = """
    g (float[1,8,6,6] x, int64 n) => (float[1,8,6,6] y)
    <bool yes = {1}, float[8,8,3,3] w>
    {
       y = Loop (n, yes, x) <
          body = body (int64 i, bool go, float[1,8,6,6] a) => (bool on, float[1,8,6,6] b)
          { on = Identity (go) c = Conv <pads = [1,1,1,1]> (a, w) b = Tanh (c) }
       >
    }
"""
SCAN = """
    g (float[5,1,8,6] x) => (float[5,1,4,6] y)
    <float[4,8,1] w>
    {
       y = Scan (x) <
          num_scan_inputs = 1,
          body = body (float[1,8,6] a) => (float[1,4,6] b) { c = Conv (a, w) b = Relu (c) }
       >
    }
"""


@pytest.mark.parametrize("text", [LOOP, SCAN], ids=["Loop", "Scan"])
def test_loops_and_scans_are_quantized(quantize, text):
    found = graph(text, opset=18)
    data = [random_feeds(found, seed=seed) for seed in range(4)]
    data = [one | {"n": np.array(3)} if "n" in one else one for one in data]
    made = quantize(text, data=data)
    assert executed(made).coverage == 1.0
    assert made.sqnr() > 20


def test_products_and_tables_in_bodies_need_no_data(quantize):
    text = """
    g (float[2,64] x, int64[2] i, bool k) => (float[2,64] y) <float[64,64] w, float[512,64] table>
    {
       y = If (k) <
          then_branch = t () => (float[2,64] p) { p = MatMul (x, w) },
          else_branch = e () => (float[2,64] q) { q = Gather (table, i) }
       >
    }
    """
    made = quantize(text, data=None)
    assert made.ctx.results["quantize"]["dynamic"] == ["MatMul(p)"]
    assert made.ctx.results["quantize"]["tables"] == ["Gather(q)"]
    assert made.sqnr() > 30


def test_what_cannot_be_watched_says_so(quantize):
    text = """
    g (float[5,1,8,6] x, bool k) => (float[5,1,4,6] y)
    <float[4,8,1] w>
    {
       y = Scan (x) <
          num_scan_inputs = 1,
          body = body (float[1,8,6] a) => (float[1,4,6] b)
          {
             b = If (k) <
                then_branch = t () => (float[1,4,6] p) { p = Conv (a, w) },
                else_branch = e () => (float[1,4,6] q) { q = Conv (a, w) }
             >
          }
       >
    }
    """
    with pytest.raises(UnsupportedError) as caught:
        quantize(text)
    assert caught.value.code == "NNC-M052"
    assert str(caught.value) == (
        "quantize: nothing in this model can be quantized "
        "(2 x Conv: what this body computes cannot be watched in calibration)"
    )


def test_skipping_an_op_skips_its_bodies(quantize):
    with pytest.raises(UnsupportedError) as caught:
        quantize(BRANCHES, data=feeds(BRANCHES, [True, False]), skip=["kind:If"])
    assert str(caught.value) == "quantize: nothing in this model can be quantized (2 x Conv: skipped by option)"


def test_biases_in_bodies_are_corrected(quantize):
    """A weight with a large outlier shifts the mean of its layer; four samples of the same kind show by how much."""
    rng = np.random.default_rng(0)
    weight = np.abs(rng.standard_normal((16, 8, 3, 3))).astype(np.float32)
    weight[:, 0, 0, 0] = 100
    data = [one | {"x": np.abs(one["x"])} for one in feeds(BRANCHES, [True] * 4)]
    shifts = []
    for samples in (0, 4):
        made = quantize(BRANCHES, constants={"w": weight}, data=data, bias_samples=samples)
        errors = [run(made.graph, one)["y"] - run(made.before, one)["y"] for one in data]
        shifts.append(np.abs(np.mean(errors, axis=(0, 1, 3, 4))).mean())
    assert shifts[1] < 0.3 * shifts[0]
