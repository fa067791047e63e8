"""What the distribution holds: every plugin folder is known to all who must know it, and is in the wheel."""

import importlib
import tomllib
import zipfile
from pathlib import Path
from pkgutil import iter_modules

import pytest

import nncomp

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = sorted(
    path.parent.relative_to(ROOT) for part in ("plugins", "targets") for path in ROOT.glob(f"{part}/*/__init__.py")
)
NAMES = [folder.name for folder in FOLDERS]


def test_there_are_plugins():
    assert "nncomp_cleanup" in NAMES
    assert "nncomp_ort" in NAMES


def test_the_wheel_list_names_the_core_and_every_folder():
    packages = CONFIG["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(["nncomp", *(folder.as_posix() for folder in FOLDERS)])


def test_the_entry_points_name_every_folder():
    points = CONFIG["project"]["entry-points"]["nncomp"]
    assert points == {name.removeprefix("nncomp_"): name for name in points.values()}
    assert sorted(points.values()) == sorted(NAMES)


def test_the_layers_name_every_folder():
    linter = CONFIG["tool"]["importlinter"]
    contracts = {contract["name"]: contract for contract in linter["contracts"]}
    assert sorted(linter["root_packages"]) == sorted(["nncomp", *NAMES])
    assert set(NAMES) <= set(contracts["the core knows no plugin and no target"]["forbidden_modules"])
    assert sorted(contracts["plugins and targets do not know each other"]["modules"]) == sorted(NAMES)


def test_every_folder_states_the_api_version_that_the_core_speaks():
    assert {name: importlib.import_module(name).NNCOMP_API for name in NAMES} == dict.fromkeys(
        NAMES, nncomp.API_VERSION
    )


def test_the_version_is_one():
    assert CONFIG["project"]["version"] == nncomp.__version__


def test_no_public_name_is_also_a_module():
    """Importing ``nncomp.x`` binds the module to ``nncomp.x``, over whatever was public under that name."""
    modules = {module.name for module in iter_modules(nncomp.__path__)}
    assert modules & set(nncomp.__all__) == set()


def test_every_public_name_is_there():
    assert [name for name in nncomp.__all__ if getattr(nncomp, name, None) is None] == []


def test_the_wheel_holds_all_files_of_the_packages(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel", reason="hatchling comes with the dev group")
    (path,) = wheel.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        info = {name.partition(".dist-info/")[2] for name in archive.namelist()} - {""}
    wanted = {
        path.relative_to(home).as_posix()
        for home in (ROOT, ROOT / "plugins", ROOT / "targets")
        for package in home.glob("nncomp*/__init__.py")
        for path in package.parent.rglob("*")
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(home).parts)
    }
    assert held == wanted
    pages = {path.name for path in (ROOT / "nncomp/report/page/templates").iterdir()}
    assert {"report.html.j2", "style.css", "page.js"} <= pages
    assert {f"nncomp/report/page/templates/{name}" for name in pages} <= held
    assert {"nncomp/py.typed", "nncomp/demo/digits.onnx", "nncomp/demo/digits.npz"} <= held
    assert "nncomp_ort/recipes/ort-int8.toml" in held
    assert {"entry_points.txt", "METADATA", "licenses/LICENSE"} <= info
