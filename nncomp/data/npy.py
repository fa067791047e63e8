"""Arrays in numpy's file format, read as a stream: header first, then as many bytes as a sample takes.

Nothing is believed that can be checked: the header's claim is compared with the bytes that are there before any of them
is read, and pickled objects are never loaded.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, TypeAlias

import numpy as np

from nncomp.data.columns import Column
from nncomp.data.inputs import Found, data_error
from nncomp.errors import DataError
from nncomp.runtime import Array

MAX_READ: Final = 1 << 30
"""Bytes of one sample, as they are in the file."""

_MAX_RANK: Final = 64  # numpy's
_HEAD: Final = 1 << 14  # numpy itself refuses headers of more than 10,000 bytes
_READERS: Final = {  # later versions only add records with field names that are not Latin
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_BROKEN_HEADER: Final = (
    ArithmeticError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError, tokenize.TokenError,
)  # fmt: skip
_BROKEN_BODY: Final = (
    ArithmeticError, EOFError, LookupError, OSError, RuntimeError, ValueError,
    lzma.LZMAError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

Opener: TypeAlias = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of an ``.npy`` stream says.

    Attributes:
        found: type and shape.
        by_columns: True for Fortran order, in which the samples of a stack are spread over all of it.
        size: bytes of the head.
    """

    found: Found
    by_columns: bool
    size: int

    @property
    def nbytes(self) -> int:
        """Bytes that must follow."""
        return math.prod(self.found.shape) * self.found.dtype.itemsize


class NpyColumn(Column):
    """An array in a file or an archive.

    Args:
        name: of the array.
        path: of the file, for messages.
        size: bytes of the stream.
        stream: opens it.

    Raises:
        DataError: it is no array of plain numbers (NNC-D001), or its header claims other than ``size`` (NNC-D002).
    """

    def __init__(self, name: str, path: Path, size: int, stream: Opener) -> None:
        self._name, self._path, self._stream = name, path, stream
        self._header = self._read_header()
        self.found = self._header.found
        available = size - self._header.size
        if self._header.nbytes != available:
            raise self._error(
                f"claims {amount(self._header.nbytes)} ({self.found}), but holds {amount(available)}", code="NNC-D002"
            )

    def blocks(self, rows: int) -> Iterator[Array]:
        """Yield blocks, reading front to back; all of an array in Fortran order is read at once."""
        count, shape = self.found.shape[0] // rows, (rows, *self.found.shape[1:])
        if self._header.by_columns:
            array = self.whole()
            yield from (array[index * rows : (index + 1) * rows] for index in range(count))
            return
        with self._body() as stream:
            for _ in range(count):
                yield self._read(stream, shape)

    def whole(self) -> Array:
        """Read the array."""
        with self._body() as stream:
            if self._header.by_columns:
                return self._read(stream, self.found.shape[::-1]).T
            return self._read(stream, self.found.shape)

    def refuse_large(self, rows: int) -> None:
        """Raise DataError (NNC-D002) when blocks of ``rows`` items are more than :data:`MAX_READ`."""
        count = self.found.shape[0] if self.found.shape else 1
        items = count if rows == 0 or self._header.by_columns else rows
        nbytes = self._header.nbytes // count * items
        if nbytes > MAX_READ:
            what = "is stored by columns (Fortran order) and" if self._header.by_columns else "has samples that"
            raise self._error(
                f"{what} must be read {amount(nbytes)} at once, at most {amount(MAX_READ)} are", code="NNC-D002"
            )

    def _read_header(self) -> Header:
        with self._broken_is_an_error(), self._stream() as stream:
            head = io.BytesIO(stream.read(_HEAD))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on headers that Python 2 wrote
                version = np.lib.format.read_magic(head)
                shape, by_columns, dtype = _READERS[version](head)
        except _BROKEN_HEADER:
            raise self._error("has no readable .npy header", code="NNC-D001") from None
        if dtype.hasobject:
            raise self._error(
                "holds Python objects (a pickle), which are never loaded",
                code="NNC-D001",
                hint="save plain numbers: numpy.savez(path, x=x.astype('float32'))",
            )
        if len(shape) > _MAX_RANK or any(not 0 <= dim < 1 << 63 for dim in shape) or dtype.subdtype is not None:
            raise self._error("has an impossible type or shape", code="NNC-D001")
        return Header(Found(dtype, tuple(int(dim) for dim in shape)), by_columns and len(shape) > 1, head.tell())

    @contextmanager
    def _body(self) -> Iterator[IO[bytes]]:
        with self._broken_is_an_error(), self._stream() as stream:
            if len(stream.read(self._header.size)) < self._header.size:
                raise EOFError("the file changed while it was read")
            yield stream

    def _read(self, stream: IO[bytes], shape: tuple[int, ...]) -> Array:
        wanted = math.prod(shape) * self.found.dtype.itemsize
        data = stream.read(wanted)
        if len(data) < wanted:
            raise EOFError(f"{wanted - len(data)} bytes are missing")
        return np.frombuffer(data, self.found.dtype).reshape(shape)

    @contextmanager
    def _broken_is_an_error(self) -> Iterator[None]:
        try:
            yield
        except _BROKEN_BODY as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise self._error(f"cannot be read: {reason}", code="NNC-D001") from None

    def _error(self, message: str, *, code: str, hint: str = "") -> DataError:
        return data_error(self._path, f"array {self._name!r} {message}", code=code, hint=hint, tensor=self._name)


def amount(nbytes: int) -> str:
    """Return a number of bytes as people read it: ``16.0 TiB``."""
    if nbytes >= 1 << 70:
        return "more than 1024 EiB"
    unit = min((nbytes.bit_length() - 1) // 10, len(_UNITS) - 1) if nbytes else 0
    return f"{nbytes} bytes" if unit == 0 else f"{(nbytes >> (10 * unit - 10)) / 1024:.1f} {_UNITS[unit]}"
