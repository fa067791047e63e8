"""Sensitivity: the layer that cannot bear it ranks first, and what is proposed is a recipe that helps."""

import time
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomp.compiler import CompileRequest, compile_model
from nncomp.compiler.comparison import spread_over
from nncomp.compiler.sensitivity import rank_layers
from nncomp.errors import PluginError, RecipeError, UnsupportedError
from nncomp.hookspecs import hookimpl
from nncomp.onnx_io import save
from nncomp.options import option
from nncomp.passes import Effect
from nncomp.plugins import Registry
from nncomp.recipe import parse_recipe
from nncomp.runtime import Session
from nncomp.selectors import select
from nncomp.testing import graph
from nncomp.tuning import TunablePass, Unit

NET = """
g (float[N,8,6,6] x) => (float[N,4] y)
<float[8,8,3,3] w0, float[8,8,3,3] w1, float[8,8,3,3] w2, float[4,8] w3>
{
   [conv0] a = Conv <pads = [1, 1, 1, 1]> (x, w0)
   [conv1] b = Conv <pads = [1, 1, 1, 1]> (a, w1)
   [sum] c = Add (a, b)
   [conv2] d = Conv <pads = [1, 1, 1, 1]> (c, w2)
   [pool] e = GlobalAveragePool (d)
   f = Flatten (e)
   [head] y = Gemm <transB = 1> (f, w3)
}
"""


def fragile(layer):
    """Return the net with one layer whose small weights matter beside large ones that read nothing."""
    random = np.random.default_rng(0)
    weights = {f"w{number}": random.normal(size=(8, 8, 3, 3)).astype(np.float32) / 9 for number in range(3)}
    for weight in weights.values():  # channel 7 is silent throughout
        weight[7] = 0
    if layer is not None:
        weights[f"w{layer}"][:7, 7] = 50
    return graph(NET, constants=weights)


def samples(count=12):
    array = np.random.default_rng(1).normal(size=(count, 8, 6, 6)).astype(np.float32)
    array[:, 7] = 0
    return array


@pytest.fixture
def job(tmp_path):
    def made(layer, **request):
        save(fragile(layer), tmp_path / "net.onnx")
        np.savez(tmp_path / "data.npz", x=samples())
        settings = {"passes": ("quantize",), "cache": tmp_path / "cache", "measure": False, **request}
        return CompileRequest(model=tmp_path / "net.onnx", data=str(tmp_path / "data.npz"), **settings)

    return made


@pytest.fixture(scope="module")
def registry():
    return Registry.discover()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_planted_fragile_layer_ranks_first(job, registry, layer):
    found = rank_layers(job(layer), registry, samples=8)
    assert found.layers[0].unit == Unit(f"conv{layer}", "Conv", ("int8", "float"))
    assert found.layers[0].share > 0.9
    assert found.layers[0].sqnr_db < found.layers[1].sqnr_db - 10
    assert {one.unit.name for one in found.layers} == {"conv0", "conv1", "sum", "conv2", "pool", "head"}
    assert sum(one.share for one in found.layers) == pytest.approx(1)
    assert found.fragile() == (f"conv{layer}",)
    assert found.options(found.fragile()) == {"skip": [f"conv{layer}"]}


def test_the_proposed_recipe_is_taken_as_it_stands_and_gives_the_error_away(job, registry):
    found = rank_layers(job(1), registry)
    recipe = parse_recipe(found.tuned_recipe(found.fragile()).to_toml())
    assert recipe.options == {"quantize": {"skip": ["conv1"]}}
    worse = compile_model(job(1), registry).report.accuracy.sqnr_db
    better = compile_model(job(1, passes=(), recipe=recipe), registry).report.accuracy.sqnr_db
    assert worse == pytest.approx(found.together_db, abs=1)
    assert better > worse + 15


def test_what_the_recipe_leaves_out_already_is_no_layer_and_stays_left_out(job, registry):
    found = rank_layers(job(1, passes=('quantize{skip=["conv0"]}',)), registry)
    assert found.layers[0].unit.name == "conv1"
    assert "conv0" not in {one.unit.name for one in found.layers}
    assert found.options(["conv1"]) == {"skip": ["conv0", "conv1"]}


def test_noise_of_layers_adds_up_to_that_of_all_together(job, registry):
    found = rank_layers(job(None), registry)
    total = -10 * np.log10(sum(one.noise for one in found.layers))
    assert total == pytest.approx(found.together_db, abs=3)


def test_layers_are_ranked_alike_without_a_cache(job, registry):
    ranked = [rank_layers(job(2, cache=cache), registry).as_dict([]) for cache in (None, job(2).cache)]
    assert ranked[0] == ranked[1]


def test_labels_give_the_loss_of_accuracy(job, registry, tmp_path):
    request = job(1)
    array = samples(40)
    np.savez(tmp_path / "data.npz", x_calibration=array[20:], x_evaluation=array, y_evaluation=np.arange(40) % 4)
    found = rank_layers(request, registry, samples=40)
    assert found.runs == 40
    assert found.source == "held-out samples"
    assert 0 <= found.metric <= 1
    assert all(-1 <= one.drop <= 1 for one in found.layers)


