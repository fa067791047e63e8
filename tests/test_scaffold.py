"""A new plugin installs, is found, and passes its tests as it stands; and what is refused is left alone."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from nncomp.cli import main
from nncomp.errors import UsageError
from nncomp.onnx_io import save
from nncomp.scaffold import Kind, new_plugin
from nncomp.testing import graph

PRODUCT = "g (float[N,64] x) => (float[N,32] y) <float[64,32] w> { y = MatMul (x, w) }"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def installed(project, site):
    """Build a project's wheel and unpack it, as an installer does; return the environment that has it."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling comes with the dev group")
    (path,) = wheel.WheelBuilder(str(project)).build(directory=str(site.parent), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        archive.extractall(site)
    paths = os.pathsep.join([str(site), *filter(None, sys.path)])
    return {**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}


def ran(env, *command, cwd=None):
    """Run a Python module in that environment; it must end well."""
    ended = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        check=False, capture_output=True, text=True, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("arguments", "brings"),
    [
        (("tidy",), {"pass": ["tidy-cancel-negations"]}),
        (("tidy-npu", "--target"), {"target": ["tidy-npu"], "recipe": ["tidy-npu"]}),
    ],
)
def test_a_new_plugin_installs_is_found_and_passes_its_tests(arguments, brings, folder):
    assert main(["new-plugin", *arguments]) == 0
    name = arguments[0]
    project = folder / f"nncomp-{name}"
    env = installed(project, folder / "site")
    rows = {row["name"]: row for row in json.loads(ran(env, "nncomp", "plugins", "--json"))}
    assert rows[name]["state"] == "ok"
    assert rows[name]["origin"] == f"nncomp-{name} 0.1.0"
    assert rows[name]["brings"] == brings
    passed = ran(env, "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", cwd=project)
    assert " passed" in passed
    assert "failed" not in passed
    if "target" in brings:
        save(graph(PRODUCT), folder / "model.onnx")
        text = ran(env, "nncomp", "compile", "model.onnx", "-o", "out", "-t", "tidy-npu{macs_per_us=10}", "--json")
        report = json.loads(text)
        assert report["target_report"] == {"rates": {"macs_per_us": 10.0, "bytes_per_us": 8000.0}}
        assert report["measured"]["latency"]["latency_us"] == pytest.approx(204.8, rel=0.01)


@pytest.mark.parametrize("kind", Kind)
def test_what_is_written_is_well_formed(kind, folder):
    files = new_plugin("two-words", kind)
    names = {path.relative_to("nncomp-two-words").as_posix() for path in files}
    assert {"README.md", "LICENSE", "pyproject.toml", ".github/workflows/test.yml"} <= names
    assert {"nncomp_two_words/__init__.py", "nncomp_two_words/py.typed"} <= names
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "$name" not in text
        assert "$module" not in text
    config = tomllib.loads((folder / "nncomp-two-words" / "pyproject.toml").read_text())
    assert config["project"]["entry-points"]["nncomp"] == {"two-words": "nncomp_two_words"}
    assert "${{ matrix.python }}" in (folder / "nncomp-two-words/.github/workflows/test.yml").read_text()
    tool = shutil.which("ruff", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        pytest.skip("ruff is not installed")
    for command in (
        ["check", "--select=E,F,I,UP,B,SIM", "--line-length=120"],
        ["format", "--check", "--line-length=120"],
    ):
        ended = subprocess.run(
            [tool, *command, "."], capture_output=True, text=True, cwd="nncomp-two-words", check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["", "Tidy", "tidy_x", "1st", "a--b", "-a", "a-", "ti dy", "../tidy", "a" * 41, "ä"])
def test_a_name_that_is_no_name_is_refused(name, folder):
    with pytest.raises(UsageError) as caught:
        new_plugin(name, Kind.PASS)
    assert caught.value.message == (
        f"expected a name of lower-case words joined by hyphens, at most 40 characters, got {name!r}"
    )
    assert list(folder.iterdir()) == []


def test_names_that_are_taken_are_refused(folder, capsys):
    assert main(["new-plugin", "ort"]) == 2
    assert capsys.readouterr().err == (
        "nncomp: error NNC-R021: a module 'nncomp_ort' is installed already\n  hint: choose another name\n"
    )
    assert main(["new-plugin", "nncomp-tidy"]) == 2
    assert capsys.readouterr().err == (
        "nncomp: error NNC-R021: the name 'nncomp-tidy' begins with 'nncomp'\n  hint: 'tidy' becomes nncomp-tidy\n"
    )
    assert list(folder.iterdir()) == []


def test_pass_and_target_at_once_are_refused(folder, capsys):
    assert main(["new-plugin", "tidy", "--pass", "--target"]) == 2
    assert capsys.readouterr().err == (
        "nncomp: error NNC-R021: give --pass or --target, not both\n"
        "  hint: one plugin may bring both: add the other by hand\n"
    )
    assert list(folder.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(folder, capsys):
    (folder / "mine").mkdir()
    assert main(["new-plugin", "tidy", "-o", "mine"]) == 2
    assert capsys.readouterr().err == "nncomp: error NNC-R020: output 'mine' exists\n  hint: choose another folder\n"
    assert list((folder / "mine").iterdir()) == []
    (folder / "dangling").symlink_to("nowhere")
    assert main(["new-plugin", "tidy", "-o", "dangling"]) == 2


def test_what_the_disk_refuses_leaves_nothing(folder, monkeypatch, capsys):
    def refuse(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", refuse)
    assert main(["new-plugin", "tidy"]) == 6
    assert capsys.readouterr().err == "nncomp: error NNC-E001: cannot write to 'nncomp-tidy': No space left on device\n"
    assert list(folder.iterdir()) == []


def test_json_names_the_files(folder, capsys):
    assert main(["new-plugin", "tidy", "-o", "deep/er", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["kind"], found["folder"]) == ("tidy", "pass", "deep/er")
    assert sorted(found["files"]) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )
