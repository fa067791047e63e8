"""The driver: a request in, files and a report out, the same bytes for the same input."""

import json
from pathlib import Path

import pytest

from nncomp.compiler import (
    CompileRequest,
    compile_model,
    freeze_defaults,
)
from nncomp.data import Preprocess
from nncomp.errors import (
    RecipeError,
    UnsupportedError,
    UsageError,
)
from nncomp.onnx_io import load, save, to_bytes
from nncomp.recipe import Recipe, load_recipe, parse_recipe
from nncomp.testing import graph
from nncomp.text import model_digest


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


def test_the_request_of_a_graph_leaves_it_alone(registry, model):
    net = load(model)
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


# ------------------------------------------------------------------ freeze, digest


def test_freeze_makes_constants_of_inputs_with_defaults():
    net = graph("g (float[1,2] x, float[2] b = {1.0, 2.0}) => (float[1,2] y) { y = Add (x, b) }")
    assert freeze_defaults(net) == 1
    assert [value.name for value in net.inputs] == ["x"]
    assert net.find("b").is_constant
    assert freeze_defaults(net) == 0


def test_the_digest_follows_weights_and_not_the_place_they_are_stored(tmp_path):
    text = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { y = MatMul (x, w) }"
    net, other = graph(text), graph(text, seed=1)
    save(net, tmp_path / "a.onnx")
    save(net, tmp_path / "b.onnx", protobuf_limit=100)
    assert model_digest(load(tmp_path / "a.onnx")) == model_digest(load(tmp_path / "b.onnx")) == model_digest(net)
    assert model_digest(other) != model_digest(net)


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
