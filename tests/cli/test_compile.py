"""``nncomp compile``: what it prints, what it writes, and with which exit status it ends."""

import json

import numpy as np
import pytest

from nncomp.onnx_io import load, save
from nncomp.testing import graph

ACME = ("--plugin", "acme_plugin", "-t", "acme")


@pytest.fixture
def compile_(run, model, tmp_path):
    def call(*args, source=model, out=tmp_path / "out"):
        return run("compile", source, *(("-o", out) if out else ()), *ACME, *args)

    return call


def test_the_result_is_a_table_before_and_after_a_table_of_passes_and_a_few_lines(compile_, tmp_path):
    ended = compile_()
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["net.onnx", "before", "after"]
    rows = {line.partition("  ")[0]: line.split() for line in lines}
    assert rows["operators"] == ["operators", "2", "1", "2.00x", "fewer"]
    assert rows["latency"][1:8] == ["100.0", "us", "50.0", "us", "2.00x", "as", "fast"]
    assert rows["drop-identity"][1:7] == ["exact", "2", "->", "1", "bit-identical", rows["drop-identity"][6]]
    assert rows["blur"][1:4] == ["lossy", "1", "->"]
    assert (
        "against the original on random inputs, which says little about real ones: SQNR 40.0 dB, cosine 1.00000"
        in ended.out
    )
    assert lines[-1] == "wrote " + ", ".join(
        str(tmp_path / "out" / name) for name in ("model.onnx", "recipe.lock.toml", "report.html", "report.json")
    )
    assert ended.messages == []


