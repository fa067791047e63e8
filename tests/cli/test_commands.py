"""The smaller commands: inspect, print, diff, check, bench, and the lists."""

import re

import numpy as np
import pytest

from nncomp.onnx_io import load, save, to_bytes
from nncomp.testing import assert_text, graph
from nncomp.text import parse_graph

ACME = ("--plugin", "acme_plugin")


@pytest.fixture
def branchy(tmp_path):
    path = tmp_path / "branchy.onnx"
    net = graph(
        """
        g (bool c, float[1,2] x) => (float[1,2] y) <float[2,2] w>
        {
            [choice] y = If (c) <
                then_branch = t () => (float[1,2] p) { [inside] p = MatMul (x, w) },
                else_branch = f () => (float[1,2] q) { q = Relu (x) }
            >
        }
        """
    )
    save(net, path)
    return path


def test_inspect_counts_by_kind(run, model):
    out = run("inspect", model).out
    assert f"{model}: IR 10, opset ai.onnx 17" in out
    assert "  input   x: float[N,4]" in out
    assert "2 ops, 12 parameters, 48 B of constants, 12 MACs" in out
    assert [line.split() for line in out.splitlines()][-2:] == [
        ["MatMul", "1", "12", "12"],
        ["Identity", "1", "0", "0"],
    ]


def test_inspect_lists_ops_with_bodies_indented(run, branchy):
    lines = run("inspect", branchy, "--ops").out.splitlines()
    assert [line.split()[0] for line in lines[-3:]] == ["choice", "inside", "Relu(q)"]
    assert lines[-2].startswith("  inside")


def test_inspect_takes_sizes_of_symbolic_dimensions(run, model):
    found = run("inspect", model, "--dim", "N=5", "--json").json
    assert found["facts"]["macs"] == 5 * 12
    assert found["inputs"] == [{"name": "x", "type": "float[N,4]", "default": False}]
    assert "ops" not in found
    assert [op["role"] for op in run("inspect", model, "--ops", "--json").json["ops"]]


def test_print_gives_text_that_parses_again(run, model):
    ended = run("print", model, "--max-elements", "100")
    assert ended.status == 0
    assert to_bytes(parse_graph(ended.out)) == to_bytes(load(model))
    assert_text(load(model), run("print", model).out)


def test_diff_of_a_model_with_itself_is_empty(run, model):
    assert run("diff", model, model).out == "no differences\n"
    assert run("diff", model, model, "--json").json["equal"] is True


def test_diff_shows_what_differs(run, model, branchy):
    ended = run("diff", model, branchy)
    assert ended.status == 0
    assert any(line.startswith("- ") for line in ended.out.splitlines())
    assert run("diff", model, branchy, "--json").json["equal"] is False


def test_diff_becomes_a_page(run, model, branchy, tmp_path):
    ended = run("diff", model, branchy, "--html", tmp_path / "diff.html")
    assert ended.out.splitlines()[-1] == f"wrote {tmp_path / 'diff.html'}"
    page = (tmp_path / "diff.html").read_text()
    assert "Ops only in the first" in page
    assert "<del><code>[copy] a = Identity (x)</code></del>" in page
    assert run("diff", model, branchy, "--html", tmp_path / "diff.html", "--json").json["equal"] is False
    assert run("diff", model, model, "--html", tmp_path / "same.html").status == 0
    assert "Nothing differs." in (tmp_path / "same.html").read_text()


def test_check_counts_what_the_target_says(run, model):
    ended = run("check", model, *ACME, "-t", "acme")
    assert ended.status == 0
    assert ended.out.splitlines()[-1] == "net.onnx runs on acme: 2 ops float"
    assert [line.split()[0] for line in run("check", model, *ACME, "-t", "acme", "--all").out.splitlines()[2:4]] == [
        "float",
        "float",
    ]


def test_check_ends_with_4_when_the_target_refuses(run, tmp_path):
    save(graph("g (float[1,2] x) => (float[1,2] y) { [s] y = Softmax (x) }"), tmp_path / "s.onnx")
    ended = run("check", tmp_path / "s.onnx", *ACME, "-t", "acme")
    assert ended.status == 4
    assert ended.messages == ["nncomp: error NNC-T002: target 'acme' refuses 's.onnx': acme has no softmax"]
    ended = run("check", tmp_path / "s.onnx", *ACME, "-t", "acme", "--json")
    assert ended.status == 4
    assert ended.json["refused"] is True
    assert ended.json["findings"] == [
        {"level": "refused", "node": "s", "kind": "Softmax", "reason": "acme has no softmax"}
    ]


