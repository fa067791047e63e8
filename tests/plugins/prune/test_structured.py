"""The pass ``prune-structured``: less is left, what is left makes up for it, and the surgery is exact."""

from __future__ import annotations

import re

import numpy as np
import pytest

from nncomp.axes import analyse
from nncomp.errors import DataError, RecipeError, UnsupportedError
from nncomp.onnx_io import to_bytes
from nncomp.ops import builtin_table, set_layer_bias
from nncomp.passes import Context
from nncomp.runtime import Session
from nncomp.targets import Capabilities, Measurement, OpCost
from nncomp.testing import graph
from nncomp.verify import verify
from nncomp_prune.allocation import Curve
from nncomp_prune.branches import branches
from nncomp_prune.budget import Budget, Money
from nncomp_prune.fitting import layer_of
from nncomp_prune.readings import readings
from nncomp_prune.schedule import OutputError, Schedule, divided, schedules
from nncomp_prune.structured import PruneStructured
from nncomp_prune.tracks import tracks


@pytest.fixture(scope="session")
def pruned(context):
    def apply(made, ctx=None, **options):
        found, ctx = made.clone(), ctx or context(made)
        PruneStructured(**{"align": 1} | options).run(found, ctx)
        verify(found)
        return found, ctx

    return apply


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
@pytest.mark.parametrize("name", ["network", "chain"])
def test_the_budget_of_operations_is_met_and_not_by_far(name, share, request, pruned):
    made = request.getfixturevalue(name)
    found, _ = pruned(made, macs=share)
    before, after = analyse(made.clone()).macs(), analyse(found).macs()
    assert after <= share * before
    assert after >= (share - 0.1) * before  # networks this small have few steps


WIDE = """
g (float[n,8] x) => (float[n,4] y) <float[8,300] w1, float[300,200] w2, float[200,120] w3, float[120,4] w4>
{ a = MatMul (x, w1) b = Relu (a) c = MatMul (b, w2) d = Relu (c) e = MatMul (d, w3) f = Relu (e) y = MatMul (f, w4) }
"""


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("budget", ["macs", "params"])
def test_the_budget_is_met_within_a_percent(budget, share, built, pruned):
    made = built(WIDE)
    found, ctx = pruned(made, Context(), criterion="l2", compensate="none", **{budget: share})
    before, after = (getattr(analyse(one.clone()), budget)() for one in (made, found))
    assert share - 0.01 <= after / before <= share
    assert ctx.results["prune-structured"][budget] == pytest.approx(after / before)


def test_the_budget_of_parameters_is_met(network, pruned):
    found, ctx = pruned(network, params=0.5)
    assert analyse(found).params() <= 0.5 * analyse(network.clone()).params()
    assert 0.4 < ctx.results["prune-structured"]["params"] <= 0.5


def test_a_ratio_is_taken_from_every_dimension(chain, pruned):
    _, ctx = pruned(chain, ratio=0.5)
    sizes = ctx.results["prune-structured"]["dimensions"]
    assert {name: (one["size"], one["left"]) for name, one in sizes.items()} == {"h1[1]": (24, 12), "m2[1]": (12, 6)}


def test_least_squares_beats_biases_and_biases_beat_nothing(chain, pruned, distance):
    errors = [distance(chain, pruned(chain, ratio=0.5, compensate=how)[0]) for how in ("least-squares", "bias", "none")]
    assert errors[0] < 0.5 * errors[1]
    assert errors[1] < errors[2]


def test_the_output_error_ranks_better_than_weights(network, pruned, distance):
    by_error = distance(network, pruned(network, ratio=0.5)[0])
    by_weights = distance(network, pruned(network, ratio=0.5, criterion="l1")[0])
    assert by_error < by_weights


@pytest.mark.parametrize("criterion", ["l1", "l2", "geometric-median", "apoz", "mean", "variance"])
def test_every_criterion_prunes(network, criterion, pruned):
    found, _ = pruned(network, macs=0.6, criterion=criterion, compensate="bias")
    assert analyse(found).macs() < 0.6 * analyse(network.clone()).macs()


def test_by_weights_the_smallest_channels_leave(chain, pruned):
    weight = np.array(chain.array(chain.find("w1")))
    weight[:, 3:9] *= 1e-3
    op = chain.find("h1").producer
    chain.set_input(op, 1, chain.add_constant("w", weight))
    found, _ = pruned(chain, ratio=0.25, criterion="l1", compensate="none", keep=("output:m2",))
    left = found.array(found.find("h1").producer.input(1))
    np.testing.assert_array_equal(left, np.delete(weight, np.s_[3:9], axis=1))


