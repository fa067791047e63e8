"""Every code block and command of README.md and docs/ runs, in the order of its page, in a folder of its own.

What a block's language asks for:

* ``python`` is executed; the blocks of a page share their names.
* ``sh``: each ``nncomp`` command is run and must end as a remark ``# exit N`` behind it says, else with 0. So is
  ``pytest PATH``, in a process of its own, and ``pip install ./FOLDER`` of what the page wrote, without pip or network.
  Any other command must stand in ``ELSEWHERE``.
* ``toml`` is a recipe: it is parsed and its passes are built.
* ``json`` is parsed. ``text`` is what something prints, and is not looked at.

A block whose first line is ``# file: NAME`` is written to that file. Pages find ``model.onnx``, ``images/`` with a
folder a class, and ``calibration.npz``.
"""

import contextlib
import importlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import types
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from nncomp.cli import main
from nncomp.onnx_io import save
from nncomp.plugins import Registry
from nncomp.recipe import build_passes, parse_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "sh", "toml", "json", "text"}
ELSEWHERE = {
    "pip install . && nncomp demo": ".ci/run runs this line in a fresh environment",
    "python -m pip install -U pip && pip install --group dev -e . && pytest": ".ci/run runs this line, too",
    "python tests/bench/compare_int8.py model.onnx calibration.npz evaluation.npz": "takes minutes",
    "python tests/bench/large_model.py FOLDER --gigabytes 2.5": "takes minutes and 3 GiB of disk",
    "python tests/bench/prune_architectures.py model.onnx": "a table for people; tests/axes tests the same",
    "pytest nncomp-tidy/tests": "tests/test_scaffold.py runs the tests of new plugins",
    "pytest nncomp-roofline/tests": "the same",
    "pip install ./tests/thirdparty/nncomp-acme": ".ci/run installs it and runs tests/test_thirdparty.py",
}
"""Commands that are not run here, and why."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line of the page on which the text begins."""

    language: str
    text: str
    line: int

    @property
    def file(self):
        """Return the name of the file that the block is, None if it is none."""
        found = re.match(r"# file: (\S+)\n", self.text)
        return found and found[1]


def blocks(page):
    """Return the blocks of a page."""
    found = []
    language, start, lines = None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("```"):
            lines.append(line)
        elif language is None:
            language, start, lines = line.removeprefix("```"), number + 1, []
        else:
            found.append(Block(language, "\n".join(lines) + "\n", start))
            language = None
    assert language is None, f"{page.name}: the block in line {start} has no end"
    return found


def commands(block):
    """Yield (command, exit status) for each command of an ``sh`` block, continued lines joined."""
    for line in block.text.replace("\\\n", " ").splitlines():
        command, _, remark = line.partition("#")
        status = re.match(r" exit (\d+)", remark)
        if command.strip():
            yield " ".join(command.split()), int(status[1]) if status else 0


def told(page):
    """Return all commands of a page."""
    return [command for block in blocks(page) if block.language == "sh" for command, _ in commands(block)]


@pytest.fixture
def folder(tmp_path, monkeypatch, classifier, photos):
    """Go to a folder with what the pages speak of; modules that a page makes are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    save(classifier, tmp_path / "model.onnx")
    photos(tmp_path / "images")
    image = np.random.default_rng(1).normal(size=(4, 3, 224, 224)).astype(np.float32)
    np.savez(tmp_path / "calibration.npz", image=image)
    before = dict(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def short_measurements(monkeypatch):
    """Measure latency for a moment only: here nobody reads the figures."""
    from nncomp_ort import artifact

    measure = artifact.compare_latency
    monkeypatch.setattr(artifact, "compare_latency", lambda *runs, **options: measure(*runs, seconds=0))


def run_python(page, block, module):
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
    exec(code, vars(module))


def install(project, site):
    """Install a distribution as an installer does: its wheel, unpacked where Python looks."""
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling comes with the dev group")
    (path,) = wheel.WheelBuilder(str(project)).build(directory=str(site.parent / "wheels"), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        archive.extractall(site)
        brought = {name.partition("/")[0] for name in archive.namelist()}
    for name in [name for name in sys.modules if name.partition(".")[0] in brought]:
        del sys.modules[name]  # what was imported of it is of the version before
    importlib.invalidate_caches()
    return 0


def run_pytest(arguments):
    """Run pytest in a process that finds what this one finds."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=env, check=False, stdin=subprocess.DEVNULL)
    print(ended.stdout, ended.stderr)
    return ended.returncode


def run_command(command, monkeypatch):
    words = shlex.split(command)
    if words[0] == "pytest":
        return run_pytest(words[1:])
    if words[:2] == ["pip", "install"]:
        site = Path.cwd() / "site"
        monkeypatch.syspath_prepend(str(site))
        return install(Path(words[2].partition("[")[0]), site)
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            patch.syspath_prepend(str(Path(value).resolve())) if name == "PYTHONPATH" else patch.setenv(name, value)
        assert words[0] == "nncomp", f"{words[0]!r} is not run, and not in ELSEWHERE"
        return main(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_the_page_runs(page, folder, monkeypatch, short_measurements):
    registry = Registry.discover()
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page):
        at = f"{page.name}:{block.line}"
        assert block.language in LANGUAGES, f"{at}: a block of {block.language!r} is not checked by anything"
        if block.file:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        if block.language == "python" and not block.file:
            with contextlib.redirect_stdout(io.StringIO()):
                run_python(page, block, module)
        elif block.language == "sh":
            for command, status in commands(block):
                if command in ELSEWHERE:
                    continue
                out, err = io.StringIO(), io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    ended = run_command(command, monkeypatch)
                assert ended == status, f"{at}: `{command}` ended with {ended}\n{out.getvalue()}{err.getvalue()}"
        elif block.language == "toml" and block.file == "pyproject.toml":
            tomllib.loads(block.text)
        elif block.language == "toml":
            build_passes(parse_recipe(block.text, file=at), registry)
        elif block.language == "json":
            json.loads(block.text)


def test_what_is_excused_from_running_stands_in_the_docs():
    assert set(ELSEWHERE) <= {command for page in PAGES for command in told(page)}


def test_the_readme_begins_with_the_two_commands_that_ci_takes_from_it():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert told(PAGES[0])[:2] == list(ELSEWHERE)[:2]
    assert "readme_command 1" in script
    assert "readme_command 2" in script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_reached_from_the_readme():
    text = PAGES[0].read_text(encoding="utf-8")
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in text] == []
