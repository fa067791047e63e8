"""Scaffold: a new plugin as a complete distribution that installs, is found, and passes its tests as it stands.

What is written comes from the files in ``templates``, in which ``$name`` and the like are put in.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import Final

from nncomp import __version__
from nncomp.errors import ResourceError, UsageError, Where
from nncomp.hookspecs import API_VERSION

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST: Final = 40
_TEMPLATES: Final = Path(__file__).with_name("templates")


class Kind(StrEnum):
    """What a new plugin brings."""

    PASS = "pass"  # noqa: S105  no password
    TARGET = "target"


_COMMON: Final = MappingProxyType(
    {
        "pyproject.toml": "pyproject.toml.in",
        "LICENSE": "license.in",
        ".gitignore": "gitignore.in",
        ".github/workflows/test.yml": "test.yml.in",
        "$module/py.typed": "",
    }
)
_FILES: Final[Mapping[Kind, Mapping[str, str]]] = MappingProxyType(
    {
        Kind.PASS: {
            "README.md": "readme_pass.md.in",
            "$module/__init__.py": "init_pass.py.in",
            "$module/negations.py": "negations.py.in",
            "tests/test_negations.py": "test_negations.py.in",
        },
        Kind.TARGET: {
            "README.md": "readme_target.md.in",
            "$module/__init__.py": "init_target.py.in",
            "$module/target.py": "target.py.in",
            "$module/recipes/$name.toml": "recipe.toml.in",
            "tests/test_target.py": "test_target.py.in",
        },
    }
)
_DESCRIPTIONS: Final = MappingProxyType(
    {
        Kind.PASS: "A pass for nncomp that takes pairs of negations out of a model.",
        Kind.TARGET: "A target for nncomp that prices a model by arithmetic and memory.",
    }
)


def new_plugin(name: str, kind: Kind, folder: Path | None = None) -> tuple[Path, ...]:
    """Write a new plugin: all of it, or nothing.

    Args:
        name: Of the entry point, as ``acme``; the distribution becomes ``nncomp-acme``, the module ``nncomp_acme``.
        kind: What it brings.
        folder: Where it goes; it must not exist. Default: the distribution's name, in the working folder.

    Returns:
        The files.

    Raises:
        UsageError: the name is no name, or taken (NNC-R021), or the folder exists (NNC-R020).
        ResourceError: the disk refused (NNC-E001).
    """
    _refuse_name(name)
    distribution, module = f"nncomp-{name}", f"nncomp_{name.replace('-', '_')}"
    if find_spec(module) is not None:
        raise UsageError(f"a module {module!r} is installed already", hint="choose another name")
    folder = Path(distribution) if folder is None else folder
    if folder.exists() or folder.is_symlink():
        raise UsageError(
            f"output {str(folder)!r} exists",
            code="NNC-R020",
            where=Where(file=str(folder)),
            hint="choose another folder",
        )
    values = {
        "name": name,
        "module": module,
        "distribution": distribution,
        "description": _DESCRIPTIONS[kind],
        "nncomp": __version__,
        "api": str(API_VERSION),
    }
    texts = {
        Template(path).substitute(values): _text(template, values)
        for path, template in {**_COMMON, **_FILES[kind]}.items()
    }
    try:
        _write(folder, texts)
    except OSError as error:
        raise ResourceError(
            f"cannot write to {str(folder)!r}: {error.strerror or error}", where=Where(file=str(folder))
        ) from error
    return tuple(folder / path for path in sorted(texts))


def _refuse_name(name: str) -> None:
    if name.startswith(("nncomp-", "nncomp_")):
        raise UsageError(f"the name {name!r} begins with 'nncomp'", hint=f"{name[7:]!r} becomes nncomp-{name[7:]}")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise UsageError(
            f"expected a name of lower-case words joined by hyphens, at most {_LONGEST} characters, got {name!r}",
            hint="as in nncomp new-plugin acme-passes",
        )


def _text(template: str, values: Mapping[str, str]) -> str:
    return Template((_TEMPLATES / template).read_text(encoding="utf-8")).substitute(values) if template else ""


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write into a folder beside the destination, which takes its name when all is there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".nncomp-", dir=folder.parent))
    try:
        for path, text in texts.items():
            file = staging / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="\n")
        staging.chmod(0o755)
        staging.rename(folder)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(staging)