def test_check_looks_at_data_where_it_is_given(run, tmp_path):
    pytest.importorskip("tvm")
    text = "g (float[2,3] x, int64[1] axes) => (float[] y) { [r] y = ReduceSum <keepdims = 0> (x, axes) }"
    save(graph(text), tmp_path / "s.onnx")
    np.savez(tmp_path / "s.npz", x=np.ones((2, 3), np.float32), axes=np.array([1]))
    assert run("check", tmp_path / "s.onnx", "-t", "tvm-cpu").status == 4
    ended = run("check", tmp_path / "s.onnx", "-t", "tvm-cpu", "--data", tmp_path / "s.npz")
    assert (ended.status, ended.out.splitlines()[-1]) == (0, "s.onnx runs on tvm-cpu: 1 ops ok")
    ended = run("check", tmp_path / "s.onnx", "-t", "tvm-cpu", "--data", tmp_path / "nothing.npz")
    assert ended.status == 2
    assert ended.messages == [f"nncomp: error NNC-D004: data '{tmp_path / 'nothing.npz'}' does not exist"]


def test_bench_measures_one_model_and_its_noise(run, model):
    ended = run("bench", model, "--seconds", "0.05", "--dim", "N=3")
    assert ended.status == 0
    assert "a run (1 thread, x[3, 4])" in ended.out
    assert "noise: the model against itself" in ended.out


def test_bench_compares_two_models(run, model):
    found = run("bench", model, model, "--seconds", "0.05", "--json").json
    assert found["baseline"] == str(model)
    assert found["pairs"] >= 15
    assert found["spread"][0] <= found["ratio"] <= found["spread"][1]


def test_passes_are_listed_with_effect_and_summary(run):
    rows = run("passes", *ACME, "--json").json
    blur = next(row for row in rows if row["name"] == "blur")
    assert blur == {
        "name": "blur",
        "summary": "Multiply the weights by 1 + amount.",
        "effect": "lossy",
        "plugin": "acme_plugin",
        "after": ["drop-identity"],
    }
    assert "Multiply the weights by 1 + amount." in run("passes", *ACME).out


def test_a_pass_is_shown_with_its_options_bounds_and_defaults(run):
    out = run("passes", "blur", *ACME).out
    assert "The result is worse." in out
    assert "amount   number >= 0, <= 1   0.01      how much" in out
    assert "skip     list of string      []        what to leave" in out
    shown = run("passes", "blur", *ACME, "--json").json
    assert shown["options"]["amount"]["default"] == 0.01
    assert run("passes", "nothing", *ACME).out.splitlines()[-1] == "It has no options."


def test_an_unknown_pass_is_exit_2_with_the_nearest(run):
    ended = run("passes", "blurr", *ACME)
    assert ended.status == 2
    assert ended.messages[:2] == ["nncomp: error NNC-R010: unknown pass 'blurr'", "  hint: did you mean 'blur'?"]


def test_targets_say_whether_they_are_ready(run):
    rows = {row["name"]: row for row in run("targets", *ACME, "--json").json}
    assert rows["absent"]["missing"] == "pip install absent"
    assert rows["acme"]["default_recipe"] == "acme-default"
    assert re.search(r"^absent +pip install absent +", run("targets", *ACME).out, re.MULTILINE)


def test_plugins_are_listed_the_broken_ones_too(run, tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    ended = run("plugins", *ACME, "--plugin", "broken_plugin", "--json")
    assert ended.status == 0
    rows = {row["name"]: row for row in ended.json}
    assert rows["acme_plugin"]["state"] == "ok"
    assert "blur" in rows["acme_plugin"]["brings"]["pass"]
    assert rows["broken_plugin"]["code"] == "NNC-P001"
    assert rows["broken_plugin"]["error"] == "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert "broken: NNC-P001" in run("plugins", "--plugin", "broken_plugin").out


def test_a_command_of_a_plugin_is_found_when_its_name_is_typed(run, monkeypatch):
    import acme_plugin

    from nncomp.plugins import Registry

    def discover(extra=()):
        found = Registry()
        found.load("acme", lambda: acme_plugin)
        return found

    monkeypatch.setattr(Registry, "discover", discover)
    assert run("acme").out == "hello from acme\n"
