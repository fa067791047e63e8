"""A report.json may be of anybody: it is shown as a page, or refused with the field that is wrong, and never a bug."""

import copy
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nncomp
from nncomp.errors import UsageError
from nncomp.report.comparing import read_report, result_of
from nncomp.report.page import comparison_page, report_page
from nncomp.testing import graph

NET = """
g (float[N,16] x) => (float[N,4] y)
<float[16,32] w1, float[32] b1, float[32,4] w2>
{ a = MatMul (x, w1)  b = Add (a, b1)  c = Relu (b)  y = MatMul (c, w2) }
"""
ODD = [None, -1, 0, 1, 1.5, 1e308, float("nan"), True, "", "x", [], [1], [None], {}, {"x": 1}, {"x": None}, [[]]]


@pytest.fixture(scope="module")
def report():
    """Return the report of a model whose budget was searched for, with labels and times."""
    rows = np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32)
    request = nncomp.CompileRequest.of(
        graph(NET), data=nncomp.data.ArraySource({"x": rows}, graph(NET)), measure_seconds=0.02, min_sqnr_db=60.0,
        trials=3,
    )  # fmt: skip
    try:
        found = nncomp.compile_model(request).report
    except nncomp.compiler.BudgetMissedError as missed:
        found = missed.result.report
    assert found.search is not None
    assert found.latency is not None
    return json.loads(found.to_json())


def places(part, path=()):
    """Yield the path of every part of a report."""
    items = part.items() if isinstance(part, dict) else enumerate(part[:2]) if isinstance(part, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(report, path, value):
    made = copy.deepcopy(report)
    home = made
    for key in path[:-1]:
        home = home[key]
    if value == "gone":
        del home[path[-1]]
    else:
        home[path[-1]] = value
    return made


def test_a_report_is_in_form_and_gives_the_page_that_it_gave(report, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    assert report_page(read_report(path)) == report_page(report)


@given(data=st.data())
def test_what_is_changed_by_hand_is_shown_or_refused(report, data):
    path = data.draw(st.sampled_from(list(places(report))))
    made = changed(report, path, data.draw(st.sampled_from([*ODD, "gone"])))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "report.json").write_text(json.dumps(made))
        try:
            found = read_report(Path(folder))
        except UsageError as error:
            assert error.code == "NNC-R021"
            assert "\n" not in error.message
            return
    assert report_page(found).rstrip().endswith("</html>")
    assert comparison_page([result_of(name, found) for name in "ab"], [found, found])


def test_a_report_is_not_read_whatever_its_size(tmp_path):
    file = tmp_path / "report.json"
    with file.open("wb") as opened:
        opened.truncate((1 << 28) + 1)
    with pytest.raises(UsageError, match=r"is larger than 268435456 bytes$"):
        read_report(file)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("before", "file_bytes"), "x", "before.file_bytes: expected an integer, got 'x'"),
        (
            ("measured", "layers", 0, "latency_us"),
            "fast",
            "measured.layers.0.latency_us: expected a number, got 'fast'",
        ),
        (
            ("measured", "layers"),
            [{"latency_us": 1}],
            "measured.layers: expected 2 entries, one for each of layers, got 1",
        ),
        (("layers", "items", 0, "inputs"), [7], "layers: items.0.inputs: expected layers before it, got 7"),
        (("status",), "gone", "'status' is missing"),
    ],
)
def test_what_is_wrong_is_named(report, tmp_path, path, value, told):
    file = tmp_path / "report.json"
    file.write_text(json.dumps(changed(report, path, value)))
    with pytest.raises(UsageError) as caught:
        read_report(file)
    assert caught.value.message == f"report {str(file)!r}: {told}"
