"""Search under a budget: gives back little, keeps the best so far, and ends in time."""

import importlib
import json
import os
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from nncomp.compiler import BudgetMissedError, CompileRequest, compile_model
from nncomp.errors import UnsupportedError
from nncomp.hookspecs import hookimpl
from nncomp.onnx_io import load, save
from nncomp.options import option
from nncomp.passes import Effect
from nncomp.plugins import Registry
from nncomp.recipe import parse_recipe
from nncomp.runtime import Session
from nncomp.selectors import select
from nncomp.statistics import Range
from nncomp.targets import Artifact, Capabilities, Measurement, Target
from nncomp.testing import graph
from nncomp.tuning import TunablePass, Unit

LAYERS = 6
NET = (
    "g (float[N,16] x) => (float[N,16] y)\n<"
    + ", ".join(f"float[16,16] w{n}" for n in range(LAYERS))
    + ">\n{\n"
    + "".join(f"  [l{n}] v{n + 1} = MatMul ({'x' if not n else f'v{n}'}, w{n})\n" for n in range(LAYERS - 1))
    + f"  [l{LAYERS - 1}] y = MatMul (v{LAYERS - 1}, w{LAYERS - 1})\n}}\n"
)
NOISE = {"l0": 0.001, "l1": 0.15, "l2": 0.002, "l3": 0.05, "l4": 0.001, "l5": 0.002}
SAVED = {"l0": 10.0, "l1": 10.0, "l2": 10.0, "l3": 1.0, "l4": 10.0, "l5": 10.0}
"""l3 makes less noise than l1, but more for each microsecond."""


class Spoil(TunablePass):
    """Add noise to weights: ``full`` by layer, a tenth of it where ``half`` says so, none where ``keep`` does."""

    name: ClassVar[str] = "spoil"
    effect: ClassVar[Effect] = Effect.LOSSY
    keep: tuple[str, ...] = option((), help="what to leave alone")
    half: tuple[str, ...] = option((), help="what to spoil less")
    only: tuple[str, ...] = option((), help="what alone to spoil")

    def run(self, graph, ctx):
        settings = {}
        for number, op in enumerate(graph.ops()):
            if op.name in self.keep or (self.only and op.name not in self.only):
                continue
            settings[op.name] = "half" if op.name in self.half else "full"
            scale = NOISE[op.name] * (0.1 if op.name in self.half else 1.0)
            weight = graph.array(op.inputs[1])
            noise = np.random.default_rng(number).normal(size=weight.shape) * scale * np.std(weight)
            graph.set_input(op, 1, graph.add_constant("spoiled", (weight + noise).astype(np.float32)))
        ctx.results[self.name] = settings

    def units(self, graph, ctx):
        kept = select(graph, self.keep)
        return [Unit(op.name, op.kind, ("full", "half", "none")) for op in graph.ops() if op not in kept]

    def tuned(self, settings):
        none = tuple(name for name, one in settings.items() if one == "none")
        half = tuple(name for name, one in settings.items() if one == "half")
        return self.model_copy(update={"keep": (*self.keep, *none), "half": (*self.half, *half)})

    def alone(self, unit):
        return self.model_copy(update={"only": (unit,)})


UNITS = [Unit(f"l{number}", "MatMul", ("full", "none")) for number in range(LAYERS)]


class PricedArtifact(Artifact):
    """A model whose latency is 100 us, less what its spoiled layers save."""

    def __init__(self, graph, settings):
        self.graph, self.session = graph, Session(graph)
        self.latency_us = 100.0 - sum(SAVED[name] * (1 if one == "full" else 0.5) for name, one in settings.items())

    def save(self, folder, *, name="model"):
        return save(self.graph, folder / f"{name}.onnx")

    def run(self, feeds):
        return self.session.run(feeds)

    def measure(self, feeds, baseline, *, seconds=2.0):
        return Measurement(self.latency_us, 100.0, 100.0 / self.latency_us, (1.0, 1.0), 1)

    def compare_with(self, baseline, feeds, *, seconds=2.0):
        ratio = baseline.latency_us / self.latency_us
        return Measurement(self.latency_us, baseline.latency_us, ratio, (ratio, ratio), 1)

    def report(self):
        return {}


class PricedTarget(Target):
    """Runs anything, at a price."""

    name: ClassVar[str] = "priced"
    summary: ClassVar[str] = "at a price"
    capabilities: ClassVar[Capabilities] = Capabilities(max_ir_version=13, opsets=(7, 26))
    default_recipe: ClassVar[str] = ""
    built: ClassVar[list] = []

    def missing(self):
        return ""

    def check(self, graph, ctx):
        return []

    def build(self, graph, ctx):
        self.built.append(dict(ctx.results.get("spoil", {})))
        return PricedArtifact(graph.clone(), ctx.results.get("spoil", {}))


