"""Installation: what nncomp runs on: packages, processor, plugins, targets and cache; asked without importing any."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

from nncomp import __version__

FEATURES: Final = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "bf16",
)  # fmt: skip
"""Features of processors that decide how fast a model runs, as Linux calls them."""

_INT8: Final = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?")
_EXTRA: Final = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")


@dataclass(frozen=True, slots=True)
class Part:
    """A package that nncomp runs on.

    Attributes:
        name: Of the distribution.
        wanted: Which versions, as in ``>=1.21``.
        version: Which is installed, "" for none.
        extra: Of which extra it is part, "" for what nncomp cannot do without.
    """

    name: str
    wanted: str
    version: str
    extra: str

    @property
    def install(self) -> str:
        """The command that installs it, "" when it is there."""
        if self.version:
            return ""
        return f"pip install 'nncomp[{self.extra}]'" if self.extra else f"pip install '{self.name}{self.wanted}'"


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor.

    Attributes:
        machine: Its architecture.
        name: Its model, "" where the system does not tell.
        cores: How many this process may use.
        features: Those of :data:`FEATURES` that it has; None where the system does not tell.
    """

    machine: str
    name: str
    cores: int
    features: tuple[str, ...] | None

    @property
    def int8(self) -> bool | None:
        """True with instructions for products of bytes; None where nobody knows."""
        return None if self.features is None else any(feature in self.features for feature in _INT8)


@dataclass(frozen=True, slots=True)
class CacheState:
    """The folder of what earlier compilations found out; it is made when it is needed.

    Attributes:
        folder: Where it is; "" where the user has no home.
        entries: How many files it holds.
        size: Their bytes.
        writable: It, or what it will be made in, can be written to.
    """

    folder: str
    entries: int = 0
    size: int = 0
    writable: bool = False


def parts() -> list[Part]:
    """Return the packages that nncomp asks for, and those of its extras, in the order of its own metadata."""
    try:
        wanted = requires("nncomp") or []
    except PackageNotFoundError:  # run from a folder, not installed
        return []
    found = []
    for line in wanted:
        match = _REQUIREMENT.fullmatch(line.strip())
        if match is not None:
            extra = _EXTRA.search(match[3] or "")
            found.append(Part(match[1], match[2].strip(), installed(match[1]), extra[1] if extra else ""))
    return found


def installed(name: str) -> str:
    """Return the version of a distribution, "" when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def version_lines() -> list[str]:
    """Return what ``nncomp --version`` prints: nncomp, the system, and the packages that it runs on."""
    there = [f"{part.name} {part.version}" for part in parts() if part.version]
    system = f"python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return [f"nncomp {__version__}", system, *([", ".join(there)] if there else [])]


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """Return what the system says of its processor."""
    machine, cores = platform.machine(), _cores()
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Processor(machine, platform.processor(), cores, None)
    fields = dict(_fields(text.splitlines()))
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return Processor(machine, fields.get("model name", ""), cores, tuple(one for one in FEATURES if one in flags))


def cache_state(folder: Path | None) -> CacheState:
    """Return what the cache holds; nothing is made or changed."""
    if folder is None:
        return CacheState("")
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    size = sum(path.stat().st_size for path in files)
    home = next((one for one in (folder, *folder.parents) if one.exists()), None)
    writable = home is not None and home.is_dir() and os.access(home, os.W_OK)
    return CacheState(str(folder), len(files), size, writable)


def _fields(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Yield the fields of the first processor; the others are taken to be alike."""
    for line in lines:
        if not line.strip():
            return
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def python() -> str:
    """Return Python's version and where it is."""
    return f"{platform.python_version()} ({sys.executable})"
