"""Values for ONNX Runtime of element types that its numpy binding cannot carry: bfloat16, float8, 4 and 2 bits.

The bytes go in and out through the values' own memory, packed as ONNX packs them, so nothing is rounded or widened.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType
from nncomp.ir.tensors import packed_bytes, unpacked_array

NATIVE: Final = frozenset(
    {
        DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16, DataType.BOOL,
        DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64,
        DataType.UINT8, DataType.UINT16, DataType.UINT32, DataType.UINT64,
    }
)  # fmt: skip
"""Element types that go in and out as plain numpy arrays."""

_NATIVE_WORDS: Final = frozenset(
    {"float", "double", "float16", "bool", "string", "int8", "int16", "int32", "int64"}
    | {"uint8", "uint16", "uint32", "uint64"}
)


_NARROW: Final = frozenset(
    dtype.numpy() for dtype in DataType if dtype.bits and dtype not in NATIVE and not dtype.name.startswith("COMPLEX")
)


def is_narrow(word: str) -> bool:
    """True for a type of ONNX Runtime's (``tensor(bfloat16)``) that numpy cannot carry."""
    inner = word.removeprefix("tensor(").removesuffix(")")
    return word.startswith("tensor(") and inner not in _NATIVE_WORDS


def widened(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array that numpy can compare: elements of ml_dtypes become float32, which holds them exactly."""
    return array.astype(np.float32) if array.dtype in _NARROW else array


def run_with_values(
    ort: Any, session: Any, output_names: Sequence[str], feeds: Mapping[str, Any], options: Any
) -> list[Any]:
    """Run a session whose inputs or outputs are narrow; results are arrays with ONNX's element types (ml_dtypes)."""
    given = {name: _value(ort, array) for name, array in feeds.items()}
    return [_array(value) for value in session.run_with_ort_values(list(output_names), given, options)]


def _value(ort: Any, array: Any) -> Any:
    array = np.asarray(array)
    if array.dtype == object or DataType.from_numpy(array.dtype) in NATIVE:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    dtype = DataType.from_numpy(array.dtype)
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), dtype.value)
    data = packed_bytes(array, dtype)
    if data:
        ctypes.memmove(value.data_ptr(), data, len(data))
    return value


def _array(value: Any) -> npt.NDArray[Any] | list[Any]:
    if not is_narrow(value.data_type()):
        array: npt.NDArray[Any] | list[Any] = value.numpy()
        return array
    dtype, shape = DataType(value.element_type()), tuple(value.shape())
    size = math.prod(shape)
    data = ctypes.string_at(value.data_ptr(), math.ceil(size * dtype.itemsize)) if size else b""
    return unpacked_array(np.frombuffer(data, np.uint8), dtype, size).reshape(shape)
