"""Generated graphs through every lossless pass, and through all of them in the order of the default recipe.

CI draws the same 200 graphs a pass each time. `python tests/bench/fuzz.py --examples 20000` draws new ones, reduces
what fails, and leaves a folder with all that replays it; its model and recipe become a case in cases/.
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

import nncomp_cleanup
import nncomp_fusion
from nncomp.onnx_io import load
from nncomp.passes import Effect
from nncomp.plugins import Registry
from nncomp.recipe import build_passes, load_recipe
from nncomp.testing.generate import graphs
from nncomp.testing.lawful import assert_lawful, runs

PASSES = {one.name: one for one in (*nncomp_cleanup.nncomp_passes(), *nncomp_fusion.nncomp_passes())}
DEFAULT = ("cleanup", "fuse", "cleanup")
CASES = sorted((Path(__file__).parent / "cases").glob("*/recipe.toml"))
SETTINGS = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def test_no_pass_is_forgotten():
    assert {name for name, step in PASSES.items() if step.effect is Effect.LOSSY} == set()
    assert {"cleanup", "fuse"} < PASSES.keys()


@pytest.mark.parametrize("name", ["cleanup", "fuse"])
def test_generated_graphs_obey_the_laws(name):
    @SETTINGS
    @given(graphs())
    def check(graph):
        assume(runs(graph))
        assert_lawful(PASSES[name](), graph)

    check()


def test_generated_graphs_obey_the_laws_through_the_default_order():
    @SETTINGS
    @given(graphs(max_ops=20))
    def check(graph):
        assume(runs(graph))
        assert_lawful([PASSES[name]() for name in DEFAULT], graph, settles=False)

    check()


@pytest.mark.parametrize("recipe", CASES, ids=lambda path: path.parent.name)
def test_what_once_failed_holds(recipe):
    steps = build_passes(load_recipe(recipe), Registry.discover())
    assert_lawful(steps, load(recipe.with_name("repro.onnx")))
