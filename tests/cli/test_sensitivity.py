"""``nncomp sensitivity``: a table, JSON, and a recipe."""

import numpy as np
import pytest

from nncomp.onnx_io import save
from nncomp.testing import graph

NET = """
g (float[N,4,5,5] x) => (float[N,3] y)
<float[4,4,3,3] w1, float[4,4,3,3] w2, float[3,4] w3>
{
   [first] a = Conv <pads = [1, 1, 1, 1]> (x, w1)
   [second] b = Conv <pads = [1, 1, 1, 1]> (a, w2)
   [pool] c = GlobalAveragePool (b)
   d = Flatten (c)
   [head] y = Gemm <transB = 1> (d, w3)
}
"""


@pytest.fixture
def given(tmp_path):
    save(graph(NET), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(6, 4, 5, 5)).astype(np.float32))
    return [str(tmp_path / "net.onnx"), "--data", str(tmp_path / "data.npz")]


def test_the_table_ends_with_what_a_recipe_takes(run, given):
    ended = run("sensitivity", *given, "--exclude", "1", "--top", "2")
    assert ended.status == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["layer", "kind", "SQNR", "alone", "noise"]
    worst = lines[2].split()[1]
    assert "and 2 more: --top 4 or --json" in lines
    assert lines[-2:] == ["[options.quantize]", f'skip = ["{worst}"]']


def test_json_holds_all_layers_and_the_options(run, given):
    ended = run("sensitivity", *given, "--json")
    assert set(ended.json) == {
        "model", "target", "pass", "source", "runs", "metric", "together_db", "layers", "options",
    }  # fmt: skip
    assert [set(layer) for layer in ended.json["layers"]] == [{"name", "kind", "sqnr_db", "share", "drop"}] * 4
    noise = [layer["share"] for layer in ended.json["layers"]]
    assert noise == sorted(noise, reverse=True)
    assert ended.json["options"]["quantize"]["skip"][0] == ended.json["layers"][0]["name"]


def test_the_recipe_that_is_written_compiles(run, given, tmp_path):
    assert run("sensitivity", *given, "--write", tmp_path / "tuned.toml", "--exclude", "2").status == 0
    text = (tmp_path / "tuned.toml").read_text()
    assert "[options.quantize]\nskip = [" in text
    ended = run("compile", *given, "-o", tmp_path / "out", "-r", tmp_path / "tuned.toml", "--no-measure", "--json")
    assert ended.status == 0
    assert "skipped by option" in ended.json["results"]["quantize"]["left_float"].values()


def test_a_metric_stands_in_the_table(run, given, tmp_path, monkeypatch):
    (tmp_path / "scores.py").write_text("def best(run):\n    return 0.5\n")
    monkeypatch.chdir(tmp_path)
    ended = run("sensitivity", *given, "--metric", "scores:best")
    assert ended.status == 0
    assert "the metric before is 0.5; changes are in hundredths" in ended.out
    assert run("sensitivity", *given, "--metric", "best").messages[0] == (
        "nncomp: error NNC-R021: --metric: expected module:function, got 'best'"
    )


def test_a_budget_is_searched_for_and_what_was_given_back_is_told(run, given, tmp_path):
    whole = run("compile", *given, "-o", tmp_path / "a", "-p", "quantize", "--no-measure", "--json").json
    goal = f"{whole['accuracy']['sqnr_db'] + 3}dB"
    ended = run("compile", *given, "-o", tmp_path / "b", "-p", "quantize", "--no-measure", "--min-sqnr", goal)
    assert ended.status == 0
    lines = ended.out.splitlines()
    (told,) = [line for line in lines if line.startswith("search: ")]
    assert told.startswith("search: the budget is kept, and nothing more can be taken back; ")
    assert told.endswith(" of 4 layers are given back")
    assert lines[lines.index(told) + 1].startswith("  float: ")
    assert any(line.split() == ["given", "back", "SQNR"] for line in lines)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("--max-drop", "a bit", "--max-drop: expected a number, or one with '%' behind it, got 'a bit'"),
        ("--min-sqnr", "nan", "--min-sqnr: expected a number, or one with 'dB' behind it, got 'nan'"),
        ("--max-drop", "200%", "budget.max_drop: expected less than 1, got 2.0"),
    ],
)
def test_a_budget_that_is_no_number_is_refused(run, given, tmp_path, option, text, message):
    ended = run("compile", *given, "-o", tmp_path / "out", option, text)
    assert ended.status == 2
    assert ended.messages[0] == f"nncomp: error NNC-R021: {message}"
    if text == "200%":
        assert ended.messages[1] == "  hint: a part of 1: --max-drop 0.05 or 5%"
