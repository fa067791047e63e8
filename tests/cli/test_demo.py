"""``nncomp demo``: the whole way, with the plugins and the target that come with nncomp."""

import json

from nncomp.onnx_io import load


def test_the_demo_makes_a_digit_classifier_smaller_and_keeps_its_accuracy(run, tmp_path):
    ended = run("demo", "-o", tmp_path / "out", "--json")
    assert ended.status == 0, ended.err
    report = ended.json
    assert report["after"]["file_bytes"] < 0.5 * report["before"]["file_bytes"]
    assert report["accuracy"]["source"] == "held-out samples"
    assert report["accuracy"]["labelled"] == 450
    assert report["accuracy"]["drop"] <= 0.01
    assert report["target_report"]["int8_coverage"] > 0.8
    assert load(tmp_path / "out" / "model.onnx")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["status"] == "done"
