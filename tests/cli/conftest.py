"""Fixtures: the command line in this process, a third party's plugin, and a small model."""

import json
from pathlib import Path

import pytest

from nncomp.cli import main
from nncomp.onnx_io import save
from nncomp.testing import graph

NET = """
g (float[N,4] x) => (float[N,3] y)
<float[4,3] w>
{
    [copy] a = Identity (x)
    [product] y = MatMul (a, w)
}
"""


class Ran:
    """How a command ended: exit status, stdout, stderr."""

    def __init__(self, status, out, err):
        self.status = status
        self.out = out
        self.err = err

    @property
    def json(self):
        """Return stdout, which must be JSON and nothing else."""
        return json.loads(self.out)

    @property
    def messages(self):
        """Return what stderr says, lines of plugins that failed to load apart."""
        return [line for line in self.err.splitlines() if "is left out" not in line]


@pytest.fixture
def run(capsys, monkeypatch):
    """Run a command; ``--plugin acme_plugin`` works."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "thirdparty"))

    def call(*args):
        capsys.readouterr()
        status = main([str(arg) for arg in args])
        return Ran(status, *capsys.readouterr())

    return call


@pytest.fixture
def model(tmp_path):
    """Return the path of a small model."""
    path = tmp_path / "net.onnx"
    save(graph(NET), path)
    return path