@pytest.mark.parametrize("columns", ["80", "40"])
def test_the_output_fits_the_terminal(compile_, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    tables = compile_("--dry-run", out=None).out + compile_("--explain").out
    assert max(len(line) for line in tables.splitlines()) <= int(columns)


def test_no_line_ends_in_spaces_and_a_pipe_gets_no_colours(compile_):
    out = compile_("--explain").out
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "\x1b" not in out


def test_json_is_the_report_and_nothing_else_even_when_a_pass_prints(compile_, tmp_path):
    ended = compile_("--json", "-p", "rude", "-p", "blur")
    assert ended.status == 0
    assert ended.json["out"] == str(tmp_path / "out")
    assert {key: value for key, value in ended.json.items() if key != "out"} == json.loads(
        (tmp_path / "out" / "report.json").read_text()
    )
    assert ended.messages == ["acme says hello", "and hello again"]


def test_a_dry_run_shows_passes_with_all_options_and_what_the_target_says(compile_, tmp_path):
    ended = compile_("--dry-run", out=None)
    assert ended.status == 0
    assert "2   blur{amount=0.01, skip=[]}   lossy    acme_plugin" in ended.out
    assert "float     1   MatMul     all is float" in ended.out
    names = ", ".join(f'"layer{number}"' for number in range(60))
    many = f"skip=[{names}]"
    assert f"blur{{amount=0.01, {many}}}   lossy" in compile_("--dry-run", "-p", f"blur{{{many}}}", out=None).out
    assert compile_("--dry-run", "--json", out=None).json["passes"][0] == {
        "spec": "drop-identity",
        "effect": "exact",
        "plugin": "acme_plugin",
    }
    assert not (tmp_path / "out").exists()


def test_explain_says_which_rule_fired_where_and_which_declined_why(compile_, tmp_path):
    net = graph(
        "g (float[1,2] x) => (float[1,2] y, float[1,2] z) { [a] c = Identity (x) y = Relu (c) [b] z = Identity (y) }"
    )
    save(net, tmp_path / "two.onnx")
    out = compile_("--explain", "-p", "drop-identity", source=tmp_path / "two.onnx").out
    rows = [line.split() for line in out.splitlines()]
    assert ["fired", "1", "drop-identity", "at", "a"] in rows
    assert "declined       1   drop-identity   the graph interface needs this name; at b" in out


def test_a_missed_budget_shows_the_report_and_ends_with_5(compile_, tmp_path):
    ended = compile_("--min-sqnr", "60")
    assert ended.status == 5
    assert "budget missed: SQNR is 40 dB, expected at least 60 dB" in ended.out
    assert ended.messages == [
        "nncomp: error NNC-G004: the budget is missed: SQNR is 40 dB, expected at least 60 dB",
        f"  hint: the result is kept as '{tmp_path / 'out' / 'model.rejected.onnx'}'",
    ]
    assert load(tmp_path / "out" / "model.rejected.onnx")
    ended = compile_("--min-sqnr", "60", "--json")
    assert ended.status == 5
    assert ended.json["status"] == "rejected"
    assert ended.json["error"]["code"] == "NNC-G004"
    (tmp_path / "out" / "model.onnx").write_bytes(b"")
    assert compile_("--min-sqnr", "60").messages[-1].endswith("; model.onnx in that folder is of an earlier run")
    (tmp_path / "out" / "report.html").write_bytes(b"")
    assert (
        compile_("--min-sqnr", "60")
        .messages[-1]
        .endswith("; model.onnx and report.html in that folder are of an earlier run")
    )


def test_a_limit_on_accuracy_needs_labels_and_uses_them(compile_, tmp_path):
    assert compile_("--max-drop", "0.01").status == 2
    net = load(tmp_path / "net.onnx")
    x = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    y = (x @ np.asarray(net.find("w").const.numpy())).argmax(axis=1)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    ended = compile_("--max-drop", "0.01", "--data", tmp_path / "d.npz")
    assert ended.status == 0, ended.err
    assert "accuracy" in ended.out
    assert "100.00%" in ended.out


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("liar", 5, "NNC-G001"),
        ("dangler", 5, "NNC-G002"),
        ("renamer", 5, "NNC-G003"),
        ("breaker", 7, "NNC-P011"),
        ("quitter", 7, "NNC-P011"),
        ("hungry", 6, "NNC-E002"),
    ],
)
def test_a_failing_pass_ends_with_its_status_and_writes_no_result(compile_, tmp_path, name, status, code):
    ended = compile_("-p", name)
    assert ended.status == status
    assert ended.out == ""
    assert ended.messages[0].startswith(f"nncomp: error {code}: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["interrupted", "terminated"])
def test_ctrl_c_and_sigterm_end_with_130_and_write_nothing(compile_, tmp_path, name):
    ended = compile_("-p", name)
    assert ended.status == 130
    assert ended.messages == ["nncomp: interrupted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx"]


def test_keep_going_reports_the_pass_that_was_rolled_back(compile_):
    ended = compile_("-p", "drop-identity", "-p", "breaker", "--keep-going")
    assert ended.status == 0
    assert "rolled back: pass 'breaker' of plugin 'acme_plugin' failed" in " ".join(ended.out.split())


def test_warnings_are_lines_on_stderr_and_strict_makes_them_exit_3(compile_, tmp_path):
    ended = compile_("-p", "warner")
    assert ended.messages == ["nncomp: warning NNC-W030: warner at 'w': this weight is odd"]
    ended = compile_("-p", "warner", "--strict", out=tmp_path / "other")
    assert ended.status == 3
    assert not (tmp_path / "other").exists()


def test_a_refused_output_is_exit_2(compile_, tmp_path):
    (tmp_path / "out").write_text("")
    ended = compile_()
    assert ended.status == 2
    assert ended.messages[0].startswith("nncomp: error NNC-R020: ")


def test_a_target_without_its_library_is_exit_4_with_the_pip_line(run, model, tmp_path):
    ended = run("compile", model, "-o", tmp_path / "o", "--plugin", "acme_plugin", "-t", "absent", "-p", "nothing")
    assert ended.status == 4
    assert ended.messages == [
        "nncomp: error NNC-T001: target 'absent' needs a library that is not installed: pip install absent",
    ]


def test_an_option_that_selects_nothing_is_exit_2(compile_):
    ended = compile_("-p", 'blur{skip=["produc"]}')
    assert ended.status == 2
    assert ended.messages == [
        "nncomp: error NNC-R011: blur.skip: selector 'produc' matches no op",
        "  hint: near: 'product'",
    ]


def test_freeze_and_no_gate_and_no_measure_are_followed(compile_, tmp_path):
    net = graph("g (float[1,2] x, float[2] b = {1.0, 2.0}) => (float[1,2] y) { y = Add (x, b) }")
    save(net, tmp_path / "d.onnx")
    ended = compile_("-p", "liar", "--no-gate", "--no-measure", "--freeze", "--json", source=tmp_path / "d.onnx")
    assert ended.status == 0
    assert ended.json["gate"] == "off"
    assert ended.json["measured"]["latency"] is None
    assert [value.name for value in load(tmp_path / "out" / "model.onnx").inputs] == ["x"]


def test_verbose_logs_on_stderr_what_is_going_on(compile_):
    ended = compile_("-v")
    assert any(line.startswith("nncomp: pass drop-identity") for line in ended.messages)
