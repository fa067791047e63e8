"""What nncomp says of the machine and of the packages that it runs on."""

import importlib.metadata
import tomllib
from pathlib import Path

from nncomp import __version__, installation
from nncomp.installation import CacheState, Part, cache_state, installed, parts, processor, version_lines

CONFIG = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
INTEL = """processor\t: 0
model name\t: Example(R) CPU with fma
flags\t\t: fpu avx avx2 avx512f avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


def test_the_packages_are_those_of_the_project():
    required = [part.name for part in parts() if not part.extra]
    assert sorted(required) == sorted(line.partition(">")[0] for line in CONFIG["project"]["dependencies"])
    assert {part.extra for part in parts()} - {""} == set(CONFIG["project"].get("optional-dependencies", ()))
    assert all(part.version and not part.install for part in parts() if not part.extra)


def test_requirements_are_read_in_all_their_forms(monkeypatch):
    lines = ["plain", "with_range>=1,<2", "old (>=1)", "many[a,b]>=3 ; python_version > '3' and extra == \"x-y\""]
    monkeypatch.setattr(installation, "requires", lambda name: lines)
    assert parts() == [
        Part("plain", "", "", ""),
        Part("with_range", ">=1,<2", "", ""),
        Part("old", ">=1", "", ""),
        Part("many", ">=3", "", "x-y"),
    ]
    assert [part.install for part in parts()] == [
        "pip install 'plain'",
        "pip install 'with_range>=1,<2'",
        "pip install 'old>=1'",
        "pip install 'nncomp[x-y]'",
    ]


def test_nothing_is_known_of_packages_where_nncomp_is_not_installed(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installation, "requires", absent)
    assert parts() == []
    assert len(version_lines()) == 2
    assert installed("no-such-distribution") == ""


def test_the_first_line_of_the_versions_is_that_of_nncomp():
    lines = version_lines()
    assert lines[0] == f"nncomp {__version__}"
    assert lines[1].startswith("python 3.")
    assert f"onnxruntime {installed('onnxruntime')}" in lines[2]


def test_the_processor_is_read_from_linux(tmp_path):
    (tmp_path / "cpuinfo").write_text(INTEL)
    found = processor(tmp_path / "cpuinfo")
    assert (found.name, found.features, found.int8) == (
        "Example(R) CPU with fma",
        ("avx", "avx2", "avx512f", "avx512_vnni"),
        True,
    )
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert (processor(tmp_path / "arm").features, processor(tmp_path / "arm").int8) == (("asimd", "asimddp"), True)
    (tmp_path / "old").write_text("flags : fpu avx2\n")
    assert processor(tmp_path / "old").int8 is False


def test_nothing_is_known_of_the_processor_elsewhere(tmp_path):
    found = processor(tmp_path / "absent")
    assert (found.features, found.int8) == (None, None)
    assert found.cores >= 1


def test_the_cache_is_looked_at_and_not_made(tmp_path):
    folder = tmp_path / "cache"
    assert cache_state(folder) == CacheState(str(folder), 0, 0, writable=True)
    assert not folder.exists()
    (folder / "ab").mkdir(parents=True)
    (folder / "ab" / "entry").write_bytes(b"12345")
    assert cache_state(folder) == CacheState(str(folder), 1, 5, writable=True)
    assert cache_state(None) == CacheState("")
    (tmp_path / "file").write_text("")
    assert not cache_state(tmp_path / "file" / "below").writable
