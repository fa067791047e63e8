"""Who may import whom: the contracts of pyproject.toml, and what starting up and listing plugins may load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("plugins", "targets")
PLUGINS = sorted(path.parent.name for folder in FOLDERS for path in (ROOT / folder).glob("*/__init__.py"))
HEAVY = ("tvm", "torch", "ray", "onnxruntime")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "plugins", "targets"))}


def modules_after(code: str) -> set[str]:
    """The modules that a fresh interpreter holds after ``code``."""
    command = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, env=ENVIRONMENT, cwd=ROOT
    )
    found: list[str] = json.loads(done.stdout)
    return set(found)


def test_the_import_contracts_hold() -> None:
    tool = shutil.which("lint-imports", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if tool is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([tool, "--no-cache"], capture_output=True, text=True, check=False, env=ENVIRONMENT, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]
    contracts = CONFIG["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in done.stdout


def test_all_plugins_load_without_anything_heavy() -> None:
    code = "from nncomp.plugins import Registry\nimport importlib\nregistry = Registry()\n" + "".join(
        f"registry.load({name!r}, lambda: importlib.import_module({name!r}))\n" for name in PLUGINS
    )
    loaded = modules_after(code + "assert not registry.warnings, registry.warnings")
    assert set(PLUGINS) <= loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("code", ["import nncomp", "import nncomp.cli", "import nncomp.errors"])
def test_starting_up_loads_neither_onnxruntime_nor_networkx(code: str) -> None:
    assert modules_after(code).isdisjoint({"onnxruntime", "networkx", "onnx", "jinja2", *HEAVY})


def test_each_public_name_is_there_whatever_was_imported_before() -> None:
    code = (
        "import importlib, nncomp, pkgutil\n"
        "for module in pkgutil.iter_modules(nncomp.__path__):\n"
        "    if module.name != '__main__': importlib.import_module('nncomp.' + module.name)\n"
        "for name in nncomp.__all__:\n"
        "    value = getattr(nncomp, name)\n"
        "    home = nncomp._HOMES.get(name)\n"
        "    assert home is None or value is getattr(importlib.import_module(home), name), name\n"
        "try: nncomp.nothing\n"
        "except AttributeError as error: assert str(error) == \"module 'nncomp' has no attribute 'nothing'\"\n"
        "else: raise AssertionError\n"
    )
    modules_after(code)


def test_each_plugin_and_target_is_packaged_linted_and_has_an_entry_point() -> None:
    packaged = {Path(path).name for path in CONFIG["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert packaged - {"nncomp"} == set(PLUGINS)
    assert set(CONFIG["tool"]["importlinter"]["root_packages"]) - {"nncomp"} == set(PLUGINS)
    assert set(CONFIG["project"]["entry-points"]["nncomp"].values()) == set(PLUGINS)