@pytest.fixture
def registry():
    found = Registry.discover()
    hooks = {"nncomp_passes": hookimpl(lambda: [Spoil]), "nncomp_targets": hookimpl(lambda: [PricedTarget])}
    found.load("test", lambda: SimpleNamespace(NNCOMP_API=1, **hooks))
    PricedTarget.built.clear()
    return found


@pytest.fixture
def job(tmp_path, registry):
    random = np.random.default_rng(5)
    weights = {f"w{n}": (random.normal(size=(16, 16)) / 4).astype(np.float32) for n in range(LAYERS)}
    save(graph(NET, constants=weights), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=random.normal(size=(8, 16)).astype(np.float32))

    def compiled(limit, **request):
        defaults = {"passes": ("cleanup", "spoil"), "target": "priced", "out": tmp_path / "out"}
        settings = {**defaults, "budget": {"min_sqnr_db": limit}, **request}
        return compile_model(
            CompileRequest(model=tmp_path / "net.onnx", data=str(tmp_path / "data.npz"), **settings), registry
        )

    return compiled


def chosen(report):
    (found,) = [trial for trial in report.search.trials if trial.chosen]
    return dict(found.settings)


def test_a_budget_that_is_kept_needs_no_search(job):
    assert job(5).report.search is None
    assert len(PricedTarget.built) == 1


def test_what_is_given_back_first_is_what_makes_most_noise_for_its_time(job):
    report = job(21).report
    assert [one.name for one in report.search.candidates][:2] == ["l3", "l1"]
    costs = {one.name: one.costs_us for one in report.search.candidates}
    assert (costs["l3"], costs["l1"]) == (pytest.approx(1.0), pytest.approx(10.0))
    assert report.search.candidates[1].share > report.search.candidates[0].share


def test_no_more_is_given_back_than_the_budget_asks_for(job):
    for limit, names in ((21, ["l3"]), (22.6, ["l1"]), (40, ["l1", "l3"])):
        report = job(limit).report
        assert report.search.reached
        assert report.accuracy.sqnr_db >= limit
        assert sorted(chosen(report)) == names


def test_a_setting_in_between_is_taken_where_it_is_enough(job):
    report = job(25).report
    assert "half" in chosen(report).values()
    first = report.search.trials[0]
    full = next(one for one in report.search.trials if set(one.settings.values()) == {"none"} and not one.missed)
    (best,) = [one for one in report.search.trials if one.chosen]
    assert first.latency_us < best.latency_us < full.latency_us


def test_the_result_is_that_of_its_locked_recipe(job, tmp_path):
    result = job(25)
    recipe = parse_recipe(result.lock)
    again = job(25, out=tmp_path / "again", passes=(), recipe=recipe)
    assert again.report.search is None
    for name in ("model.onnx", "recipe.lock.toml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert load(tmp_path / "out" / "model.onnx").info.metadata["nncomp.recipe"] == "\n".join(recipe.passes)


def test_the_frontier_is_what_no_other_trial_beats(job):
    trials = job(25).report.search.trials
    for one in trials:
        beaten = any(
            other.ratio >= one.ratio and other.sqnr_db >= one.sqnr_db and other is not one
            and (other.ratio, other.sqnr_db) != (one.ratio, one.sqnr_db)
            for other in trials
        )  # fmt: skip
        assert one.frontier == (not beaten)


def test_a_goal_out_of_reach_keeps_the_best_so_far(job, tmp_path):
    with pytest.raises(BudgetMissedError) as caught:
        job(60, search={"trials": 3})
    report = caught.value.result.report
    assert report.search.stopped == "3 trials are used up"
    assert not report.search.reached
    best = max(trial.sqnr_db for trial in report.search.trials)
    assert report.accuracy.sqnr_db == pytest.approx(best)
    assert best > report.search.trials[0].sqnr_db + 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model.rejected.onnx",
        "report.rejected.html",
        "report.rejected.json",
    ]
    written = json.loads((tmp_path / "out" / "report.rejected.json").read_text())
    assert [trial["chosen"] for trial in written["search"]["trials"]].count(True) == 1
    assert caught.value.exit_status == 5


@pytest.mark.parametrize("refused", [6, 5])
def test_each_count_has_its_turn_where_giving_back_all_is_refused(job, monkeypatch, refused):
    original = Spoil.run

    def run(self, graph, ctx):
        if len(self.keep) >= refused:
            raise UnsupportedError("spoil: nothing in this model can be spoiled", code="NNC-M052")
        original(self, graph, ctx)

    monkeypatch.setattr(Spoil, "run", run)
    monkeypatch.setattr(Spoil, "units", lambda self, graph, ctx: UNITS)
    with pytest.raises(BudgetMissedError) as caught:
        job(200, measure=False)
    search = caught.value.result.report.search
    assert search.stopped == "there is nothing left to give back"
    assert all(not trial.error for trial in search.trials)
    left = [trial for trial in search.trials if trial.sqnr_db is None]
    assert {trial.missed for trial in left} == {("nothing is left to treat: this is the model as it was",)}
    by_count = {len(trial.settings): trial.sqnr_db for trial in search.trials if trial.sqnr_db is not None}
    best = max(by_count)
    assert best == refused - 1
    found = job((by_count[best] + by_count[max(set(by_count) - {best})]) / 2, measure=False).report.search
    assert found.reached