def test_scales_of_batch_normalization_rank_channels(pruned, built, chain):
    made = built(
        "g (float[n,3,5,5] x) => (float[n,4,5,5] y)"
        "<float[8,3,1,1] w, float[8] scale = {1,9,1,9,9,9,9,9}, float[8] b, float[8] m, float[8] var, float[4,8,1,1] v>"
        "{ c = Conv (x, w)  d = BatchNormalization (c, scale, b, m, var)  r = Relu (d)  y = Conv (r, v) }"
    )
    found, _ = pruned(made, ratio=0.25, criterion="bn-scale", compensate="none")
    assert found.array(found.find("d").producer.input(1)).tolist() == [9.0] * 6
    with pytest.raises(UnsupportedError) as caught:
        pruned(chain, ratio=0.5, criterion="bn-scale")
    assert caught.value.message == "prune-structured: no batch normalization scales the channels of 'h1[1]'"
    assert (caught.value.code, caught.value.exit_status) == ("NNC-M052", 4)


def test_what_the_target_likes_is_kept(chain, pruned, context):
    target = Capabilities(13, (7, 26), channel_alignment=8)
    _, ctx = pruned(chain, context(chain, target=target), macs=0.7, align=0)
    sizes = ctx.results["prune-structured"]["dimensions"]
    assert (sizes["h1[1]"]["left"], sizes["m2[1]"]["left"]) == (16, 12)
    _, ctx = pruned(chain, context(chain, target=target), macs=0.6, align=0)  # 8 + 12 or 16 + 8 save too much
    assert 0.55 <= ctx.results["prune-structured"]["macs"] <= 0.6


def test_kept_and_skipped_ops_stay(chain, pruned):
    found, ctx = pruned(chain, ratio=0.5, keep=("output:h1",))
    assert found.find("h1").shape[-1] == 24
    assert found.find("m2").shape[-1] == 6
    found, ctx = pruned(chain, ratio=0.5, skip=("output:y",))
    np.testing.assert_array_equal(found.array(found.find("w3")), chain.array(chain.find("w3")))
    reasons = {note.node: note.reason for note in ctx.notes if note.event == "declined"}
    assert reasons["m2[1]"] == "a layer that sums over it is skipped"


def test_what_cannot_be_pruned_is_listed_with_its_reason(network, pruned):
    _, ctx = pruned(network, ratio=0.5)
    reasons = [note.reason for note in ctx.notes if note.event == "declined"]
    assert any("a graph input" in reason for reason in reasons)
    assert any("a graph output" in reason for reason in reasons)


def test_nothing_pruned_is_a_failure(pruned, built, chain):
    made = built("g (float[n,3] x) => (float[n,4] y) <float[3,4] w> { y = MatMul (x, w) }")
    with pytest.raises(UnsupportedError) as caught:
        pruned(made, macs=0.5)
    assert re.match(r"prune-structured: nothing in this model can be pruned \(1 x a graph input", caught.value.message)
    assert (caught.value.code, caught.value.exit_status) == ("NNC-M052", 4)
    with pytest.raises(UnsupportedError) as caught:
        pruned(chain, ratio=0.001)
    assert caught.value.message == "prune-structured: the budget leaves everything as it is"


BLOCK = """
g (float[n,3,6,6] x) => (float[n,5] y)
<float[16,3,3,3] w1, float[16] b1, float[8,16,3,3] w2, float[16,8,3,3] w3, float[16] b3, float[16,5] w5, float[5] b5>
{
   c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
   r1 = Relu (c1)
   c2 = Conv <pads=[1,1,1,1]> (r1, w2)
   r2 = Relu (c2)
   c3 = Conv <pads=[1,1,1,1]> (r2, w3, b3)
   s = Add (c3, r1)
   r3 = Relu (s)
   p = GlobalAveragePool (r3)
   f = Flatten (p)
   y = Gemm (f, w5, b5)
}
"""


def test_a_branch_that_the_budget_has_no_room_for_goes_as_a_whole(pruned, distance, built):
    made = built(BLOCK)
    found, ctx = pruned(made, macs=0.2, keep=("output:c1",))
    assert [op.kind for op in found.ops()] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    assert ctx.results["prune-structured"]["dimensions"] == {"c2[1]": {"size": 8, "left": 0}}
    assert distance(made, found) < 0.1
    found, ctx = pruned(made, macs=0.3, keep=("output:c1",), branches=False)
    assert ctx.results["prune-structured"]["dimensions"] == {"c2[1]": {"size": 8, "left": 1}}


