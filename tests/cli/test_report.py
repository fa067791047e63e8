"""``nncomp report``: results side by side, as a table, as JSON and as a page."""

import json

import pytest

ACME = ("--plugin", "acme_plugin")


@pytest.fixture
def outs(run, model, tmp_path):
    """Return the folders of two results of one model."""
    for name, amount in (("soft", 0.1), ("hard", 0.5)):
        ended = run(
            "compile",
            model,
            "-o",
            tmp_path / name,
            *ACME,
            "-t",
            "acme",
            "-p",
            f"blur{{amount={amount}}}",
            "--no-measure",
        )
        assert ended.status == 0, ended.err
    return tmp_path / "soft", tmp_path / "hard"


def test_results_stand_side_by_side(run, outs):
    ended = run("report", *outs)
    assert ended.status == 0
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0] == ["result", "size", "smaller", "MACs", "SQNR"]
    assert [line[0] for line in lines[2:4]] == ["soft", "hard"]
    assert "different models" not in ended.out


def test_json_has_all_numbers_and_says_whether_the_model_is_the_same(run, outs):
    found = run("report", *outs, "--json").json
    assert found["same_model"] is True
    soft, hard = found["results"]
    assert soft["path"].endswith("soft")
    assert soft["sqnr_db"] > hard["sqnr_db"]
    assert (soft["latency_us"], soft["accuracy"], soft["status"]) == (None, None, "done")
    assert soft["recipe"] == ["blur{amount=0.1}"]


def test_one_result_becomes_the_page_that_lies_beside_it(run, outs, tmp_path):
    assert run("report", outs[0], "--html", tmp_path / "page.html").status == 0
    assert (tmp_path / "page.html").read_text() == (outs[0] / "report.html").read_text()


def test_several_results_become_one_page(run, outs, tmp_path):
    ended = run("report", *outs, "--html", tmp_path / "page.html")
    assert ended.out.splitlines()[-1] == f"wrote {tmp_path / 'page.html'}"
    page = (tmp_path / "page.html").read_text()
    assert "2 results side by side" in page
    assert "<bdi>soft</bdi>" in page


def test_files_of_reports_may_be_given_and_equal_names_are_told_apart(run, outs, tmp_path):
    other = tmp_path / "more" / "soft"
    other.mkdir(parents=True)
    (other / "report.json").write_text((outs[0] / "report.json").read_text())
    out = run("report", outs[0] / "report.json", other).out
    assert str(other) in out


def test_results_of_different_models_are_told(run, outs):
    path = outs[1] / "report.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps({**report, "model": {**report["model"], "digest": "0"}}))
    assert run("report", *outs).out.splitlines()[-1] == "these are results of different models"


def test_a_report_from_before_there_were_layers_is_read(run, outs):
    path = outs[1] / "report.json"
    report = json.loads(path.read_text())
    del report["layers"], report["measured"]["layers"], report["measured"]["other_kernels_us"]
    path.write_text(json.dumps(report))
    assert run("report", *outs, "--html", outs[0] / "page.html").status == 0
    assert run("report", outs[1], "--html", outs[0] / "page.html").status == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no report in {folder!r}"),
        ("[]", "{file!r} is no report of nncomp"),
        ('{"schema": 99, "nncomp": "9"}', "report {file!r} has schema 99, expected 1"),
        ("{", "cannot read report {file!r}: Expecting property name enclosed in double quotes"),
    ],
)
def test_what_is_no_report_is_refused(run, tmp_path, text, message):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    ended = run("report", tmp_path)
    assert ended.status == 2
    expected = message.format(folder=str(tmp_path), file=str(tmp_path / "report.json"))
    assert ended.messages[0].startswith(f"nncomp: error NNC-R021: {expected}")