def test_time_that_is_used_up_ends_the_search(job):
    with pytest.raises(BudgetMissedError) as caught:
        job(60, search={"seconds": 0.0})
    assert caught.value.result.report.search.stopped == "0 s are used up"
    assert len(caught.value.result.report.search.trials) == 1


def test_no_trials_mean_no_search(job):
    with pytest.raises(BudgetMissedError) as caught:
        job(60, search={"trials": 0})
    assert caught.value.result.report.search is None


def test_without_latency_the_noisiest_come_first_and_all_is_the_same_each_time(job, tmp_path):
    reports = [job(25, measure=False, out=tmp_path / name).report for name in ("a", "b")]
    assert [one.name for one in reports[0].search.candidates][:2] == ["l1", "l3"]
    assert all(trial.latency_us is None for trial in reports[0].search.trials)
    assert reports[0].search == reports[1].search
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


@pytest.mark.parametrize("stop_at", [2, 5, 9])
def test_a_search_that_was_stopped_goes_on_and_gives_the_same(job, tmp_path, monkeypatch, stop_at):
    expected = job(25, out=tmp_path / "never").report.search
    whole = len(PricedTarget.built)
    PricedTarget.built.clear()
    original = PricedTarget.build

    def build(self, graph, ctx):
        if len(PricedTarget.built) == stop_at:
            raise KeyboardInterrupt
        return original(self, graph, ctx)

    with monkeypatch.context() as patched:
        patched.setattr(PricedTarget, "build", build)
        with pytest.raises(KeyboardInterrupt) as caught:
            job(25)
    assert caught.value.args == ("--resume goes on after pass 2, 'spoil'",)
    PricedTarget.built.clear()
    assert job(25, resume=True).report.search == expected
    assert len(PricedTarget.built) <= whole - (stop_at > 3)
    for name in ("model.onnx", "recipe.lock.toml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "never" / name).read_bytes()
    assert not (tmp_path / "out.checkpoint").exists()


def test_what_an_older_search_tried_does_not_count_for_a_new_one(job, monkeypatch):
    search = importlib.import_module("nncomp.compiler.search")
    made = []
    original = search.Search._made
    monkeypatch.setattr(search.Search, "_made", lambda self, settings: made.append(1) or original(self, settings))
    job(25)
    first = len(made)
    job(25)
    assert len(made) == 2 * first


def test_what_was_tried_for_another_budget_is_judged_by_the_new_one(job, monkeypatch):
    original = PricedTarget.build

    def build(self, graph, ctx):
        if len(PricedTarget.built) == 9:
            raise KeyboardInterrupt
        return original(self, graph, ctx)

    with monkeypatch.context() as patched:
        patched.setattr(PricedTarget, "build", build)
        with pytest.raises(KeyboardInterrupt):
            job(45)
    report = job(21, resume=True).report
    assert sorted(chosen(report)) == ["l3"]
    assert all(bool(trial.missed) == (trial.sqnr_db < 21) for trial in report.search.trials)


def test_isolate_holds_for_trials_too_and_gives_the_same(job, tmp_path, monkeypatch):
    log = tmp_path / "processes"
    original = Spoil.run

    def run(self, graph, ctx):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        original(self, graph, ctx)

    monkeypatch.setattr(Spoil, "run", run)
    reports = [job(25, measure=False, isolate=apart, out=tmp_path / str(apart)).report for apart in (False, True)]
    assert reports[0].search == reports[1].search
    for name in ("model.onnx", "recipe.lock.toml"):
        assert (tmp_path / "False" / name).read_bytes() == (tmp_path / "True" / name).read_bytes()
    processes = log.read_text().split()
    half = len(processes) // 2
    assert set(processes[:half]) == {str(os.getpid())}
    assert str(os.getpid()) not in processes[half:]
    assert len(set(processes[half:])) == half > 3


def test_isolated_trials_calibrate_once(job, registry, monkeypatch, tmp_path):
    log = tmp_path / "collections"
    observe = importlib.import_module("nncomp.statistics.observe")
    original_run, original = Spoil.run, observe.collect

    def collect(*args, **named):
        with log.open("a") as file:
            file.write("once\n")
        return original(*args, **named)

    def run(self, graph, ctx):
        observe.observe(graph, ctx, ["x"], lambda name: Range())
        original_run(self, graph, ctx)

    monkeypatch.setattr(observe, "collect", collect)
    monkeypatch.setattr(Spoil, "run", run)
    report = job(25, measure=False, isolate=True).report
    assert len(report.search.trials) > 1
    assert log.read_text().count("once") <= 2  # one for the compilation, one for all trials