def test_a_budget_that_cannot_be_met_is_refused(pruned, built):
    with pytest.raises(UnsupportedError) as caught:
        pruned(built(BLOCK), macs=0.2, keep=("output:c1",), branches=False)
    assert caught.value.message == "prune-structured: the smallest model found has 0.26 of the macs, the budget is 0.2"
    assert (caught.value.code, caught.value.exit_status) == ("NNC-M052", 4)


def test_of_two_branches_that_meet_in_a_sum_one_stays(built):
    made = built(
        "g (float[n,3,6,6] x) => (float[n,5,6,6] y)"
        "<float[8,3,1,1] w1, float[4,8,1,1] w2, float[4] b2, float[8,3,1,1] w3, float[4,8,1,1] w4, float[4] b4,"
        " float[5,4,1,1] w5>"
        "{ a = Conv (x, w1)  ar = Relu (a)  b = Conv (ar, w2, b2)  c = Conv (x, w3)  cr = Relu (c)"
        "  d = Conv (cr, w4, b4)  s = Add (b, d)  r = Relu (s)  y = Conv (r, w5) }"
    )
    table = builtin_table()
    reading, elsewhere = readings(analyse(made), table)
    found, _ = tracks(analyse(made), reading, elsewhere)
    assert [track.name for track in branches(made, found, reading, table)] == ["a[1]"]


def test_a_latency_may_be_bought_with_whole_branches(built, pruned, context):
    class Probe:
        """A machine whose time goes with the number of ops."""

        def compare(self, made, baseline, *, then=(), data=None, seconds=0.1):
            ratio = len(list(baseline.ops())) / len(list(made.ops()))
            return Measurement(1.0, ratio, ratio, (ratio, ratio), 1)

    made = built(BLOCK)
    found, _ = pruned(made, context(made, probe=Probe()), latency=0.6, keep=("output:c1",))
    assert [op.kind for op in found.ops()] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]


def test_a_branch_that_may_go_is_priced_without_it(built, context):
    made = built(BLOCK)
    ctx = context(made)
    analysis = analyse(made, ctx.ops)
    reading, elsewhere = readings(analysis, ctx.ops)
    (branch,) = [track for track in tracks(analysis, reading, elsewhere)[0] if track.layers == ("c3",)]
    (one,) = schedules(made, [branch], ctx, whole=[branch], samples=64, positions=36, ridge=1e-3, sensitivity=16)
    held = divided(ctx.data, 64, 16)[0]
    without = made.clone()
    layer = layer_of(without, "c3", ctx.ops)
    wanted = np.concatenate([Session(made, outputs=["c3"]).run(feeds)["c3"] for feeds in divided(ctx.data, 64, 16)[1]])
    set_layer_bias(without, layer.bias, wanted.mean(axis=(0, 2, 3))[None].astype(np.float64))
    op = without.find("c3").producer
    without.set_input(op, 1, without.add_constant("none", np.zeros((16, 8, 3, 3), np.float32)))
    assert len(one.order) == 8
    assert (np.diff(one.errors) >= 0).all()
    assert one.errors[-1] == pytest.approx(OutputError.of(made, held).measure(without), rel=1e-3)


def test_surgery_that_nothing_could_check_is_told(built, pruned):
    made = built(
        "g (float[n,8] x, int64[2] shape) => (float[a,b] y) <float[8,24] w1, float[24,4] w2>"
        "{ h = MatMul (x, w1)  r = Relu (h)  z = MatMul (r, w2)  y = Reshape (z, shape) }"
    )
    found, ctx = pruned(made, Context(), macs=0.5, criterion="l1", compensate="none")
    assert found.find("h").shape[-1] == 12
    (warning,) = [note for note in ctx.notes if note.event == "warning"]
    assert warning.code == "NNC-W063"
    assert warning.reason.startswith("what was taken out could not be checked: ")


def test_there_is_one_budget(chain, pruned):
    with pytest.raises(RecipeError) as caught:
        pruned(chain)
    assert caught.value.message == "prune-structured: give one budget: macs, params, latency, energy or ratio"
    with pytest.raises(RecipeError) as caught:
        pruned(chain, macs=0.5, ratio=0.5)
    message = "prune-structured: give one budget: macs, params, latency, energy or ratio, not macs and ratio"
    assert caught.value.message == message


