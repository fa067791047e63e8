"""The probe times what will run: pieces of a model on the target, after the passes that are still to come."""

import pytest

import nncomp
from nncomp.errors import UnsupportedError
from nncomp.passes import Context, Effect, Pass
from nncomp.pipeline import Pipeline
from nncomp.plugins import Registry
from nncomp.probe import TargetProbe
from nncomp.testing import graph

SMALL = "g (float[1,8,8,8] x) => (float[1,8,8,8] y) <float[8,8,1,1] w> { y = Conv (x, w) }"
LARGE = """g (float[1,8,8,8] x) => (float[1,8,8,8] y) <float[256,8,3,3] v, float[8,256,3,3] w>
{ a = Conv <pads = [1,1,1,1]> (x, v)  y = Conv <pads = [1,1,1,1]> (a, w) }"""


class Note(Pass):
    """Note what comes behind, or decline."""

    name = "note"
    effect = Effect.EXACT
    fail: bool = False

    def run(self, graph, ctx):
        ctx.results.setdefault("following", []).append([step.spec for step in ctx.following])
        if self.fail:
            raise UnsupportedError("nothing to do")


@pytest.fixture
def probe():
    return TargetProbe(Registry.discover().target("ort"))


def test_the_smaller_graph_is_faster(probe):
    found = probe.compare(graph(SMALL), graph(LARGE), seconds=0.0)
    assert found.ratio > 3
    assert found.baseline_us > found.latency_us > 0


def test_graphs_go_through_the_passes_to_come_and_those_that_decline_are_left_out(probe):
    steps = [Note(fail=True), Registry.discover().pass_type("quantize")()]
    built = probe._built(graph(SMALL), [nncomp.runtime.random_feeds(graph(SMALL))], steps)
    assert built.report()["kernels"]["QLinearConv"] == 1


def test_a_target_that_is_measured_has_no_prices(probe):
    assert probe.costs(graph(SMALL)) is None


def test_a_pass_knows_what_comes_behind_it():
    ctx = Context()
    Pipeline([Note(), Note(), Note()]).run(graph(SMALL), ctx)
    assert ctx.results["following"] == [["note", "note"], ["note"], []]
