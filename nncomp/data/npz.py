"""``.npz`` and ``.npy`` files, read sample by sample; archives are never unpacked, and names in them are only names."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, ClassVar, Final, TypeAlias

from nncomp.data.columns import Column
from nncomp.data.fingerprint import Fingerprint
from nncomp.data.inputs import data_error, input_specs
from nncomp.data.members import Part, arrays_of_part
from nncomp.data.npy import NpyColumn
from nncomp.data.preprocess import Preprocess
from nncomp.data.stacking import StackedSource
from nncomp.ir import Graph

NPZ_MAGIC: Final = b"PK"
NPY_MAGIC: Final = b"\x93NUMPY"
SUFFIXES: Final = frozenset({".npz", ".npy"})

_BROKEN_ZIP: Final = (OSError, ValueError, RuntimeError, zipfile.BadZipFile, struct.error, ArithmeticError, EOFError)
_HINT: Final = "write it with numpy.savez(path, x=array)"

Members: TypeAlias = Mapping[str, Callable[[], NpyColumn]]


class NpzSource(StackedSource):
    """The samples in one ``.npz`` or ``.npy``, the arrays named as :mod:`nncomp.data.members` says.

    Args:
        path: The file; what it is is told by its first bytes.
        graph: The model.
        part: Which of ``x_calibration`` and ``x_evaluation`` to take, if there are such.
        preprocess: For arrays of uint8 images.

    Raises:
        DataError: the file is no such file (NNC-D001), claims more than there is (NNC-D002), does not fit the model
            (NNC-D003), or has no samples (NNC-D004).
    """

    name: ClassVar[str] = "npz"

    def __init__(
        self,
        path: str | os.PathLike[str],
        graph: Graph,
        *,
        part: Part = "calibration",
        preprocess: Preprocess | None = None,
    ) -> None:
        self._path, self._part = Path(path), part
        members = members_of(self._path)
        specs = input_specs(graph)
        chosen = arrays_of_part(members, specs, part)
        if not chosen:
            raise data_error(
                self._path,
                f"holds no {part} samples, only {', '.join(map(repr, members)) or 'nothing'}",
                code="NNC-D004",
                hint=f"name the array as the model's input, or x_{part}",
            )
        columns: dict[str, Column] = {name: members[array]() for name, array in chosen.items()}
        super().__init__(f"data {str(path)!r}", specs, columns, preprocess=preprocess, file=str(path))

    @property
    def files(self) -> Sequence[Path]:
        """The file."""
        return (self._path,)

    def fingerprint(self) -> str:
        """Return a digest of the file's bytes, the part and the preprocessing."""
        how = "" if self._preprocess is None else self._preprocess.model_dump_json()
        return Fingerprint("npz", self._part, how).file(self._path).digest()


def members_of(path: Path) -> Members:
    """Return what opens each array of a file, by name; the one array of an ``.npy`` is called ``array``.

    Raises:
        DataError: it is neither ``.npz`` nor ``.npy`` (NNC-D001), or cannot be opened (NNC-D004).
    """
    start = first_bytes(path)
    if start.startswith(NPY_MAGIC):
        return {"array": lambda: NpyColumn("array", path, path.stat().st_size, lambda: path.open("rb"))}
    if not start.startswith(NPZ_MAGIC):
        raise data_error(path, f"is not an .npz or .npy file, but {_told_by(start)}", code="NNC-D001", hint=_HINT)
    members: dict[str, Callable[[], NpyColumn]] = {}
    for info in _directory(path):
        name = info.filename.removesuffix(".npy")
        if name in members:
            raise data_error(path, f"holds two arrays {name!r}", code="NNC-D001", hint=_HINT)
        members[name] = partial(NpyColumn, name, path, info.file_size, partial(_member, path, info))
    return members


def first_bytes(path: Path, count: int = 64) -> bytes:
    """Return how a regular file begins.

    Raises:
        DataError: it cannot be opened (NNC-D004), or is something else (NNC-D001).
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise data_error(path, "is not a regular file", code="NNC-D001")
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError as error:
        raise data_error(path, f"cannot be opened: {error.strerror}", code="NNC-D004") from None


def _directory(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except _BROKEN_ZIP as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise data_error(path, f"is a damaged archive: {reason}", code="NNC-D001", hint=_HINT) from None


@contextmanager
def _member(path: Path, info: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
        yield stream


def _told_by(start: bytes) -> str:
    if not start:
        return "empty"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: run `git lfs pull`"
    if start[:1] == b"\x80" and start[1:2] <= b"\x05":
        return "a Python pickle, which is never loaded"
    if start.isascii() and start.decode().replace("\n", "").replace("\r", "").replace("\t", "").isprintable():
        return "text"
    return "something else"
