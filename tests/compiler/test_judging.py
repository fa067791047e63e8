"""What the result is judged on: samples, labels, budgets and warnings."""

import json
from pathlib import Path

import numpy as np
import pytest

from nncomp.compiler import (
    BudgetMissedError,
    CompileRequest,
    compile_model,
)
from nncomp.data import ArraySource
from nncomp.errors import (
    DataError,
    ModelError,
    RecipeError,
    UsageError,
)
from nncomp.ir import Graph
from nncomp.onnx_io import load


def compiled(registry, model, **request):
    return compile_model(CompileRequest(model=model, **{"target": "acme", **request}), registry)


def files_in(folder: Path):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ------------------------------------------------------------------ data, accuracy, budget


def arrays(net: Graph, count=6):
    rng = np.random.default_rng(0)
    return ArraySource({"x": rng.standard_normal((count, 4)).astype(np.float32)}, net)


def test_without_data_the_result_is_compared_on_random_inputs(registry, model):
    found = compiled(registry, model).report.accuracy
    assert (found.source, found.runs) == ("random inputs", 1)
    assert found.sqnr_db == pytest.approx(40, abs=0.01)  # 1 percent off: 20 log10(100)


def test_with_data_every_sample_counts(registry, model):
    net = load(model)
    found = compiled(registry, net, data=arrays(net)).report.accuracy
    assert (found.source, found.runs) == ("calibration samples", 6)
    assert found.agreement == 1.0


def test_labels_give_accuracy_before_and_after(registry, model):
    net = load(model)
    data = arrays(net)
    weights = np.asarray(net.find("w").const.numpy())
    classes = np.array([int((feeds["x"] @ weights).argmax()) for feeds in data])
    classes[0] = (classes[0] + 1) % 3
    report = compiled(registry, net, data=data, labels=classes, budget={"max_drop": 0.1}).report
    assert report.accuracy.before == report.accuracy.after == pytest.approx(5 / 6)
    assert report.as_dict()["accuracy"]["drop"] == 0.0


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.arange(6) / 2, "are float64"),
        (np.array([0, 1, 2, 0, 1, 2], np.float32), "are float32"),
        (np.arange(6), "go from 0 to 5"),
        (np.array([[0], [1], [2], [0], [1], [-1]]), "go from -1 to 2"),
    ],
)
def test_labels_that_name_no_class_are_refused(registry, model, labels, told):
    net = load(model)
    with pytest.raises(DataError) as caught:
        compiled(registry, net, data=arrays(net), labels=labels)
    expected = "expected integers from 0 to 2, the classes of output 'y'"
    assert (caught.value.code, caught.value.message) == ("NNC-D003", f"data: labels {told}, {expected}")


def test_held_out_samples_and_labels_are_found_beside_the_calibration_samples(registry, model, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x_calibration=x[:2], x_evaluation=x[2:], y_evaluation=np.zeros(3, np.int64))
    found = compiled(registry, model, data=str(tmp_path / "d.npz")).report.accuracy
    assert (found.source, found.runs, found.labelled) == ("held-out samples", 3, 3)


def test_looking_at_the_first_samples_is_not_taken_for_a_whole_iteration(registry, model):
    report = compiled(registry, model, data="random:3", passes=("nothing",)).report
    assert report.accuracy.runs == 3
    assert [warning.code for warning in report.warnings] == ["NNC-W048"]


def test_an_iterator_that_is_good_for_one_use_is_used_once(registry, model):
    net = load(model)
    rng = np.random.default_rng(0)
    samples = ({"x": rng.standard_normal((1, 4)).astype(np.float32)} for _ in range(4))
    found = compiled(registry, net, data=samples).report.accuracy
    assert (found.source, found.runs) == ("calibration samples", 4)


def test_a_recipe_finds_its_data_beside_itself(registry, model, tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    folder.mkdir()
    np.savez(folder / "d.npz", x=np.ones((3, 4), np.float32))
    (folder / "r.toml").write_text('passes = ["nothing"]\n[data]\npath = "d.npz"\nlimit = 2\n')
    result = compiled(registry, model, recipe=folder / "r.toml")
    assert result.report.accuracy.runs == 2
    assert "limit = 2" in result.lock
    assert "d.npz" not in result.lock


def test_a_recipe_cannot_name_code(registry, model, tmp_path):
    (tmp_path / "r.toml").write_text('passes = ["nothing"]\n[data]\npath = "os:getcwd"\n')
    with pytest.raises(DataError, match="is Python code, which a recipe cannot name"):
        compiled(registry, model, recipe=tmp_path / "r.toml")


def test_a_missed_budget_keeps_the_result_as_rejected(registry, model, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BudgetMissedError) as caught:
        compiled(registry, model, out=out, budget={"min_sqnr_db": 60.0})
    error = caught.value
    assert (error.code, error.exit_status) == ("NNC-G004", 5)
    assert error.message == "the budget is missed: SQNR is 40 dB, expected at least 60 dB"
    assert files_in(out) == ["model.rejected.onnx", "report.rejected.html", "report.rejected.json"]
    assert error.result.report.status == "rejected"
    assert json.loads((out / "report.rejected.json").read_text())["budget"]["missed"]


def test_a_rejected_result_leaves_an_accepted_one_alone_and_an_accepted_one_replaces_it(registry, model, tmp_path):
    out = tmp_path / "out"
    compiled(registry, model, out=out)
    accepted = (out / "model.onnx").read_bytes()
    with pytest.raises(BudgetMissedError):
        compiled(registry, model, out=out, passes=("blur{amount=0.9}",), budget={"min_sqnr_db": 60.0})
    assert (out / "model.onnx").read_bytes() == accepted
    assert "model.rejected.onnx" in files_in(out)
    compiled(registry, model, out=out)
    assert files_in(out) == ["model.onnx", "recipe.lock.toml", "report.html", "report.json"]


def test_a_limit_on_the_drop_of_accuracy_needs_labels(registry, model):
    with pytest.raises(RecipeError) as caught:
        compiled(registry, model, budget={"max_drop": 0.01})
    assert caught.value.code == "NNC-R012"


def test_warnings_are_reported_and_strict_refuses_them(registry, model, tmp_path):
    report = compiled(registry, model, passes=("warner",)).report
    assert [(one.code, one.message) for one in report.warnings] == [("NNC-W030", "warner at 'w': this weight is odd")]
    with pytest.raises(ModelError) as caught:
        compiled(registry, model, passes=("warner",), strict=True, out=tmp_path / "out")
    assert (caught.value.code, caught.value.exit_status) == ("NNC-W030", 3)
    assert caught.value.message == "--strict: a warning: warner at 'w': this weight is odd"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"max_drop": 1.0}, "budget.max_drop: expected less than 1, got 1.0"),
        ({"min_cosine": 2.0}, "budget.min_cosine: expected at most 1, got 2.0"),
        ({"nonsense": 1.0}, "budget: unknown key 'nonsense'"),
    ],
)
def test_a_budget_out_of_range_is_a_usage_error(registry, model, budget, message):
    with pytest.raises(UsageError) as caught:
        compiled(registry, model, budget=budget)
    assert caught.value.message == message