def test_data_is_asked_for_where_it_is_needed(chain, pruned):
    with pytest.raises(DataError) as caught:
        pruned(chain, Context(), macs=0.5)
    assert caught.value.message == (
        "prune-structured: ranking by obs and compensation by least-squares need calibration data"
    )
    assert caught.value.code == "NNC-D006"
    found, _ = pruned(chain, Context(), macs=0.5, criterion="l2", compensate="none")
    assert analyse(found).macs() < 0.5 * analyse(chain.clone()).macs()


def test_a_latency_is_bought_by_trial(chain, pruned, context):
    class Probe:
        """A machine whose time is the square root of the operations."""

        def compare(self, made, baseline, *, then=(), data=None, seconds=0.1):
            ratio = (analyse(baseline.clone()).macs() / analyse(made.clone()).macs()) ** 0.5
            return Measurement(1.0, ratio, ratio, (ratio, ratio), 1)

    found, _ = pruned(chain, context(chain, probe=Probe()), latency=0.7)
    assert (analyse(found).macs() / analyse(chain.clone()).macs()) ** 0.5 == pytest.approx(0.7, abs=0.05)
    with pytest.raises(UnsupportedError) as caught:
        pruned(chain, latency=0.7)
    assert caught.value.message == "prune-structured.latency: there is no target to measure on"


def test_energy_is_bought_where_the_target_says_it_is_spent(chain, pruned, context):
    """Layers count by their energy: one that is dear loses channels first, though it is not the largest."""

    class Probe:
        def __init__(self, dear):
            self.dear = dear

        def costs(self, made, *, then=(), data=None):
            price = dict.fromkeys(self.dear, 100.0)
            works = analyse(made.clone()).works
            return {one.op.label: OpCost(1.0, one.macs * price.get(one.op.output.name, 1.0)) for one in works}

    def energy(made, probe):
        return sum(cost.energy_pj for cost in probe.costs(made).values())

    dear, other = ({"h1"}, {"y"})
    found, _ = pruned(chain, context(chain, probe=Probe(dear)), energy=0.5, align=1)
    spent = energy(found, Probe(dear)) / energy(chain, Probe(dear))
    assert spent == pytest.approx(0.5, abs=0.06)
    elsewhere, _ = pruned(chain, context(chain, probe=Probe(other)), energy=0.5, align=1)
    assert found.find("h1").shape[-1] < elsewhere.find("h1").shape[-1]
    with pytest.raises(UnsupportedError) as caught:
        pruned(chain, energy=0.5)
    assert caught.value.message == "prune-structured.energy: the target knows no energies"
    assert caught.value.code == "NNC-T002"


def test_the_bytes_do_not_depend_on_threads(network, pruned, context):
    found = {to_bytes(pruned(network, context(network, threads=count), macs=0.5)[0]) for count in (1, 3)}
    assert len(found) == 1


def test_what_a_transformer_sums_over_is_pruned_by_heads(pruned):
    made = graph(
        "g (float[1,6,8] x) => (float[1,6,8] y)"
        "<float[8,16] wq, float[8,16] wk, float[8,16] wv, float[16,8] wo, float[8] bo,"
        "int64[4] split = {1,6,4,4}, int64[3] join = {1,6,16}> {"
        "q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)"
        "q4 = Reshape (q, split)  k4 = Reshape (k, split)  v4 = Reshape (v, split)"
        "qt = Transpose <perm=[0,2,1,3]> (q4)  kt = Transpose <perm=[0,2,3,1]> (k4)"
        "vt = Transpose <perm=[0,2,1,3]> (v4)"
        "a = MatMul (qt, kt)  p = Softmax <axis=-1> (a)  c = MatMul (p, vt)"
        "t = Transpose <perm=[0,2,1,3]> (c)  r = Reshape (t, join)  o = MatMul (r, wo)  y = Add (o, bo) }"
    )
    found, ctx = pruned(made, _context(made), ratio=0.5)
    (one,) = ctx.results["prune-structured"]["dimensions"].values()
    assert one == {"size": 4, "left": 2}
    assert found.find("v").shape == (1, 6, 8)


def _context(made):
    from nncomp.data import FeedSource

    rng = np.random.default_rng(0)
    data = [{"x": rng.normal(size=(1, 6, 8)).astype(np.float32)} for _ in range(20)]
    return Context(data=FeedSource(data, made))


