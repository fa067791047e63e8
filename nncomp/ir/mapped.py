"""Constant data that lies in a file: in memory while somebody holds the array, and given back when nobody does.

A page of a mapped file that was read counts as memory of this process until the map goes or the system is told. Models
are mapped whole, so each array that is handed out tells the system when it dies: going through a model tensor by tensor
costs the memory of one tensor.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import tempfile
import threading
import weakref
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from nncomp.errors import ResourceError
from nncomp.ir.dtypes import DataType
from nncomp.ir.tensors import ArrayTensor, Tensor, unpacked_array

_NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})
_SPILL_FROM: Final = 1 << 20  # bytes; less is not worth a place in a file
_SEGMENT: Final = 1 << 28  # bytes of a file that are mapped at once: a map holds a file descriptor
_ALIGN: Final = 64


class MappedTensor:
    """Data at a place of a mapped file; every call of :meth:`numpy` maps it anew.

    Args:
        data: The mapped file, or a part of it.
        offset: Where the data begins in ``data``, bytes; a multiple of the element size.
        dtype: Element type; types narrower than a byte lie packed, as ONNX stores them.
        shape: Sizes of the axes.
        name, doc, metadata: As in the file.
    """

    __slots__ = ("_data", "_offset", "doc", "dtype", "metadata", "name", "shape")

    def __init__(
        self,
        data: mmap.mmap,
        offset: int,
        dtype: DataType,
        shape: tuple[int, ...],
        *,
        name: str = "",
        doc: str = "",
        metadata: Mapping[str, str] = _NO_METADATA,
    ) -> None:
        self._data, self._offset = data, offset
        self.dtype, self.shape = dtype, shape
        self.name, self.doc, self.metadata = name, doc, metadata

    def described(self, name: str, doc: str, metadata: Mapping[str, str]) -> MappedTensor:
        """Return the same data under another name and other notes."""
        return MappedTensor(self._data, self._offset, self.dtype, self.shape, name=name, doc=doc, metadata=metadata)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as ONNX stores them, packed."""
        return math.ceil(self.size * self.dtype.itemsize)

    def numpy(self) -> npt.NDArray[Any]:
        """Return the data, read-only; types narrower than a byte are unpacked into memory."""
        raw = self.raw()
        array = unpacked_array(raw, self.dtype, self.size).reshape(self.shape)
        array.flags.writeable = False
        return array

    def raw(self) -> npt.NDArray[np.uint8]:
        """Return the bytes as they lie in the file."""
        raw = np.frombuffer(self._data, np.uint8, count=self.nbytes, offset=self._offset)
        if raw.size:
            # numpy keeps this array, and no view of it, as the base of all views: it dies when the last of them does
            weakref.finalize(raw, _give_back, self._data, self._offset, self.nbytes).atexit = False
        return raw

    def tobytes(self) -> bytes:
        """Return the data as ONNX's ``raw_data``."""
        return self.raw().tobytes()

    def __repr__(self) -> str:
        return f"<Tensor {self.name} {self.dtype.name} {list(self.shape)}, mapped>"


class Scratch:
    """Room on the disk for constants that passes make: what is kept here costs memory only while it is read.

    The file is temporary, has no name, and goes with the last tensor in it.

    Args:
        spill_from: Bytes; smaller arrays stay in memory.
        segment: Bytes by which the file grows.
    """

    def __init__(self, *, spill_from: int = _SPILL_FROM, segment: int = _SEGMENT) -> None:
        self._spill_from, self._segment = spill_from, segment
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._data: mmap.mmap | None = None
        self._used = 0

    def keep(self, array: npt.NDArray[Any], dtype: DataType | None = None) -> Tensor:
        """Return a tensor with the data of ``array``, which must not be written to afterwards.

        Raises:
            ResourceError: the disk refused (NNC-E001).
        """
        tensor = ArrayTensor(array, dtype)
        if tensor.nbytes < self._spill_from or tensor.dtype is DataType.STRING:
            return tensor
        try:
            with self._lock:
                return self._written(tensor)
        except OSError as error:
            raise ResourceError(
                f"no room for weights in {tempfile.gettempdir()!r}: {error.strerror or error}",
                code="NNC-E001",
                hint="TMPDIR names another folder",
            ) from error

    def _written(self, tensor: Tensor) -> Tensor:
        if self._data is None or self._file is None or self._used + tensor.nbytes > len(self._data):
            if self._file is not None:
                self._file.close()
            self._file = tempfile.TemporaryFile(prefix="nncomp-")  # noqa: SIM115  open until it is full
            weakref.finalize(self, self._file.close).atexit = False
            length = max(tensor.nbytes, self._segment)
            self._file.truncate(length)
            self._data = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ)
            self._used = 0
        offset = self._used
        self._file.seek(offset)
        # Not through the map: its pages would be memory of ours, and a full disk a signal that nobody can catch.
        self._file.write(raw_bytes(tensor))
        self._file.flush()
        self._used = -(-(offset + tensor.nbytes) // _ALIGN) * _ALIGN
        return MappedTensor(self._data, offset, tensor.dtype, tensor.shape)


def _give_back(data: mmap.mmap, offset: int, nbytes: int) -> None:
    """Tell the system that pages need not stay in memory; whoever reads them again gets them from the file."""
    start = offset // mmap.PAGESIZE * mmap.PAGESIZE
    if hasattr(mmap, "MADV_DONTNEED"):
        with contextlib.suppress(OSError, ValueError):  # an advice
            data.madvise(mmap.MADV_DONTNEED, start, offset + nbytes - start)


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return :meth:`Tensor.tobytes`, without a copy where the data lies in memory or in a file as ONNX stores it."""
    if isinstance(tensor, MappedTensor):
        return tensor.raw().data
    if isinstance(tensor, ArrayTensor) and tensor.dtype.bits >= 8:
        array = tensor.numpy()
        if array.flags.c_contiguous and array.dtype.newbyteorder("<") == array.dtype:
            return array.reshape(-1).view(np.uint8).data
    return memoryview(tensor.tobytes())
