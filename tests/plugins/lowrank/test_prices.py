"""Budgets of latency and energy: met by what layers cost, refused where nobody knows that."""

import numpy as np
import pytest

import nncomp
from nncomp.data import FeedSource
from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.passes import Context
from nncomp.report import with_shapes
from nncomp.targets import OpCost
from nncomp.testing import graph
from nncomp_lowrank.decompose import Decompose

NET = """
g (float[1,16,8,8] x) => (float[1,10] y)
<float[32,16,3,3] w1, float[32] b1, float[32,32,3,3] w2, float[10,32] w3, float[10] b3>
{
   [c1] a = Conv <pads = [1,1,1,1]> (x, w1, b1)
   r = Relu (a)
   [c2] c = Conv <pads = [1,1,1,1], strides = [2,2]> (r, w2)
   s = Relu (c)
   p = GlobalAveragePool (s)
   f = Flatten (p)
   [fc] y = Gemm <transB = 1> (f, w3, b3)
}
"""


def samples(count, seed=0, channels=16, rank=6):
    """Return images whose channels are mixtures of a few."""
    mixing = np.random.default_rng(99).normal(size=(channels, rank))
    sources = np.random.default_rng(seed).normal(size=(count, rank, 8, 8))
    mixed = np.einsum("nrhw,cr->nchw", sources, mixing)
    return [{"x": one[None].astype(np.float32)} for one in mixed]


def low_rank_weights(seed=0):
    """Return a second weight that is nearly of rank 8, as trained ones are."""
    rng = np.random.default_rng(seed)
    core = np.einsum(
        "oa,abhw,bi->oihw", rng.normal(size=(32, 8)), rng.normal(size=(8, 8, 3, 3)), rng.normal(size=(8, 32))
    )
    return {"w2": (core / 30 + 0.02 * rng.normal(size=core.shape)).astype(np.float32)}


def decomposed(text=NET, *, data=True, constants=None, **options):
    before = graph(text, constants=low_rank_weights() if constants is None else constants)
    infer_types(before)
    after = before.clone()
    ctx = Context(data=FeedSource(samples(8), after) if data else None)
    Decompose(**({"align": 4, "forms": ("svd", "tucker")} | options)).run(after, ctx)
    infer_types(after)
    return before, after, ctx


def cost(model, name):
    table = Context().ops
    infer_types(model)
    return sum(getattr(table.cost(op, model), name) for op in model.ops() if op.kind in ("Conv", "Gemm", "MatMul"))


class Clock:
    """A probe that takes MACs for microseconds, but for graphs with more than two layers."""

    def compare(self, graph, baseline, *, then=(), data=None, seconds=0.1):
        us = [self._us(one) for one in (graph, baseline)]
        return nncomp.Measurement(us[0], us[1], us[1] / us[0], (1.0, 1.0), pairs=0)

    def costs(self, graph, *, then=(), data=None):
        """Take parameters for energy."""
        return {"all": OpCost(0.0, float(cost(graph.clone(), "params")))}

    def _us(self, model):
        one = model.clone()
        penalty = 100 if len(one.ops()) == 3 else 1
        return cost(one, "macs") / 1000 * penalty


def test_what_is_measured_to_be_slower_is_left_with_the_reason():
    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    ctx = Context(data=FeedSource(samples(4), before), probe=Clock())
    Decompose(macs=0.7, align=4, forms=("tucker", "svd")).run(before, ctx)
    found = ctx.results["decompose"]
    assert {one["form"] for one in found["layers"].values()} == {"svd"}
    assert all(slow > fast for slow, fast in (one["latency_us"] for one in found["layers"].values()))


def test_a_budget_of_latency_is_met_by_the_times_of_layers():
    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    after = before.clone()
    clock = Clock()
    ctx = Context(data=FeedSource(samples(4), after), probe=clock)
    Decompose(latency=0.6, align=4, forms=("svd",)).run(after, ctx)
    assert cost(after, "macs") <= 0.61 * cost(before, "macs")
    assert ctx.results["decompose"]["promised_speedup"] > 1.6


def test_a_budget_of_energy_is_met_by_the_prices_of_layers():
    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    after = before.clone()
    ctx = Context(data=FeedSource(samples(4), after), probe=Clock())
    Decompose(energy=0.6, align=4, forms=("svd",)).run(after, ctx)
    assert cost(after, "params") <= 0.61 * cost(before, "params")
    found = ctx.results["decompose"]
    assert found["promised_energy_ratio"] > 1.6
    assert found["promised_speedup"] is None
    assert all(before > after for before, after in (one["energy_nj"] for one in found["layers"].values()))


@pytest.mark.parametrize("name", ["macs", "params"])
def test_layers_that_are_skipped_count_where_the_batch_is_not_known(name):
    text = NET.replace("float[1,16,8,8]", "float[N,16,8,8]").replace("float[1,10]", "float[N,10]")
    before, after, ctx = decomposed(text, **{name: 0.7}, skip=("c1",))
    sized = [graph_of_one_image(model) for model in (before, after)]
    assert cost(sized[1], name) <= 0.7 * cost(sized[0], name) + 42  # biases are no weights
    assert ctx.results["decompose"]["reached"] <= 0.7


def graph_of_one_image(model):
    return with_shapes(model, Context().ops, {"x": (1, 16, 8, 8)})


def test_a_latency_without_a_probe_is_refused():
    with pytest.raises(UnsupportedError) as caught:
        decomposed(latency=0.5)
    assert caught.value.message == "decompose.latency: nothing here can be timed"


def test_layers_are_priced_with_what_they_really_read():
    read = {}

    class Watching(Clock):
        def costs(self, graph, *, then=(), data=None):
            if data is not None:
                (array,) = next(iter(data)).values()
                read.setdefault(array.shape, []).append(array)
            return super().costs(graph)

    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    ctx = Context(data=FeedSource(samples(4), before), probe=Watching())
    Decompose(energy=0.6, align=4, forms=("svd",)).run(before, ctx)
    assert set(read) == {(1, 16, 8, 8), (1, 32, 8, 8), (1, 32)}
    assert all((array >= 0).all() and (array == 0).any() for array in read[1, 32, 8, 8])  # behind a Relu


def test_energy_is_refused_where_none_is_known():
    class Measured(Clock):
        def costs(self, graph, *, then=(), data=None):
            return None

    before = graph(NET, constants=low_rank_weights())
    infer_types(before)
    for probe in (None, Measured()):
        with pytest.raises(UnsupportedError) as caught:
            Decompose(energy=0.5, align=4).run(before, Context(probe=probe))
        assert caught.value.message == "decompose.energy: the target knows no energies"
        assert caught.value.hint == "compile for a cost model: -t sparse"
        assert caught.value.code == "NNC-T002"
