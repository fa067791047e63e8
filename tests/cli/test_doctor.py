"""nncomp doctor and --version: what is there, what works, what installs the rest."""

import json
import subprocess
import sys

import pytest

from nncomp import __version__, installation

ACME = ("--plugin", "acme_plugin")
ABSENT = {"name": "absent", "plugin": "acme_plugin", "missing": "pip install absent", "error": ""}


def test_all_is_well(run):
    ended = run("doctor")
    assert ended.status == 0
    assert ended.err == ""
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"nncomp {__version__}, python 3.")
    assert lines[1].startswith("processor: ")
    assert lines[-1] == "all that nncomp needs is there"
    assert [line.split() for line in lines if line.startswith("ort ")] == [["ort", "ort", "yes"]]


def test_a_target_that_lacks_its_library_is_no_problem_and_has_the_line_that_installs_it(run):
    ended = run("doctor", *ACME)
    assert ended.status == 0
    assert "no: pip install absent" in ended.out


def test_json_holds_all_of_it(run):
    found = run("doctor", *ACME, "--json").json
    assert list(found) == [
        "nncomp", "python", "system", "processor", "parts", "targets", "plugins", "cache", "problems",
    ]  # fmt: skip
    assert ABSENT in found["targets"]
    assert {"name", "wanted", "version", "extra", "install"} == set(found["parts"][0])
    assert {"machine", "name", "cores", "features", "int8"} == set(found["processor"])
    assert {"folder", "entries", "size", "writable"} == set(found["cache"])
    assert found["problems"] == []


def test_a_broken_plugin_is_a_problem(run, tmp_path, monkeypatch):
    (tmp_path / "broken_plugin.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    ended = run("doctor", "--plugin", "broken_plugin")
    assert ended.status == 7
    assert ended.err.splitlines()[-1] == (
        "nncomp: error NNC-P001: plugin 'broken_plugin' of --plugin broken_plugin is left out: "
        "ModuleNotFoundError: No module named 'nothing_of_that_name'"
    )
    assert "all that nncomp needs" not in ended.out


def test_a_package_that_is_missing_is_a_problem_and_plugins_are_not_asked(run, monkeypatch):
    monkeypatch.setattr(installation, "installed", lambda name: "" if name == "onnx" else "1")
    ended = run("doctor")
    assert ended.status == 4
    assert ended.err.splitlines()[-2] == "nncomp: error NNC-T001: package 'onnx' is not installed"
    assert ended.err.splitlines()[-1].startswith("  hint: pip install 'onnx>=")
    found = run("doctor", "--json")
    assert found.status == 4
    assert (found.json["targets"], found.json["plugins"]) == ([], [])
    assert [one["code"] for one in found.json["problems"]] == ["NNC-T001"]


TARGETS = """
import numpy as np

import nncomp
from acme_plugin import AcmeTarget
from nncomp.errors import UnsupportedError

NNCOMP_API = 1


class Dying(AcmeTarget):
    name = "dying"

    def build(self, graph, ctx):
        raise KeyError("MatMul")


class Wrong(AcmeTarget):
    name = "wrong"

    def build(self, graph, ctx):
        found = super().build(graph, ctx)
        found.run = lambda feeds: {"y": np.zeros((2, 3), np.float32)}
        return found


class Unlinked(AcmeTarget):
    name = "unlinked"

    def build(self, graph, ctx):
        raise UnsupportedError("there is no linker: apt install g++")


@nncomp.hookimpl
def nncomp_targets():
    return [Dying, Wrong, Unlinked]
"""


def test_a_target_that_does_not_work_is_a_problem_and_one_that_lacks_something_is_none(run, tmp_path, monkeypatch):
    (tmp_path / "odd_targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    ended = run("doctor", "--plugin", "odd_targets")
    assert ended.status == 4
    assert "no: there is no linker: apt install g++" in ended.out
    assert ended.err.splitlines() == [
        "nncomp: error NNC-T002: target 'dying' does not work: KeyError: 'MatMul'",
        "nncomp: error NNC-T002: target 'wrong' does not work: ArithmeticError: a product of ones gives "
        "[[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], expected fours",
    ]


def test_no_home_no_cache(run, monkeypatch):
    monkeypatch.setattr("nncomp.cli.doctor.default_cache", lambda: None)
    assert "cache: none, for there is no home folder" in run("doctor").out


def test_the_version_imports_nothing_heavy():
    code = (
        "import sys; from nncomp.cli import main; main(['--version']);"
        "print([name for name in ('onnxruntime', 'onnx', 'networkx', 'numpy') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = ended.stdout.splitlines()
    assert lines[0] == f"nncomp {__version__}"
    assert lines[-1] == "[]"


# ------------------------------------------------------------------------------------------------------- completion


@pytest.fixture
def completed(run, monkeypatch):
    """Return a function that gives what bash is offered for the last word."""

    def ask(words):
        monkeypatch.setenv("_NNCOMP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1 + words.endswith(" ")))
        ended = run()
        assert (ended.status, ended.err) == (0, "")
        return ended.out.split()

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("nncomp comp", ["compile"]),
        ("nncomp compile model.onnx -p quantize-", ["quantize-weights"]),
        ("nncomp passes clea", ["cleanup"]),
        ("nncomp check -t spa", ["sparse"]),
    ],
)
def test_names_are_completed(words, offered, completed):
    assert completed(words) == offered


def test_files_are_completed_by_their_kind(tmp_path, completed, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("orchid.onnx", "orchid.toml", "orchid.txt", ".orchid.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "one.toml").touch()
    assert completed("nncomp inspect or") == ["orchid.onnx", "orders/"]
    assert completed("nncomp compile -r or") == ["ort-int8", "orchid.toml", "orders/"]
    assert completed("nncomp compile -r orders/") == ["orders/one.toml"]
    assert completed("nncomp compile -r nowhere/") == []


def test_the_script_for_a_shell_is_printed(run, monkeypatch):
    from typer import completion

    monkeypatch.setattr(completion, "_get_shell_name", lambda: "bash")
    ended = run("--show-completion")
    assert ended.status == 0
    assert "complete -o default -F _nncomp_completion nncomp" in ended.out


def test_a_shell_that_nobody_knows_is_a_usage_error(run, monkeypatch):
    from typer import completion

    monkeypatch.setattr(completion, "_get_shell_name", lambda: None)
    ended = run("--show-completion")
    assert ended.status == 2
    assert ended.err.splitlines()[-2:] == [
        "nncomp: error NNC-R021: this shell cannot be completed in",
        "  hint: bash, zsh, fish and powershell can",
    ]


def test_json_is_json(run):
    assert json.loads(run("doctor", "--json").out)["nncomp"] == __version__
