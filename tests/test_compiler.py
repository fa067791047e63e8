"""The driver: a request in, files and a report out, or nothing at all."""

import importlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from nncomp.compiler import (
    BudgetMissedError,
    CompileRequest,
    compile_model,
    freeze_defaults,
    model_files,
)
from nncomp.data import ArraySource, Preprocess
from nncomp.errors import (
    DataError,
    GateError,
    ModelError,
    NncompError,
    PluginError,
    RecipeError,
    ResourceError,
    UnsupportedError,
    UsageError,
)
from nncomp.ir import Graph
from nncomp.onnx_io import load, save, to_bytes
from nncomp.plugins import Registry
from nncomp.recipe import Recipe, load_recipe, parse_recipe
from nncomp.testing import graph
from nncomp.text import model_digest

NET = """
g (float[N,4] x) => (float[N,3] y)
<float[4,3] w>
{
    [copy] a = Identity (x)
    [product] y = MatMul (a, w)
}
"""


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "thirdparty"))
    found = Registry()
    found.load("acme", lambda: importlib.import_module("acme_plugin"), origin="acme 1.0")
    assert not found.warnings
    return found


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    save(graph(NET), path)
    return path


def compiled(registry, model, **request):
    return compile_model(CompileRequest(model=model, **{"target": "acme", **request}), registry)


def files_in(folder: Path):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_compilation_writes_model_report_and_lock(registry, model, tmp_path):
    out = tmp_path / "out"
    result = compiled(registry, model, out=out)
    assert files_in(out) == ["model.onnx", "recipe.lock.toml", "report.html", "report.json"]
    assert result.files[0] == out / "model.onnx"
    assert [op.kind for op in load(out / "model.onnx").ops()] == ["MatMul"]
    report = json.loads((out / "report.json").read_text())
    assert report == result.report.as_dict()
    assert report["status"] == "done"
    assert [entry["spec"] for entry in report["passes"]] == ["drop-identity", "blur"]
    assert report["before"]["ops"] == 2
    assert report["after"]["ops"] == 1
    assert report["files"] == [{"name": "model.onnx", "bytes": (out / "model.onnx").stat().st_size}]
    assert report["measured"]["latency"]["ratio"] == 2.0


def test_the_request_of_a_graph_leaves_it_alone(registry):
    net = graph(NET)
    before = to_bytes(net)
    result = compiled(registry, net)
    assert result.files == ()
    assert to_bytes(net) == before


def test_the_default_recipe_of_the_target_is_followed_when_none_is_given(registry, model):
    assert compiled(registry, model, dry_run=True).plan.target == "acme"
    assert [one.spec for one in compiled(registry, model, dry_run=True).plan.passes] == [
        "drop-identity",
        "blur{amount=0.01, skip=[]}",
    ]


def test_a_target_without_a_recipe_asks_for_one(registry, model):
    with pytest.raises(UsageError) as caught:
        compiled(registry, model, target="absent")
    assert caught.value.message == "target 'absent' has no recipe of its own"


def test_a_target_without_its_library_is_refused_with_the_pip_line(registry, model):
    with pytest.raises(UnsupportedError) as caught:
        compiled(registry, model, target="absent", passes=("nothing",))
    assert (caught.value.code, caught.value.exit_status) == ("NNC-T001", 4)
    assert caught.value.message == "target 'absent' needs a library that is not installed: pip install absent"


def test_a_recipe_may_be_a_file_a_name_or_an_object(registry, model, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('target = "acme"\npasses = ["nothing"]\n')
    for recipe in (path, str(path), Recipe(passes=("nothing",))):
        assert compiled(registry, model, recipe=recipe, dry_run=True).plan.passes[0].spec == "nothing"
    assert len(compiled(registry, model, recipe="acme-default", dry_run=True).plan.passes) == 2


def test_a_recipe_for_another_target_is_a_contradiction(registry, model, tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('target = "absent"\npasses = ["nothing"]\n')
    with pytest.raises(RecipeError) as caught:
        compiled(registry, model, recipe=path)
    assert caught.value.code == "NNC-R012"
    assert caught.value.message == "the recipe is for target 'absent', asked for is 'acme'"


def test_recipe_and_passes_together_are_refused(registry, model):
    with pytest.raises(UsageError, match="give a recipe or passes, not both"):
        compiled(registry, model, recipe="acme-default", passes=("nothing",))


def test_a_dry_run_plans_and_writes_nothing(registry, model, tmp_path):
    result = compiled(registry, model, out=tmp_path / "out", dry_run=True)
    assert result.report is None
    assert [(one.effect, one.plugin) for one in result.plan.passes] == [("exact", "acme"), ("lossy", "acme")]
    assert [one.kind for one in result.plan.findings] == ["Identity", "MatMul"]
    assert files_in(tmp_path) == ["net.onnx"]


def test_the_same_input_gives_the_same_bytes(registry, model, tmp_path):
    for name in ("a", "b"):
        compiled(registry, model, out=tmp_path / name)
    for name in ("model.onnx", "recipe.lock.toml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("a", "b")]
    for report in reports:
        assert report.pop("measured")
    assert reports[0] == reports[1]


def test_neither_lock_nor_report_holds_a_path_or_a_date(registry, model, tmp_path):
    compiled(registry, model, out=tmp_path / "out")
    for name in ("recipe.lock.toml", "report.json"):
        text = (tmp_path / "out" / name).read_text()
        assert str(tmp_path) not in text
        assert "202" not in text.replace(model_digest(load(model)), "") or name == "report.json"


def test_a_lock_replays_to_the_same_bytes(registry, model, tmp_path):
    compiled(registry, model, out=tmp_path / "a", seed=5, passes=("blur{amount=0.5}",))
    compiled(registry, model, out=tmp_path / "b", recipe=tmp_path / "a" / "recipe.lock.toml")
    for name in ("model.onnx", "recipe.lock.toml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    lock = load_recipe(tmp_path / "a" / "recipe.lock.toml")
    assert lock.passes == ("blur{amount=0.5, skip=[]}",)
    assert lock.lock.plugins == {"acme": "acme 1.0"}
    assert lock.lock.model == model_digest(load(model))


def test_a_lock_for_another_model_or_version_warns(registry, model, tmp_path):
    compiled(registry, model, out=tmp_path / "a")
    lock = tmp_path / "a" / "recipe.lock.toml"
    lock.write_text(lock.read_text().replace('nncomp = "', 'nncomp = "9').replace('model = "', 'model = "0'))
    report = compiled(registry, model, recipe=lock).report
    assert [one.code for one in report.warnings] == ["NNC-W060", "NNC-W062"]


def test_the_model_says_what_made_it(registry, model, tmp_path):
    compiled(registry, model, out=tmp_path / "out", passes=("blur",))
    metadata = load(tmp_path / "out" / "model.onnx").info.metadata
    assert metadata["nncomp.recipe"] == "blur{amount=0.01, skip=[]}"
    assert metadata["nncomp.version"]


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


# ------------------------------------------------------------------ passes that fail


@pytest.mark.parametrize(
    ("name", "error", "code", "message"),
    [
        ("liar", GateError, "NNC-G001", "pass 'liar' declares exact, but output 'y' changed by"),
        ("breaker", PluginError, "NNC-P011", "pass 'breaker' of plugin 'acme' failed: ValueError: acme is broken"),
        ("dangler", GateError, "NNC-G002", "pass 'dangler' left an invalid graph:"),
        ("renamer", GateError, "NNC-G003", "pass 'renamer' changed the graph inputs from (x: float[N,4]) to"),
        ("quitter", PluginError, "NNC-P011", "pass 'quitter' of plugin 'acme' failed: SystemExit: 3"),
        ("hungry", MemoryError, "", ""),
        ("interrupted", KeyboardInterrupt, "", ""),
    ],
)
def test_a_failing_pass_leaves_the_destination_alone_and_names_itself(
    registry, model, tmp_path, name, error, code, message
):
    out = tmp_path / "out"
    compiled(registry, model, out=out)
    before = {path: (out / path).read_bytes() for path in files_in(out)}
    with pytest.raises(error) as caught:
        compiled(registry, model, out=out, passes=(name,))
    assert {path: (out / path).read_bytes() for path in files_in(out)} == before
    assert not [path for path in files_in(tmp_path) if ".nncomp-" in path]
    if isinstance(caught.value, NncompError):
        assert caught.value.code == code
        assert caught.value.message.startswith(message)
        assert caught.value.where.pass_name == name


def test_what_replays_a_failed_pass_is_kept_beside_the_output(registry, model, tmp_path):
    with pytest.raises(GateError) as caught:
        compiled(registry, model, out=tmp_path / "out", passes=("drop-identity", "liar"))
    assert files_in(tmp_path / "out.repro") == ["before.onnx", "feeds.npz", "recipe.toml"]
    assert f"nncomp compile {tmp_path}/out.repro/before.onnx -r {tmp_path}/out.repro/recipe.toml" in caught.value.hint
    assert [op.kind for op in load(tmp_path / "out.repro" / "before.onnx").ops()] == ["MatMul"]
    with pytest.raises(GateError):
        compiled(
            registry,
            tmp_path / "out.repro" / "before.onnx",
            recipe=tmp_path / "out.repro" / "recipe.toml",
            data=str(tmp_path / "out.repro" / "feeds.npz"),
        )


def test_what_replays_a_pass_of_a_plugin_given_by_name_names_the_plugin(model, tmp_path, monkeypatch):
    (tmp_path / "acme_liar.py").write_text(
        "import nncomp\n"
        "NNCOMP_API = 1\n"
        "class Raiser(nncomp.Pass):\n"
        "    name = 'raiser'\n"
        "    effect = nncomp.Effect.EXACT\n"
        "    def run(self, graph, ctx):\n"
        "        raise KeyError('boo')\n"
        "@nncomp.hookimpl\n"
        "def nncomp_passes():\n"
        "    return [Raiser]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError) as caught:
        compiled(Registry.discover(["acme_liar"]), model, out=tmp_path / "out", passes=("raiser",), target="ort")
    assert f" -o {tmp_path}/out.repro/out --plugin acme_liar --data " in caught.value.hint


def test_keep_going_rolls_a_failed_pass_back_and_says_so(registry, model):
    result = compiled(registry, model, passes=("drop-identity", "breaker", "nothing"), keep_going=True)
    assert [op.kind for op in result.artifact.graph.ops()] == ["MatMul"]
    assert [bool(one.error) for one in result.report.passes] == [False, True, False]
    assert result.report.accuracy.sqnr_db > 100  # the original's run may be optimized
    assert result.report.warnings[0].code == "NNC-P011"


def test_without_a_gate_a_lie_goes_through_and_the_report_says_that_nobody_looked(registry, model):
    report = compiled(registry, model, passes=("liar",), gate=False).report
    assert report.as_dict()["gate"] == "off"
    assert report.passes[0].gate is None


def test_what_a_rude_pass_changes_of_the_process_is_put_back(registry, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.random.seed(3)
    state, error = np.random.get_state()[1].copy(), np.geterr()
    filters = list(warnings.filters)
    result = compiled(registry, model, passes=("rude",))
    assert Path.cwd() == tmp_path
    assert (np.random.get_state()[1] == state).all()
    assert np.geterr() == error
    assert warnings.filters == filters
    assert result.report.status == "done"
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "acme says hello\nand hello again\n"


def test_a_target_that_cannot_take_the_result_is_exit_4(registry):
    net = graph("g (float[2,3] x) => (float[2,3] y) { y = Softmax (x) }")
    with pytest.raises(UnsupportedError, match="acme has no softmax"):
        compiled(registry, net, passes=("nothing",))


# ------------------------------------------------------------------ where results go


def refused(registry, model, out, **request):
    with pytest.raises(UsageError) as caught:
        compiled(registry, model, out=out, **request)
    assert (caught.value.code, caught.value.exit_status) == ("NNC-R020", 2)
    return caught.value.message


@pytest.mark.row(101)
def test_the_input_is_never_overwritten_however_it_is_named(registry, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "model.onnx"
    save(graph(NET), path)
    before = path.read_bytes()
    assert refused(registry, path, folder, force=True) == f"output {str(path)!r} is the input model"
    link, hard = tmp_path / "link.onnx", tmp_path / "hard.onnx"
    link.symlink_to(path)
    os.link(path, hard)
    for name in (link, hard):
        assert refused(registry, name, folder, force=True) == f"output {str(path)!r} is the input model"
    assert path.read_bytes() == before


@pytest.mark.row(24, 101)
def test_external_data_of_the_input_is_never_overwritten(registry, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    net = graph("g (float[1,512] x) => (float[1,3] y) <float[512,3] w> { y = MatMul (x, w) }")
    save(net, folder / "model.onnx", protobuf_limit=100)
    assert model_files(folder / "model.onnx") == [folder / "model.onnx", folder / "model.onnx.data"]
    (folder / "model.onnx").rename(folder / "net.onnx")
    refused_message = refused(registry, folder / "net.onnx", folder, force=True)
    assert refused_message == f"output {str(folder / 'model.onnx.data')!r} is the input model"


@pytest.mark.row(24)
def test_foreign_files_stay_and_foreign_models_are_not_replaced_without_force(registry, model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"precious")
    (out / "notes.txt").write_text("mine")
    message = refused(registry, model, out)
    assert message == f"output {str(out / 'model.onnx')!r} exists, and no compilation wrote it"
    assert (out / "model.onnx").read_bytes() == b"precious"
    compiled(registry, model, out=out, force=True)
    assert load(out / "model.onnx")
    assert (out / "notes.txt").read_text() == "mine"
    compiled(registry, model, out=out)  # now it is ours


def test_a_file_where_a_folder_should_be_is_refused(registry, model, tmp_path):
    (tmp_path / "out").write_text("")
    assert refused(registry, model, tmp_path / "out").endswith("is a file, expected a folder")
    assert refused(registry, model, tmp_path / "new.onnx").endswith("looks like a file, expected a folder")


@pytest.mark.row(95)
def test_a_disk_that_refuses_any_write_leaves_nothing_behind(registry, model, tmp_path, monkeypatch):
    import nncomp.onnx_io.files as files

    out = tmp_path / "out"
    compiled(registry, model, out=out)
    before = {path: (out / path).read_bytes() for path in files_in(out)}
    write = files._write_chunks
    for failing in range(10):
        count = iter(range(100))

        def refuse(file, chunks, *, count=count, failing=failing):
            if next(count) == failing:
                raise OSError(28, "No space left on device")
            write(file, chunks)

        monkeypatch.setattr(files, "_write_chunks", refuse)
        try:
            compiled(registry, model, out=out, passes=("blur{amount=0.5}",))
            break
        except ResourceError as error:
            assert (error.code, error.exit_status) == ("NNC-E001", 6)
        assert {path: (out / path).read_bytes() for path in files_in(out)} == before
        assert files_in(tmp_path) == ["net.onnx", "out", *(f"out/{name}" for name in before)]
    else:
        pytest.fail("no run got through")
    assert failing == 4  # model, report, page, lock


def test_a_failed_first_run_does_not_leave_folders(registry, model, tmp_path, monkeypatch):
    import nncomp.onnx_io.files as files

    def refuse(file, chunks):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_chunks", refuse)
    with pytest.raises(ResourceError, match="No space left on device"):
        compiled(registry, model, out=tmp_path / "deep" / "er" / "out")
    assert files_in(tmp_path) == ["net.onnx"]


# ------------------------------------------------------------------ freeze, digest


def test_freeze_makes_constants_of_inputs_with_defaults():
    net = graph("g (float[1,2] x, float[2] b = {1.0, 2.0}) => (float[1,2] y) { y = Add (x, b) }")
    assert freeze_defaults(net) == 1
    assert [value.name for value in net.inputs] == ["x"]
    assert net.find("b").is_constant
    assert freeze_defaults(net) == 0


def test_the_digest_follows_weights_and_not_the_place_they_are_stored(tmp_path):
    net = graph(NET)
    save(net, tmp_path / "a.onnx")
    save(net, tmp_path / "b.onnx", protobuf_limit=100)
    other = graph(NET, seed=1)
    assert model_digest(load(tmp_path / "a.onnx")) == model_digest(load(tmp_path / "b.onnx")) == model_digest(net)
    assert model_digest(other) != model_digest(net)


# ------------------------------------------------------------------ what else can go wrong


def test_an_invalid_model_is_refused_before_any_pass(registry, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"], nonsense=1)
    proto = helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]), ir_version=8)
    proto.opset_import[0].version = 17
    onnx.save(proto, tmp_path / "bad.onnx")
    with pytest.raises(ModelError) as caught:
        compiled(registry, tmp_path / "bad.onnx", passes=("drop-identity",), out=tmp_path / "out")
    assert (caught.value.code, caught.value.where.file) == ("NNC-M035", str(tmp_path / "bad.onnx"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("budget", [{"max_drop": 1.0}, {"min_cosine": 2.0}, {"nonsense": 1.0}])
def test_a_budget_out_of_range_is_a_usage_error(registry, model, budget):
    with pytest.raises(UsageError, match=f"budget {next(iter(budget))}: "):
        compiled(registry, model, budget=budget)


def test_an_original_that_cannot_be_run_is_compiled_and_the_report_says_what_is_missing(registry, monkeypatch):
    text = '<ir_version: 10, opset_import: ["": 17, "acme": 1]> g (float[1] x) => (float[1] y) { y = acme.Magic (x) }'
    from nncomp.targets import Artifact

    class Stub(Artifact):
        def save(self, folder, *, name="model"):
            return ()

        def run(self, feeds):
            raise AssertionError("not to be run")

        def measure(self, feeds, baseline, *, seconds=2.0):
            raise UnsupportedError("no acme.Magic here")

        def report(self):
            return {}

    monkeypatch.setattr(registry.targets["acme"], "build", lambda self, graph, ctx: Stub())
    report = compiled(registry, graph(text), passes=("nothing",)).report
    assert report.accuracy is None
    assert report.accuracy_skipped.startswith("the original cannot be run: ")
    assert report.as_dict()["measured"]["latency_skipped"] == "no acme.Magic here"
    assert report.before.unpriced == {"acme.Magic": 1}


def test_the_folder_that_we_are_in_may_be_the_output(registry, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = compiled(registry, Path("net.onnx"), out=Path("."))
    assert result.files[0] == Path("model.onnx")
    with pytest.raises(GateError):
        compiled(registry, Path("net.onnx"), out=Path("."), passes=("liar",))
    assert (tmp_path.parent / f"{tmp_path.name}.repro" / "before.onnx").exists()


def test_freeze_is_part_of_the_lock(registry, tmp_path):
    net = graph("g (float[1,2] x, float[2] b = {1.0, 2.0}) => (float[1,2] y) { y = Add (x, b) }")
    save(net, tmp_path / "net.onnx")
    compiled(registry, tmp_path / "net.onnx", out=tmp_path / "a", passes=("nothing",), freeze=True)
    compiled(registry, tmp_path / "net.onnx", out=tmp_path / "b", recipe=tmp_path / "a" / "recipe.lock.toml")
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()
    assert [value.name for value in load(tmp_path / "b" / "model.onnx").inputs] == ["x"]


def test_what_images_went_through_is_noted_in_the_model_and_in_the_lock(photos, classifier, tmp_path):
    photos(tmp_path / "images")
    result = compile_model(
        CompileRequest(
            model=classifier,
            out=tmp_path / "out",
            data=str(tmp_path / "images"),
            preprocess="imagenet",
            passes=("quantize",),
            measure=False,
        )
    )
    noted = json.loads(load(tmp_path / "out" / "model.onnx").info.metadata["nncomp.preprocess"])
    assert noted == {
        "resize": 256, "crop": 224, "scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    assert parse_recipe(result.lock).data.preprocess == Preprocess(**noted)