def test_samples_are_spread_over_classes_one_behind_the_other_and_in_turn(job, registry, tmp_path):
    request = job(1)
    array = samples(64)
    best = Session(fragile(1), optimize=True).run({"x": array[:1]})["y"].argmax()
    for classes in (np.arange(64) // 16, np.arange(64) % 4):
        array[:] = array[0]
        right = np.where(classes == 3, best, (best + 1) % 4)
        np.savez(tmp_path / "data.npz", x_evaluation=array, y_evaluation=right, x_calibration=samples(8))
        found = rank_layers(request, registry, samples=16)
        assert found.runs == 16
        assert found.metric == pytest.approx(0.25, abs=0.07)


@given(st.integers(0, 300), st.integers(1, 40))
def test_what_is_kept_is_in_order_and_leaves_no_part_out(count, most):
    kept = spread_over(iter(range(count)), most)
    assert kept == sorted(set(kept))
    assert len(kept) == min(count, most)
    gaps = np.diff([*kept, count])
    assert not count or kept[0] == 0
    assert len(gaps) == 0 or gaps.max() <= 3 * count / most + 1


def test_many_are_kept_of_a_long_stream_without_looking_at_all_kept_each_time():
    began = time.process_time()
    assert len(spread_over(iter(range(100_000)), 5_000)) == 5_000
    assert time.process_time() - began < 5  # 500 million looks before


def test_a_metric_of_the_users_is_asked_of_each(job, registry):
    given = samples(2)

    def first_output(run):
        return -abs(float(run({"x": given})["y"][0, 0]))

    found = rank_layers(job(1), registry, metric=first_output)
    assert found.metric == first_output_of_the_original(given)
    assert max(found.layers, key=lambda one: abs(one.drop)).unit.name == "conv1"


def first_output_of_the_original(given):
    return -abs(float(Session(fragile(1), optimize=True).run({"x": given})["y"][0, 0]))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda run: 1 / 0, "the metric failed: ZeroDivisionError: division by zero"),
        (lambda run: "good", "the metric gave 'good', expected a finite number"),
        (lambda run: float("nan"), "the metric gave nan, expected a finite number"),
    ],
)
def test_a_metric_that_fails_is_told_as_the_users(job, registry, metric, message):
    with pytest.raises(PluginError) as caught:
        rank_layers(job(1), registry, metric=metric)
    assert (caught.value.code, caught.value.message) == ("NNC-P010", message)


def test_a_recipe_without_a_pass_that_can_be_tuned_is_refused(job, registry):
    for step, message in (("", "no pass that can be"), ("quantize", "no pass 'quantize' that can be")):
        with pytest.raises(UnsupportedError) as caught:
            rank_layers(job(1, passes=("cleanup",)), registry, step=step)
        assert caught.value.message == f"the recipe has {message} tuned layer by layer"
        assert caught.value.code == "NNC-T003"


class Dim(TunablePass):
    """Multiply weights of Conv by 1 + amount."""

    name: ClassVar[str] = "dim"
    effect: ClassVar[Effect] = Effect.LOSSY
    amount: float = option(0.1, help="how much")
    keep: tuple[str, ...] = option((), help="what to leave alone")

    def run(self, graph, ctx):
        chosen = [unit.name for unit in self.units(graph, ctx)]
        for op in graph.ops():
            if op.name in chosen:
                graph.set_input(op, 1, graph.add_constant("dimmed", graph.array(op.inputs[1]) * (1 + self.amount)))

    def units(self, graph, ctx):
        kept = select(graph, self.keep)
        return [Unit(op.name, op.kind, ("dim", "bright")) for op in graph.ops() if op.is_a("Conv") and op not in kept]

    def tuned(self, settings):
        return self.model_copy(
            update={"keep": (*self.keep, *(name for name, one in settings.items() if one == "bright"))}
        )

    def alone(self, unit):
        return self.model_copy(update={"keep": tuple(f"conv{n}" for n in range(3) if f"conv{n}" != unit)})


def test_any_pass_that_can_be_tuned_will_do(job):
    registry = Registry.discover()
    registry.load("test", lambda: SimpleNamespace(NNCOMP_API=1, nncomp_passes=hookimpl(lambda: [Dim])))
    found = rank_layers(job(None, passes=("dim", "cleanup")), registry)
    assert sorted(one.unit.name for one in found.layers) == ["conv0", "conv1", "conv2"]
    assert found.options(["conv2"]) == {"keep": ["conv2"]}
    assert all(15 < one.sqnr_db < 35 for one in found.layers)


def test_options_for_a_pass_that_the_recipe_lacks_are_refused(job, registry):
    recipe = parse_recipe('passes = ["cleanup"]\n[options.quantize]\nskip = ["a"]')
    with pytest.raises(RecipeError) as caught:
        compile_model(job(1, passes=(), recipe=recipe), registry)
    assert caught.value.message == "options.quantize: the recipe has no pass 'quantize'"


def test_options_take_the_place_of_those_in_the_line(job, registry):
    text = 'passes = [\'quantize{skip=["conv0"], bias_samples=0}\']\n[options.quantize]\nskip = ["conv1", "conv2"]\n'
    recipe = parse_recipe(text)
    assert parse_recipe(recipe.to_toml()) == recipe
    lock = parse_recipe(compile_model(job(1, passes=(), recipe=recipe), registry).lock)
    assert 'skip=["conv1", "conv2"]' in lock.passes[0]
    assert "bias_samples=0" in lock.passes[0]
    assert lock.options == {}
