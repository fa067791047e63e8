"""Constant data: numpy arrays with ONNX's element types, read-only, mapped from files where they came from files.

Our own and not onnx-ir's, whose import alone costs seconds of CPU (it loads a computer algebra system).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from nncomp.ir.dtypes import DataType

_NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})


@runtime_checkable
class Tensor(Protocol):
    """Constant data. Implementations may read it only when asked.

    Attributes:
        dtype, shape: known without reading the data.
        name, doc, metadata: as in the file; "" and empty where there is nothing.
    """

    @property
    def dtype(self) -> DataType:
        """Element type."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""

    @property
    def name(self) -> str:
        """Name in the file; values have names of their own."""

    @property
    def doc(self) -> str:
        """Doc string."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Metadata properties."""

    @property
    def size(self) -> int:
        """Number of elements."""

    @property
    def nbytes(self) -> int:
        """Bytes as ONNX stores them, packed."""

    def numpy(self) -> npt.NDArray[Any]:
        """Return the data, read-only, one element a numpy element (bytes objects for strings)."""

    def tobytes(self) -> bytes:
        """Return the data as ONNX's ``raw_data``: little-endian, sub-byte types packed. Not for strings."""


class ArrayTensor:
    """Data in a numpy array, in memory or mapped.

    Args:
        array: One element a numpy element; not written to from now on. Object arrays hold bytes: strings.
        dtype: Element type where numpy's does not tell.
        name, doc, metadata: As in the file.
    """

    __slots__ = ("_array", "doc", "dtype", "metadata", "name")

    def __init__(
        self,
        array: npt.NDArray[Any],
        dtype: DataType | None = None,
        *,
        name: str = "",
        doc: str = "",
        metadata: Mapping[str, str] = _NO_METADATA,
    ) -> None:
        view = array.view()
        view.flags.writeable = False
        self._array = view
        self.dtype = DataType.from_numpy(array.dtype) if dtype is None else dtype
        self.name = name
        self.doc = doc
        self.metadata = metadata

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._array.shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._array.size

    @property
    def nbytes(self) -> int:
        """Bytes as ONNX stores them, packed; of strings, the sum of their lengths."""
        if self.dtype is DataType.STRING:
            return sum(len(item) for item in self._array.reshape(-1))
        return math.ceil(self._array.size * self.dtype.itemsize)

    def numpy(self) -> npt.NDArray[Any]:
        """Return the array, read-only."""
        return self._array

    def tobytes(self) -> bytes:
        """Return the data as ONNX's ``raw_data``."""
        return packed_bytes(self._array, self.dtype)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self._array, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<Tensor {self.name} {self.dtype.name} {list(self.shape)}>"


def tensor(data: npt.ArrayLike, dtype: DataType | None = None, *, name: str = "") -> ArrayTensor:
    """Return a tensor over ``data``, which must not be written to afterwards; text becomes bytes, as ONNX keeps it."""
    array = np.asarray(data)
    if array.dtype.kind in "OSU":
        items = [item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1)]
        return string_tensor(items, array.shape, name=name)
    return ArrayTensor(array, dtype, name=name)


def string_tensor(items: Sequence[bytes], shape: Sequence[int], *, name: str = "", doc: str = "") -> ArrayTensor:
    """Return a tensor of strings."""
    array = np.empty(len(items), object)
    array[:] = items
    return ArrayTensor(array.reshape(tuple(shape)), DataType.STRING, name=name, doc=doc)


def packed_bytes(array: npt.NDArray[Any], dtype: DataType) -> bytes:
    """Return elements as ONNX stores them: little-endian; narrower than a byte: packed, the first element lowest."""
    if 0 < dtype.bits < 8:
        return _packed(array, dtype.bits)
    if dtype.itemsize > 1 and array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).tobytes()


def unpacked_array(packed: npt.NDArray[np.uint8], dtype: DataType, elements: int) -> npt.NDArray[Any]:
    """Return ``elements`` elements, one a numpy element, of what :func:`packed_bytes` gave; flat."""
    if dtype.bits >= 8:
        return packed.view(dtype.numpy())
    codes = unpacked_codes(packed, dtype.bits, elements)
    if dtype in (DataType.INT4, DataType.INT2):
        sign = 1 << (dtype.bits - 1)
        return ((codes.astype(np.int8) ^ sign) - sign).astype(dtype.numpy())
    if dtype in (DataType.UINT4, DataType.UINT2):
        return codes.astype(dtype.numpy())
    return codes.view(dtype.numpy())


def unpacked_codes(packed: npt.NDArray[np.uint8], bits: int, elements: int) -> npt.NDArray[np.uint8]:
    """Return ``elements`` codes of ``bits`` bits each, stored one behind the other from the lowest bit up."""
    flags = np.unpackbits(packed, bitorder="little")[: elements * bits].reshape(elements, bits)
    return np.packbits(flags, axis=1, bitorder="little").reshape(-1)


def _packed(array: npt.NDArray[Any], bits: int) -> bytes:
    codes = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    flags = np.unpackbits(codes.reshape(-1, 1), axis=1, count=bits, bitorder="little")
    return np.packbits(flags.reshape(-1), bitorder="little").tobytes()
