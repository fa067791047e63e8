"""Generated graphs through every lossless pass, and through all of them in the order of the default recipe.

CI draws the same 200 graphs a pass each time. `python tests/bench/fuzz.py --examples 20000` draws new ones, reduces
what fails, and leaves a folder with all that replays it; its model and recipe become a case in cases/.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import nncomp_cleanup
import nncomp_fusion
from nncomp.onnx_io import load
from nncomp.passes import Context, Effect
from nncomp.pipeline import Pipeline
from nncomp.plugins import Registry
from nncomp.recipe import build_passes, load_recipe
from nncomp.testing import graph
from nncomp.testing.generate import graphs
from nncomp.testing.lawful import assert_lawful, runs
from nncomp.testing.reference import assert_same_on_reference

PASSES = {one.name: one for one in (*nncomp_cleanup.nncomp_passes(), *nncomp_fusion.nncomp_passes())}
DEFAULT = ("cleanup", "fuse", "cleanup")
CASES = sorted((Path(__file__).parent / "cases").glob("*/recipe.toml"))
SETTINGS = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def test_no_pass_is_forgotten():
    assert {name for name, step in PASSES.items() if step.effect is Effect.LOSSY} == set()
    assert {"cleanup", "fuse"} < PASSES.keys()


@pytest.mark.parametrize("name", sorted(PASSES))
def test_generated_graphs_obey_the_laws(name):
    @SETTINGS
    @given(graphs())
    def check(drawn):
        assume(runs(drawn))
        assert_lawful(PASSES[name](), drawn)

    check()


def test_generated_graphs_obey_the_laws_through_the_default_order():
    @SETTINGS
    @given(graphs(max_ops=20))
    def check(drawn):
        assume(runs(drawn))
        assert_lawful([PASSES[name]() for name in DEFAULT], drawn, settles=False)

    check()


def test_the_reference_evaluator_sees_the_same_function():
    asked = []

    @SETTINGS
    @given(graphs())
    def check(drawn):
        assume(runs(drawn))
        after = drawn.clone()
        Pipeline([PASSES[name]() for name in DEFAULT]).run(after, Context())
        asked.append(assert_same_on_reference(drawn, after))

    check()
    assert sum(asked) > len(asked) / 3


def test_the_reference_evaluator_sees_another_function():
    before = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    after = graph("g (float[2] x) => (float[2] y) { y = Abs (x) }")
    feeds = {"x": np.array([-1, 1], np.float32)}
    with pytest.raises(AssertionError, match="the reference evaluator sees another function"):
        assert_same_on_reference(before, after, feeds=feeds)


@pytest.mark.parametrize("recipe", CASES, ids=lambda path: path.parent.name)
def test_what_once_failed_holds(recipe):
    steps = build_passes(load_recipe(recipe), Registry.discover())
    assert_lawful(steps, load(recipe.with_name("repro.onnx")))
