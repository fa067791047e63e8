"""nncomp.compile: what the command line does, from any form of a model, in one call."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import nncomp
from nncomp.cli import main
from nncomp.compiler import BudgetMissedError, CompileRequest
from nncomp.errors import DataError, UsageError
from nncomp.onnx_io import from_bytes, save
from nncomp.report import Report
from nncomp.testing import graph

NET = """
g (float[N,16] x) => (float[N,4] y)
<float[16,32] w1, float[32] b1, float[32,4] w2>
{ a = MatMul (x, w1)  b = Add (a, b1)  c = Relu (b)  y = MatMul (c, w2) }
"""
FEEDS = {"x": np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)}


@pytest.fixture
def model(tmp_path):
    """Return the path of a model, with data beside it."""
    save(graph(NET), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).normal(size=(8, 16)).astype(np.float32))
    return tmp_path / "net.onnx"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_writes_what_the_command_line_writes(model, tmp_path):
    data = str(tmp_path / "data.npz")
    compiled = nncomp.compile(model, data=data, measure=False)
    written = compiled.save(tmp_path / "python")
    assert main(["compile", str(model), "-o", str(tmp_path / "shell"), "--data", data, "--no-measure"]) == 0
    ours, theirs = files(tmp_path / "python"), files(tmp_path / "shell")
    assert ours.keys() == theirs.keys()
    for name in ("model.onnx", "recipe.lock.toml"):
        assert ours[name] == theirs[name]
    assert {path.name for path in written} == ours.keys()
    assert written[0] == tmp_path / "python" / "model.onnx"
    assert compiled.recipe == ours["recipe.lock.toml"].decode()


def test_every_form_of_a_model_gives_the_same(model, tmp_path):
    forms = [str(model), model, model.read_bytes(), onnx.load(model), nncomp.load(model)]
    kept = nncomp.onnx_io.to_bytes(forms[-1])
    found = [nncomp.compile(form, passes=["cleanup", "fuse"], measure=False) for form in forms]
    models = []
    for number, one in enumerate(found):
        one.save(tmp_path / str(number))
        models.append((tmp_path / str(number) / "model.onnx").read_bytes())
    assert len(set(models)) == 1
    assert nncomp.onnx_io.to_bytes(forms[-1]) == kept


def test_what_comes_out_can_be_run_and_looked_at(model):
    compiled = nncomp.compile(model, "ort", passes=["cleanup", "fuse"], measure=False)
    assert repr(compiled) == "<Compiled net.onnx for ort>"
    assert isinstance(compiled.report, Report)
    assert [op.kind for op in compiled.graph.ops()] == ["Gemm", "Relu", "MatMul"]
    by_name = compiled.run(FEEDS)
    assert list(by_name) == ["y"]
    assert by_name["y"].shape == (3, 4)
    assert np.array_equal(compiled.run(FEEDS["x"])["y"], by_name["y"])
    assert compiled._repr_html_() == compiled.report._repr_html_()


def test_one_array_is_not_enough_for_two_inputs():
    compiled = nncomp.compile(
        graph("g (float[2] x, float[2] z) => (float[2] y) { y = Add (x, z) }"), passes=["cleanup"], measure=False
    )
    with pytest.raises(UsageError) as caught:
        compiled.run(np.zeros(2, np.float32))
    assert caught.value.message == "one array was given, and the model takes 2 inputs: x, z"


def test_a_pass_of_ones_own_needs_no_plugin(model):
    class Reluless(nncomp.Pass):
        """Write Relu as Clip."""

        name = "reluless"
        effect = nncomp.Effect.EXACT
        label: str = nncomp.option("clip", help="name of the new op")

        def run(self, graph, ctx):
            for op in graph.ops():
                if op.is_a("Relu"):
                    zero = graph.add_constant("zero", np.zeros((), np.float32))
                    made = graph.add_op("Clip", [op.inputs[0], zero], like=op)
                    graph.replace_uses(op.output, made.output)
                    graph.remove_unused([op.output])

    registry = nncomp.Registry.discover()
    compiled = nncomp.compile(model, passes=[Reluless(label="x"), "cleanup"], measure=False, registry=registry)
    assert [op.kind for op in compiled.graph.ops()] == ["MatMul", "Add", "Clip", "MatMul"]
    assert compiled.report.recipe == ('reluless{label="x"}', "cleanup")
    assert compiled.report.passes[0].plugin == __name__
    assert "reluless" not in registry.passes


def test_a_missed_budget_is_raised_with_the_result(model, tmp_path):
    with pytest.raises(BudgetMissedError) as caught:
        nncomp.compile(
            model, data=str(tmp_path / "data.npz"), passes=["quantize"], min_sqnr_db=200.0, search={"trials": 0},
            measure=False,
        )  # fmt: skip
    assert caught.value.code == "NNC-G004"
    assert caught.value.result.report.status == "rejected"


def test_arguments_of_a_request_are_taken_and_others_are_not(model):
    assert nncomp.compile(model, passes=["cleanup"], measure=False, seed=7).report.seed == 7
    with pytest.raises(UsageError) as caught:
        nncomp.compile(model, sed=7)
    assert (caught.value.message, caught.value.hint) == ("compile() has no argument 'sed'", "did you mean 'seed'?")
    with pytest.raises(UsageError, match="compile\\(\\) has no argument 'dry_run'"):
        nncomp.compile(model, dry_run=True)


def test_what_is_no_model_is_refused():
    with pytest.raises(UsageError) as caught:
        nncomp.compile(3)
    assert caught.value.message == "model: expected a file, bytes, an onnx.ModelProto or a graph, got int"


def test_data_may_be_arrays(model):
    samples = np.random.default_rng(1).normal(size=(8, 16)).astype(np.float32)
    found = [nncomp.compile(model, data=data, passes=["quantize"], measure=False) for data in (samples, {"x": samples})]
    assert found[0].report.accuracy.sqnr_db == found[1].report.accuracy.sqnr_db > 20


def test_the_model_itself_is_never_written_over(model):
    folder = model.parent / "model"
    folder.mkdir()
    save(nncomp.load(model), folder / "model.onnx")
    compiled = nncomp.compile(folder / "model.onnx", passes=["cleanup"], measure=False)
    before = (folder / "model.onnx").read_bytes()
    with pytest.raises(UsageError) as caught:
        compiled.save(folder, force=True)
    assert caught.value.message.endswith("is the input model")
    assert (folder / "model.onnx").read_bytes() == before


def test_importing_nncomp_stays_light():
    code = (
        "import sys, nncomp; print([name for name in ('onnx', 'numpy', 'networkx', 'pydantic') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------------------------- notebooks


def test_a_graph_is_shown_as_a_small_table_in_which_names_are_escaped():
    net = graph(NET)
    net.rename(net.find("x"), "<script>alert(1)</script>")
    shown = net._repr_html_()
    assert shown == from_bytes(nncomp.onnx_io.to_bytes(net))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "<caption>graph g: 4 ops</caption>" in shown
    assert "<tr><th>op</th><td>MatMul</td><td>2</td></tr>" in shown
    assert "<tr><th>constants</th><td>3</td><td>2688 bytes</td></tr>" in shown


def test_a_long_name_is_cut_and_control_characters_are_gone():
    net = graph(NET)
    net.rename(net.find("x"), "a" * 200 + "\x1b[31m")
    shown = net._repr_html_()
    assert "a" * 77 + "..." in shown
    assert "a" * 78 not in shown
    net.rename(net.inputs[0], "a\x1b[31m\n")
    assert "<td>a [31m </td>" in net._repr_html_()


def test_an_artifact_is_shown_with_its_tables(model):
    artifact = nncomp.compile(model, passes=["cleanup"], measure=False).artifact
    assert "<caption>OrtArtifact</caption>" in artifact._repr_html_()
    priced = nncomp.compile(model, "sparse", measure=False).artifact
    assert priced._repr_html_().count("<table>") == 1 + len(priced.tables())
    assert priced._repr_html_() == priced._repr_html_()


def test_a_request_takes_arguments_and_leaves_out_what_says_nothing():
    found = CompileRequest.of(
        Path("net.onnx"), data="", recipe=None, target="ort", max_drop=0.0, trials=3, budget={"min_cosine": 0.9}
    )
    assert found == CompileRequest(
        model=Path("net.onnx"), target="ort", budget={"min_cosine": 0.9, "max_drop": 0.0}, search={"trials": 3},
        progress=found.progress,
    )  # fmt: skip


def test_a_report_prints_as_its_table_and_has_a_short_repr(model):
    report = nncomp.compile(model, passes=["cleanup", "fuse"], measure=False).report
    assert repr(report) == "<Report net.onnx for ort: done>"
    lines = str(report).splitlines()
    assert lines[0].split() == ["net.onnx", "before", "after"]
    rows = {line.split("  ")[0]: line.split() for line in lines}
    assert rows["operators"] == ["operators", "4", "3", "1.33x", "fewer"]
    assert rows["parameters"][-1] == "unchanged"
    assert lines[-1].startswith("against the original on random inputs, which says little about real ones: ")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"threads": 0}, "threads: expected at least 1, got 0"),
        ({"threads": "2"}, "threads: expected an integer, got '2'"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"gate_samples": 65}, "gate_samples: expected at most 64, got 65"),
        ({"measure_seconds": float("nan")}, "measure_seconds: expected a finite number, got nan"),
        ({"run_seconds": 0}, "run_seconds: expected more than 0, got 0"),
        ({"out": 5}, "out: expected a folder, got 5"),
        ({"recipe": 3}, "recipe: expected a recipe, its file or its name, got 3"),
    ],
)
def test_what_no_request_can_be_is_refused_before_any_work(model, wish, message):
    with pytest.raises(UsageError) as caught:
        nncomp.compile(model, **wish)
    assert caught.value.message == message


def test_a_request_takes_texts_for_paths_and_numbers_of_numpy(tmp_path):
    found = CompileRequest(model=tmp_path / "net.onnx", out=str(tmp_path), cache="there", seed=np.int64(3))
    assert (found.out, found.cache, found.seed) == (tmp_path, Path("there"), 3)


@pytest.mark.parametrize(("labels", "kind"), [(3, "int"), ({"a": 1}, "dict"), ([[1, 2], [3]], "list")])
def test_labels_that_are_no_array_are_refused(model, labels, kind):
    with pytest.raises(DataError) as caught:
        nncomp.compile(model, data=FEEDS, labels=labels, passes=["cleanup"], measure=False)
    assert caught.value.message == f"labels: expected an array with one class a sample, got {kind}"
