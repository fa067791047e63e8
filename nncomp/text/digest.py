"""Digests of tensors and of whole models, and the range of a tensor's numbers, for what is too large to show."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import SparseTensorProto, TensorProto

from nncomp.ir import DataType, Graph, Tensor, raw_bytes
from nncomp.onnx_io import graph_to_proto
from nncomp.onnx_io.tensors import SparseConstant, tensor_to_proto

_DIGITS: Final = 12
_DIGEST_FROM: Final = 64  # bytes; smaller tensors enter a model's digest as they are
_NATIVE_KINDS: Final = "fiub"
_UNORDERED: Final = (DataType.STRING, DataType.COMPLEX64, DataType.COMPLEX128)


def digest(tensor: Tensor) -> str:
    """Return the SHA-256 of the data (little-endian, sub-byte types packed), in hex; type and shape do not enter."""
    return hashlib.sha256(_bytes(tensor)).hexdigest()


def model_digest(graph: Graph) -> str:
    """Return the SHA-256 of all that the model holds, weights included, wherever a file keeps them."""

    def by_digest(tensor: Tensor, name: str) -> TensorProto:
        if tensor.nbytes < _DIGEST_FROM:
            return tensor_to_proto(tensor, name)
        proto = TensorProto(name=name, data_type=tensor.dtype.value, dims=tensor.shape)
        proto.raw_data = bytes.fromhex(digest(tensor))
        return proto

    message = graph_to_proto(graph, write_tensor=by_digest)
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()


def short_digest(tensor: Tensor) -> str:
    """Return the first digits of :func:`digest`, marked as such."""
    return f"sha256:{digest(tensor)[:_DIGITS]}"


def value_range(tensor: Tensor) -> str:
    """Return ``range [low, high]`` of the finite numbers and how many are not finite; "" where there is no order."""
    array = numbers(tensor)
    if array is None or array.size == 0:
        return ""
    low, high = array.min(), array.max()
    strange = 0
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        finite = array[np.isfinite(array)]
        strange = array.size - finite.size
        if finite.size == 0:
            return f"{strange} not finite"
        low, high = finite.min(), finite.max()
    text = f"range [{_short(low)}, {_short(high)}]"
    return f"{text}, {strange} not finite" if strange else text


def summary(tensor: Tensor) -> str:
    """Return digest and range, for a comment."""
    kind = "sparse " if isinstance(tensor, SparseConstant) else ""
    return f"{kind}{short_digest(tensor)} {value_range(tensor)}".rstrip()


def numbers(tensor: Tensor) -> npt.NDArray[np.generic] | None:
    """Return the data in a type that numpy can compare and subtract.

    None for strings and complex numbers, which have no order, and for sparse tensors, which may be huge when dense.
    """
    if isinstance(tensor, SparseConstant) or tensor.dtype in _UNORDERED:
        return None
    array = np.asarray(tensor.numpy())
    return array if array.dtype.kind in _NATIVE_KINDS else array.astype(np.float32)


def strings(tensor: Tensor) -> list[bytes]:
    """Return the elements of a string tensor as they are in a file."""
    items = np.asarray(tensor.numpy()).reshape(-1).tolist()
    return [item.encode() if isinstance(item, str) else bytes(item) for item in items]


def _bytes(tensor: Tensor) -> bytes | memoryview:
    if isinstance(tensor, SparseConstant):
        proto = SparseTensorProto()
        proto.CopyFrom(tensor.proto)
        proto.values.name = proto.indices.name = ""
        data: bytes = proto.SerializeToString(deterministic=True)
        return data
    if tensor.dtype == DataType.STRING:
        return b"".join(b"%d:%s" % (len(item), item) for item in strings(tensor))
    return raw_bytes(tensor)


def _short(number: np.generic) -> str:
    return f"{float(number):.3g}" if number.dtype.kind == "f" else str(int(number))
