"""A model, and the plugin of tests/thirdparty that tests of the driver compile it with."""

import importlib
from pathlib import Path

import pytest

from nncomp.onnx_io import save
from nncomp.plugins import Registry
from nncomp.testing import graph

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
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "thirdparty"))
    found = Registry()
    found.load("acme", lambda: importlib.import_module("acme_plugin"), origin="acme 1.0")
    assert not found.warnings
    return found


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.onnx"
    save(graph(NET), path)
    return path
