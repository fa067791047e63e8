"""TypeProto <-> Type."""

from __future__ import annotations

from typing import assert_never

from onnx import TensorShapeProto, TypeProto

from nncomp.errors import ModelError
from nncomp.ir import (
    DataType,
    Dim,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
)
from nncomp.onnx_io.utf8 import require_utf8


def type_from_proto(proto: TypeProto) -> Type | None:
    """Return the type, None when ``proto`` says nothing. A dimension of -1 is read as unknown.

    Raises:
        ModelError: an unknown element type (NNC-M022), or text that is not UTF-8 (NNC-M023).
    """
    kind = proto.WhichOneof("value")
    note = proto.denotation
    require_utf8(note)
    match kind:
        case None:
            return None
        case "tensor_type":
            shape, marks = _shape(proto.tensor_type)
            return TensorType(_dtype(proto.tensor_type.elem_type), shape, note, marks)
        case "sparse_tensor_type":
            shape, marks = _shape(proto.sparse_tensor_type)
            return SparseTensorType(_dtype(proto.sparse_tensor_type.elem_type), shape, note, marks)
        case "sequence_type":
            return SequenceType(type_from_proto(proto.sequence_type.elem_type), note)
        case "optional_type":
            return OptionalType(type_from_proto(proto.optional_type.elem_type), note)
        case "map_type":
            return MapType(_dtype(proto.map_type.key_type), type_from_proto(proto.map_type.value_type), note)
        case _:
            require_utf8(proto.opaque_type.domain, proto.opaque_type.name)
            return OpaqueType(proto.opaque_type.domain, proto.opaque_type.name, note)


class TypeReader:
    """Reads the types of many values, of which most are equal: equal messages are read once."""

    def __init__(self) -> None:
        self._known: dict[bytes, Type | None] = {}

    def __call__(self, proto: TypeProto) -> Type | None:
        """Return :func:`type_from_proto` of a message.

        Raises:
            ModelError: as there.
        """
        data = proto.SerializeToString()
        if data not in self._known:
            self._known[data] = type_from_proto(proto)
        return self._known[data]


def type_to_proto(type_: Type | None) -> TypeProto:
    """Return the TypeProto; an empty one for None."""
    proto = TypeProto()
    if type_ is None:
        return proto
    if type_.denotation:
        proto.denotation = type_.denotation
    match type_:
        case TensorType():
            proto.tensor_type.elem_type = type_.dtype.value
            _write_shape(proto.tensor_type, type_.shape, type_.dim_denotations)
        case SparseTensorType():
            proto.sparse_tensor_type.elem_type = type_.dtype.value
            _write_shape(proto.sparse_tensor_type, type_.shape, type_.dim_denotations)
        case SequenceType():
            proto.sequence_type.elem_type.CopyFrom(type_to_proto(type_.elem))
        case OptionalType():
            proto.optional_type.elem_type.CopyFrom(type_to_proto(type_.elem))
        case MapType():
            proto.map_type.key_type = type_.key.value
            proto.map_type.value_type.CopyFrom(type_to_proto(type_.value))
        case OpaqueType():
            proto.opaque_type.domain, proto.opaque_type.name = type_.domain, type_.name
        case _:
            assert_never(type_)
    return proto


def _dtype(number: int) -> DataType:
    if number not in DataType._value2member_map_:
        raise ModelError(f"element type {number} is unknown to ONNX", code="NNC-M022")
    return DataType(number)


def _shape(proto: TypeProto.Tensor | TypeProto.SparseTensor) -> tuple[Shape | None, tuple[str, ...]]:
    if not proto.HasField("shape"):
        return None, ()
    dims = proto.shape.dim
    marks = tuple(dim.denotation for dim in dims)
    require_utf8(*marks, *(dim.dim_param for dim in dims))
    return tuple(_dim(dim) for dim in dims), marks if any(marks) else ()


def _dim(dim: TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return None if dim.dim_value < 0 else dim.dim_value
    return dim.dim_param or None


def _write_shape(proto: TypeProto.Tensor | TypeProto.SparseTensor, shape: Shape | None, marks: tuple[str, ...]) -> None:
    if shape is None:
        return
    proto.shape.SetInParent()
    for axis, size in enumerate(shape):
        dim = proto.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif size is not None:
            dim.dim_param = size
        if axis < len(marks) and marks[axis]:
            dim.denotation = marks[axis]
