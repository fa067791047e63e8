"""Element types of tensors, with ONNX's numbers, and the attribute types."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import ml_dtypes
import numpy as np


class DataType(IntEnum):
    """Element types, numbered as in ``onnx.TensorProto.DataType``."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26
    FLOAT6E2M3 = 27
    FLOAT6E3M2 = 28

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> DataType:
        """Return the element type of a numpy dtype.

        Raises:
            TypeError: ONNX has none for it.
        """
        native = np.dtype(dtype).newbyteorder("=")
        if native.kind in "OSU":
            return cls.STRING
        if native not in _FROM_NUMPY:
            raise TypeError(f"ONNX has no element type for numpy's {dtype}")
        return _FROM_NUMPY[native]

    def numpy(self) -> np.dtype[Any]:
        """Return the numpy dtype that holds one element; sub-byte types take a byte each.

        Raises:
            TypeError: numpy has none.
        """
        if self not in _NUMPY:
            raise TypeError(f"numpy has no type for {self.name}")
        return _NUMPY[self]

    @property
    def bits(self) -> int:
        """Bits of one element as ONNX stores it, packed; 0 where elements have no fixed size."""
        return _BITS.get(self, self.numpy().itemsize * 8 if self in _NUMPY and self is not DataType.STRING else 0)

    @property
    def itemsize(self) -> float:
        """Bytes of one element as ONNX stores it, packed: 0.5 for 4-bit types."""
        return self.bits / 8

    def is_floating_point(self) -> bool:
        """True for real floating-point types of any width."""
        return self in _FLOATING


class AttributeType(IntEnum):
    """Attribute types, numbered as in ``onnx.AttributeProto.AttributeType``."""

    UNDEFINED = 0
    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE_PROTO = 13
    TYPE_PROTOS = 14


_NUMPY: Final[dict[DataType, np.dtype[Any]]] = {
    DataType.FLOAT: np.dtype(np.float32),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.INT8: np.dtype(np.int8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.STRING: np.dtype(object),
    DataType.BOOL: np.dtype(np.bool_),
    DataType.FLOAT16: np.dtype(np.float16),
    DataType.DOUBLE: np.dtype(np.float64),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.COMPLEX64: np.dtype(np.complex64),
    DataType.COMPLEX128: np.dtype(np.complex128),
    DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    DataType.FLOAT8E4M3FN: np.dtype(ml_dtypes.float8_e4m3fn),
    DataType.FLOAT8E4M3FNUZ: np.dtype(ml_dtypes.float8_e4m3fnuz),
    DataType.FLOAT8E5M2: np.dtype(ml_dtypes.float8_e5m2),
    DataType.FLOAT8E5M2FNUZ: np.dtype(ml_dtypes.float8_e5m2fnuz),
    DataType.UINT4: np.dtype(ml_dtypes.uint4),
    DataType.INT4: np.dtype(ml_dtypes.int4),
    DataType.FLOAT4E2M1: np.dtype(ml_dtypes.float4_e2m1fn),
    DataType.FLOAT8E8M0: np.dtype(ml_dtypes.float8_e8m0fnu),
    DataType.UINT2: np.dtype(ml_dtypes.uint2),
    DataType.INT2: np.dtype(ml_dtypes.int2),
    DataType.FLOAT6E2M3: np.dtype(ml_dtypes.float6_e2m3fn),
    DataType.FLOAT6E3M2: np.dtype(ml_dtypes.float6_e3m2fn),
}
_FROM_NUMPY: Final = {dtype: kind for kind, dtype in _NUMPY.items() if kind is not DataType.STRING}
_BITS: Final[dict[DataType, int]] = {
    DataType.UINT4: 4,
    DataType.INT4: 4,
    DataType.FLOAT4E2M1: 4,
    DataType.UINT2: 2,
    DataType.INT2: 2,
    DataType.FLOAT6E2M3: 6,
    DataType.FLOAT6E3M2: 6,
}
_FLOATING: Final = frozenset(
    kind for kind in DataType if kind.name.startswith(("FLOAT", "BFLOAT")) or kind is DataType.DOUBLE
)
