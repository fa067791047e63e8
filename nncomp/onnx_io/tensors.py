"""TensorProto <-> tensors of the IR: bit-exact for every ONNX type, checked against dims before memory is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from nncomp.errors import ModelError, Where
from nncomp.ir import ArrayTensor, DataType, Tensor, string_tensor
from nncomp.ir.tensors import packed_bytes, unpacked_array
from nncomp.onnx_io.external import ExternalFiles
from nncomp.onnx_io.utf8 import require_utf8

_MAX_ELEMENTS: Final = 2**62
_FLOAT6: Final = (DataType.FLOAT6E2M3, DataType.FLOAT6E3M2)
_TYPED_FIELD: Final[dict[int, str]] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}


class SparseConstant:
    """A sparse initializer: kept as it was written, dense only when somebody asks for its numbers."""

    def __init__(self, proto: onnx.SparseTensorProto, files: ExternalFiles) -> None:
        self.proto = proto
        self._files = files
        self.name = proto.values.name
        self.doc = proto.values.doc_string
        self.metadata: dict[str, str] = {}
        self.dtype = DataType(proto.values.data_type)
        self.shape = tuple(int(dim) for dim in proto.dims)

    @property
    def size(self) -> int:
        """Elements of the dense tensor."""
        return math.prod(self.proto.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of the dense tensor."""
        return math.ceil(self.size * self.dtype.itemsize)

    def numpy(self) -> npt.NDArray[np.generic]:
        """Return the dense array."""
        dense = np.zeros(tuple(self.proto.dims), dtype=self.dtype.numpy())
        values = tensor_from_proto(self.proto.values, self._files).numpy()
        indices = tensor_from_proto(self.proto.indices, self._files).numpy()
        if indices.ndim == 1:
            dense.reshape(-1)[indices] = values
        else:
            dense[tuple(indices.T)] = values
        return dense

    def tobytes(self) -> bytes:
        """Return the dense tensor's bytes."""
        return packed_bytes(self.numpy(), self.dtype)


def tensor_from_proto(proto: TensorProto, files: ExternalFiles) -> Tensor:
    """Return the tensor that ``proto`` holds; external data is mapped, not read.

    Raises:
        ModelError: dims, type and data do not fit together (NNC-M010 to M013, M020 to M022).
    """
    require_utf8(proto.name, proto.doc_string)
    where = Where(tensor=proto.name)
    dims = checked_dims(proto.dims, where)
    if proto.data_type not in DataType._value2member_map_ or proto.data_type == 0:
        raise ModelError(
            f"tensor {proto.name!r} has data type {proto.data_type}, which ONNX does not know",
            code="NNC-M022",
            where=where,
        )
    dtype = DataType(proto.data_type)
    if proto.HasField("segment"):
        raise ModelError(f"tensor {proto.name!r} is a segment of another", code="NNC-M024", where=where)
    if proto.data_location == TensorProto.EXTERNAL:
        return files.tensor(proto, dtype, dims)
    elements = math.prod(dims)
    if dtype == DataType.STRING:
        if len(proto.string_data) != elements:
            raise _mismatch(proto, f"{len(proto.string_data)} strings", f"{elements}")
        array = string_tensor(list(proto.string_data), dims).numpy()
    elif proto.HasField("raw_data"):
        array = _raw_array(proto, dtype, elements)
    else:
        array = _typed_array(proto, dtype, elements)
    return ArrayTensor(
        array.reshape(dims),
        dtype,
        name=proto.name,
        doc=proto.doc_string,
        metadata=tensor_metadata(proto),
    )


def tensor_metadata(proto: TensorProto) -> dict[str, str]:
    """Return the metadata properties of a tensor."""
    for item in proto.metadata_props:
        require_utf8(item.key, item.value, where=Where(tensor=proto.name))
    return {item.key: item.value for item in proto.metadata_props}


def checked_dims(dims: Sequence[int], where: Where) -> tuple[int, ...]:
    """Return ``dims`` as a tuple of Python ints.

    Raises:
        ModelError: a dimension is negative, or their product overflows (NNC-M020).
    """
    sizes = tuple(int(dim) for dim in dims)
    if any(size < 0 for size in sizes):
        raise ModelError(
            f"tensor {where.tensor!r} has a negative dimension: {list(sizes)}", code="NNC-M020", where=where
        )
    if math.prod(sizes) > _MAX_ELEMENTS:
        raise ModelError(
            f"tensor {where.tensor!r} has impossible dimensions: {list(sizes)}", code="NNC-M020", where=where
        )
    return sizes


def described_tensor(tensor: Tensor, name: str) -> TensorProto:
    """Return a TensorProto with all but the data."""
    proto = TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape)
    if tensor.doc:
        proto.doc_string = tensor.doc
    for key, value in tensor.metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def tensor_to_proto(tensor: Tensor, name: str) -> TensorProto:
    """Return a TensorProto that holds the data itself."""
    proto = described_tensor(tensor, name)
    if tensor.dtype is DataType.STRING:
        proto.string_data.extend(tensor.numpy().reshape(-1).tolist())
    else:
        proto.raw_data = tensor.tobytes()
    return proto


def _raw_array(proto: TensorProto, dtype: DataType, elements: int) -> npt.NDArray[np.generic]:
    raw = proto.raw_data
    expected = math.ceil(elements * dtype.itemsize)
    typed = [field for field in {*_TYPED_FIELD.values(), "int32_data"} if len(getattr(proto, field))]
    if typed:
        raise _mismatch(proto, f"both raw_data and {typed[0]}", "one of them")
    if len(raw) != expected:
        code = "NNC-M020" if not raw and expected else "NNC-M021"
        raise _mismatch(proto, f"{len(raw)} bytes", f"{expected}", code)
    if dtype.bits < 8:
        return unpacked_array(np.frombuffer(raw, np.uint8), dtype, elements)
    return np.frombuffer(raw, dtype=dtype.numpy().newbyteorder("<") if dtype.itemsize > 1 else dtype.numpy())


def _typed_array(proto: TensorProto, dtype: DataType, elements: int) -> npt.NDArray[np.generic]:
    field = _TYPED_FIELD.get(proto.data_type, "int32_data")
    data = getattr(proto, field)
    complex_ = dtype in (DataType.COMPLEX64, DataType.COMPLEX128)
    expected = elements * 2 if complex_ else elements
    if dtype.bits < 8 and dtype not in _FLOAT6:
        expected = math.ceil(elements * dtype.itemsize)
    if len(data) != expected:
        code = "NNC-M020" if not len(data) and expected else "NNC-M021"
        raise _mismatch(proto, f"{len(data)} entries of {field}", f"{expected}", code)
    if dtype in _FLOAT6:
        return np.array(data, np.int64).astype(np.uint8).view(dtype.numpy())  # onnx.proto: one element an entry
    if dtype.bits < 8:
        return unpacked_array(np.array(data, np.int64).astype(np.uint8), dtype, elements)
    if complex_:
        part = np.float32 if dtype == DataType.COMPLEX64 else np.float64
        return np.array(data, part).view(dtype.numpy())
    if field != "int32_data":
        return np.array(data, dtype=dtype.numpy())
    return np.array(data, np.int32).astype(f"u{int(dtype.itemsize)}").view(dtype.numpy())


def _mismatch(proto: TensorProto, found: str, expected: str, code: str = "NNC-M021") -> ModelError:
    return ModelError(
        f"tensor {proto.name!r} {list(proto.dims)} holds {found}, expected {expected}",
        code=code,
        where=Where(tensor=proto.name),
    )
