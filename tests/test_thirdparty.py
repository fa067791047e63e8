"""Plugins by somebody else, as distributions that are installed and found by their entry points; one is broken.

Where ``tests/thirdparty/nncomp-acme`` and ``nncomp-broken`` are installed, those are used. Otherwise they are laid out
as an installer would lay them out, in a folder on the path, which needs neither network nor pip.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from nncomp.onnx_io import load, save
from nncomp.testing import graph

HERE = Path(__file__).parent / "thirdparty"
DISTRIBUTIONS = ("nncomp-acme", "nncomp-broken")
ERROR = "ImportError: libbroken.so.7: cannot open shared object file"
WARNING = f"nncomp: warning NNC-P001: plugin 'broken' is left out: {ERROR}"
MACS = 16 * 32 + 32 * 4  # of a batch of one

NET = """
g (float[N,16] x) => (float[N,4] y)
<float[32,16] w1, float[32] b1, float[4,32] w2, float[4] b2>
{
    [first] a = ai.acme.PackedDense <activation = "relu"> (x, w1, b1)
    [copy] b = Identity (a)
    [second] y = ai.acme.PackedDense (b, w2, b2)
}
"""


def lay_out(project, site):
    """Put a project's package and metadata into ``site``."""
    config = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    about = config["project"]
    for package in config["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        shutil.copytree(project / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in about["entry-points"].items()
    ]
    info.joinpath("entry_points.txt").write_text("\n".join(groups))


def is_installed(name):
    try:
        return bool(distribution(name))
    except PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def nncomp(tmp_path_factory):
    """Return a function that runs a command in a process that has both distributions."""
    site = tmp_path_factory.mktemp("site")
    for name in DISTRIBUTIONS:
        if not is_installed(name):
            lay_out(HERE / name, site)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, sys.path)])}

    def run(*args, status=0):
        command = [sys.executable, "-m", "nncomp", *map(str, args)]
        ended = subprocess.run(command, check=False, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
        assert ended.returncode == status, ended.stderr
        return ended

    return run


@pytest.fixture
def packed(tmp_path):
    """Return the path of a model with ops of Acme's domain."""
    net = graph(NET)
    save(net, tmp_path / "packed.onnx")
    return tmp_path / "packed.onnx"


def test_plugins_lists_what_acme_brings_and_that_broken_is_broken(nncomp):
    ended = nncomp("plugins", "--json")
    rows = {row["name"]: row for row in json.loads(ended.stdout)}
    assert rows["acme"] == {
        "name": "acme",
        "origin": "nncomp-acme 1.2.0",
        "state": "ok",
        "error": "",
        "code": "",
        "brings": {
            "pass": ["unpack-dense"],
            "target": ["acme-npu"],
            "recipe": ["acme-npu"],
            "op": ["ai.acme.PackedDense"],
        },
    }
    assert rows["broken"] == {
        "name": "broken",
        "origin": "nncomp-broken 0.1.0",
        "state": "broken",
        "error": ERROR,
        "code": "NNC-P001",
        "brings": {},
    }
    assert ended.stderr.splitlines() == [WARNING]


def test_the_op_row_prices_the_op_of_another_domain(nncomp, packed):
    found = json.loads(nncomp("inspect", packed, "--json").stdout)
    assert found["facts"]["macs"] == MACS
    assert found["facts"]["unpriced"] == {}
    assert found["facts"]["params"] == 32 * 16 + 32 + 4 * 32 + 4


def test_the_pass_runs_and_a_broken_plugin_costs_one_warning(nncomp, packed, tmp_path):
    ended = nncomp("compile", packed, "-o", tmp_path / "out", "-p", "unpack-dense", "-p", "cleanup", "--json")
    report = json.loads(ended.stdout)
    assert report["after"]["kinds"] == {"Gemm": 2, "Relu": 1}
    assert [step["plugin"] for step in report["passes"]] == ["acme", "cleanup"]
    assert report["passes"][0]["notes"][0]["subject"] == "unpack-dense-to-gemm"
    assert [line for line in ended.stderr.splitlines() if "NNC-P" in line] == [WARNING]
    assert [op.kind for op in load(tmp_path / "out" / "model.onnx").ops()] == ["Gemm", "Relu", "Gemm"]


def test_the_target_compiles_with_its_own_recipe(nncomp, packed, tmp_path):
    report = json.loads(nncomp("compile", packed, "-o", tmp_path / "out", "-t", "acme-npu", "--json").stdout)
    assert report["target"] == "acme-npu"
    assert report["recipe"] == ["cleanup", "fuse"]
    assert report["after"]["kinds"] == {"ai.acme.PackedDense": 2}
    assert report["after"]["macs"] == MACS
    # Traffic of a batch of one: operands and result in float32, 32 bytes a cycle.
    first, second = 16 + 32 * 16 + 32 + 32, 32 + 4 * 32 + 4 + 4
    assert report["target_report"]["cycles"] == {"PackedDense": -(-4 * first // 32) + -(-4 * second // 32)}
    assert (tmp_path / "out" / "recipe.lock.toml").read_text(encoding="utf-8").count("nncomp-acme 1.2.0") == 1


def test_a_name_that_nobody_provides_is_blamed_on_the_plugin_that_may_have_had_it(nncomp, packed, tmp_path):
    ended = nncomp("compile", packed, "-o", tmp_path / "out", "-p", "fold-everything-at-once", status=7)
    lines = ended.stderr.splitlines()
    assert lines[0] == WARNING
    assert lines[1] == "nncomp: error NNC-P001: unknown pass 'fold-everything-at-once'"
    assert "plugin 'broken' failed to load and might provide it: see `nncomp plugins`" in lines[2]
