"""Output files: never over the input, never over what is not ours, and all or nothing.

Everything is written to a folder beside the destination first. Only when all of it is on disk are the files moved into
place, the model last, so that a failure before that leaves the destination as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from nncomp.errors import ResourceError, UsageError, Where
from nncomp.onnx_io import write_atomically

MODEL: Final = "model"
REJECTED: Final = "model.rejected"
REPORT: Final = "report.json"
REJECTED_REPORT: Final = "report.rejected.json"
PAGE: Final = "report.html"
REJECTED_PAGE: Final = "report.rejected.html"
LOCK: Final = "recipe.lock.toml"
_MODEL_FILES: Final = tuple(f"{stem}{suffix}" for stem in (MODEL, REJECTED) for suffix in (".onnx", ".onnx.data"))
OURS: Final = (*_MODEL_FILES, REPORT, REJECTED_REPORT, PAGE, REJECTED_PAGE, LOCK)
"""Names of files that a compilation may replace."""


def check_output(out: Path, inputs: Iterable[Path], *, force: bool) -> None:
    """Refuse a destination before any work.

    Args:
        out: Folder to write into; it need not exist.
        inputs: The input model's files, none of which may be written.
        force: Replace files of our names that no compilation wrote.

    Raises:
        UsageError: NNC-R020.
    """
    where = Where(file=str(out))
    if out.exists() and not out.is_dir():
        raise UsageError(f"output {str(out)!r} is a file, expected a folder", code="NNC-R020", where=where)
    if not out.exists() and out.suffix == ".onnx":
        raise UsageError(
            f"output {str(out)!r} looks like a file, expected a folder",
            code="NNC-R020",
            where=where,
            hint=f"-o {out.with_suffix('')} writes {out.with_suffix('') / (MODEL + '.onnx')}",
        )
    inputs = list(inputs)
    for path in (out / name for name in OURS):
        if any(_same_file(path, other) for other in inputs):
            raise UsageError(
                f"output {str(path)!r} is the input model", code="NNC-R020", where=where, hint="choose another folder"
            )
    foreign = [name for name in OURS if os.path.lexists(out / name)]
    if foreign and not force and not _is_ours(out):
        raise UsageError(
            f"output {str(out / foreign[0])!r} exists, and no compilation wrote it",
            code="NNC-R020",
            where=where,
            hint="choose another folder, or --force",
        )


def write_outputs(
    out: Path, fill: Callable[[Path], Iterable[Path]], texts: Callable[[list[Path]], dict[str, str]]
) -> tuple[Path, ...]:
    """Write files into ``out``: all of them, or none.

    Args:
        out: Folder, made if need be.
        fill: Writes the artifact's files into a folder, the main one first; returns them.
        texts: Given the artifact's files, returns further files by name.

    Returns:
        The files in ``out``, the main one first.

    Raises:
        ResourceError: the disk refused (NNC-E001).
    """
    try:
        with _staging(out) as folder:
            artifact = list(fill(folder))
            extra = texts(artifact)
            for name, text in extra.items():
                write_atomically(folder / name, [text.encode()])
            names = [*extra, *(path.relative_to(folder).as_posix() for path in reversed(artifact))]
            out.mkdir(parents=True, exist_ok=True)
            with _locked(out):
                _move(folder, out, names)
            return tuple(out / name for name in reversed(names))
    except OSError as error:
        raise ResourceError(
            f"cannot write to {str(out)!r}: {error.strerror or error}", code="NNC-E001", where=Where(file=str(out))
        ) from error


def earlier(out: Path) -> list[str]:
    """Return what people open of a result in ``out`` beside one that was rejected: an earlier run wrote it."""
    return [name for name in (f"{MODEL}.onnx", PAGE) if (out / name).is_file()]


def _move(folder: Path, out: Path, names: list[str]) -> None:
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(out / name)
    rejected = REJECTED_REPORT in names
    stale = [name for name in OURS if name not in names and ("rejected" in name or not rejected)]
    for name in stale:
        (out / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """Give a folder on the same file system as ``out``; it is gone afterwards, with parents that only it needed."""
    home = out if out.is_dir() else out.parent
    made = [parent for parent in (home, *home.parents) if not parent.exists()]
    home.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".nncomp-", dir=home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # it is in use by now, which is why it was made
                parent.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, where the system has one: two compilations do not mix their files."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_ours(out: Path) -> bool:
    return any(_wrote(out / name) for name in (REPORT, REJECTED_REPORT))


def _wrote(path: Path) -> bool:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "schema" in found and "nncomp" in found


def _same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)
