"""Fixtures: a browser, and pages of reports: a small model's, a large one's, and one with hostile names."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from chromium import Chromium, find
from made_up import hostile, large_report

from nncomp.compiler import CompileRequest, compile_model
from nncomp.demo import data_path, model_path
from nncomp.diff import diff
from nncomp.onnx_io import load
from nncomp.plugins import Registry
from nncomp.report import plain
from nncomp.report.comparing import result_of
from nncomp.report.page import comparison_page, diff_page, report_page


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium; tests are skipped where there is none."""
    path = find()
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium, or set CHROMIUM")
    one = Chromium(path)
    yield one
    one.close()


@pytest.fixture(scope="session")
def report():
    """Return the report of the digit classifier, as data."""
    request = CompileRequest(model=model_path(), data=str(data_path()), limit=16, measure_seconds=0.2)
    return compile_model(request, Registry.discover()).report.as_dict()


@pytest.fixture(scope="session")
def pages(report, tmp_path_factory):
    """Return a function that gives the file of a page by name."""
    folder = tmp_path_factory.mktemp("pages")
    original = load(model_path())
    changed = original.clone()
    value = next(value for value in changed.constants() if value.const.size > 100)
    changed.replace_uses(value, changed.add_constant("other", np.asarray(value.const.numpy()) * np.float32(1.01)))
    reports = [report, hostile(report)]
    made = {
        "report": lambda: report_page(report),
        "hostile": lambda: report_page(hostile(report)),
        "large": lambda: report_page(large_report(report, 3000)),
        "comparison": lambda: comparison_page([result_of(f"r{n}", one) for n, one in enumerate(reports)], reports),
        "diff": lambda: diff_page("a.onnx", "b.onnx", plain(diff(original, changed).as_dict())),
    }

    def path(name):
        file = folder / f"{name}.html"
        if not file.exists():
            file.write_text(made[name](), encoding="utf-8")
        return file

    return path