SHARED = """
g (float[n,3,6,6] x) => (float[n,5] y)
<float[12,3,3,3] w1, float[8,12,3,3] w2, float[8] b2, float[5,8] w3>
{
   c1 = Conv <pads=[1,1,1,1]> (x, w1)
   r1 = Relu (c1)
   s = MaxPool <kernel_shape=[2,2], strides=[2,2]> (x)
   d1 = Conv <pads=[1,1,1,1]> (s, w1)
   q1 = Relu (d1)
   c2 = Conv <pads=[1,1,1,1]> (r1, w2, b2)
   r2 = Relu (c2)
   d2 = Conv <pads=[1,1,1,1]> (q1, w2, b2)
   q2 = Relu (d2)
   p = GlobalAveragePool (r2)
   o = GlobalAveragePool (q2)
   m = Add (p, o)
   f = Flatten (m)
   y = Gemm <transB=1> (f, w3)
}
"""


@pytest.mark.parametrize("options", [{}, {"criterion": "l1", "compensate": "none"}, {"compensate": "bias"}])
def test_weights_that_layers_share_stay_shared(options, pruned, built):
    made = built(SHARED)
    before = analyse(made.clone())
    found, ctx = pruned(made, macs=0.6, **options)
    after = analyse(found.clone())
    assert found.find("c2").producer.input(1) is found.find("d2").producer.input(1)
    assert 0.5 <= after.macs() / before.macs() <= 0.6
    assert ctx.results["prune-structured"]["macs"] == pytest.approx(after.macs() / before.macs())
    assert after.params() < 0.75 * before.params()


BOTTLENECK = """
g (float[n,3,6,6] x) => (float[n,5] y)
<float[16,3,3,3] w1, float[16] b1, float[8,16,1,1] w2, float[8,8,3,3] w3, float[16,8,1,1] w4, float[16] b4,
 float[16,5] w5, float[5] b5>
{
   c1 = Conv <pads=[1,1,1,1]> (x, w1, b1)
   r1 = Relu (c1)
   c2 = Conv (r1, w2)
   r2 = Relu (c2)
   c3 = Conv <pads=[1,1,1,1]> (r2, w3)
   r3 = Relu (c3)
   c4 = Conv (r3, w4, b4)
   s = Add (c4, r1)
   r4 = Relu (s)
   p = GlobalAveragePool (r4)
   f = Flatten (p)
   y = Gemm (f, w5, b5)
}
"""


@pytest.mark.parametrize("compensate", ["least-squares", "none"])
def test_what_stands_in_front_of_a_branch_that_leaves_goes_too(compensate, pruned, built):
    found, ctx = pruned(built(BOTTLENECK), macs=0.36, keep=("output:c1",), compensate=compensate)
    assert [op.kind for op in found.ops()] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"]
    sizes = ctx.results["prune-structured"]["dimensions"]
    assert sizes == {"c2[1]": {"size": 8, "left": 0}, "c3[1]": {"size": 8, "left": 0}}


def test_what_goes_with_a_branch_counts(built, context):
    made = built(BOTTLENECK)
    ctx, analysis = context(made), analyse(made)
    found = {track.name: track for track in tracks(analysis, *readings(analysis, builtin_table()))[0]}
    sizes = {"c2[1]": 7, "c3[1]": 8}  # of the first one stays, of the second all may leave
    planned = [Schedule(found[name], np.arange(left), np.arange(9.0)) for name, left in sizes.items()]
    curves = [Curve(one.errors, np.array([0, len(one.order)])) for one in planned]
    bought = Money(made, analysis, planned, ctx).by_count(curves, 0.36, Budget.MACS)
    assert bought.gone.tolist() == [0, 8]
    assert bought.share == pytest.approx((432 * 36 + 80) / ((432 + 128 + 576 + 128) * 36 + 80))


def test_few_samples_are_looked_at_more_closely(chain, context):
    one = PruneStructured(macs=0.5)
    assert one._positions(context(chain)) == 24_576 // 64
    assert PruneStructured(macs=0.5, samples=8, positions=5000)._positions(context(chain)) == 5000


def test_an_output_whose_size_depends_on_the_data_counts_as_wholly_wrong():
    feeds = [{"x": np.array([-1.0, 2.0, 3.0], np.float32)}]
    made = [
        graph(f"g (float[3] x) => (float[k] y) <int64[1] a = {{0}}, int64[1] b = {{{n}}}> {{ y = Slice (x, a, b) }}")
        for n in (2, 3)
    ]
    assert OutputError.of(made[0], feeds).measure(made[1]) == 1.0
