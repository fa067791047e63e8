"""Types of values: what they know, how they print, and how they come back from a message."""

from __future__ import annotations

import pytest
from onnx import TypeProto

from nncomp.errors import ModelError
from nncomp.ir import (
    DataType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    Type,
)
from nncomp.ir.types import quote_name, quote_text
from nncomp.onnx_io.types import type_from_proto, type_to_proto

F = DataType.FLOAT
EACH: list[tuple[Type, str]] = [
    (TensorType(F), "float[]"),
    (TensorType(F, ()), "float"),
    (TensorType(DataType.INT64, (2, "N", None)), "int64[2,N,?]"),
    (TensorType(DataType.BFLOAT16, ("batch size", "é")), 'bfloat16["batch size","é"]'),
    (TensorType(DataType.FLOAT8E4M3FN, (0,)), "float8e4m3fn[0]"),
    (SparseTensorType(F, (3,)), "sparse_tensor(float[3])"),
    (SequenceType(TensorType(F, (None,))), "seq(float[?])"),
    (OptionalType(SequenceType(TensorType(F))), "optional(seq(float[]))"),
    (MapType(DataType.STRING, TensorType(F, ())), "map(string,float)"),
    (OpaqueType("dom", "Thing"), "opaque(dom,Thing)"),
    (OpaqueType("", "Thing"), "opaque(Thing)"),
]


@pytest.mark.parametrize(("type_", "text"), EACH, ids=[text for _, text in EACH])
def test_a_type_prints_as_onnx_text(type_: Type, text: str) -> None:
    assert str(type_) == text


@pytest.mark.parametrize("type_", [type_ for type_, _ in EACH], ids=[text for _, text in EACH])
def test_a_type_comes_back_from_its_message(type_: Type) -> None:
    assert type_from_proto(type_to_proto(type_)) == type_


@pytest.mark.parametrize(
    "type_",
    [
        TensorType(F, (1, "C"), "IMAGE", ("BATCH", "")),
        SparseTensorType(F, (1,), "TEXT", ("X",)),
        SequenceType(TensorType(F), "A"),
        OptionalType(TensorType(F), "B"),
        MapType(DataType.INT64, TensorType(F), "C"),
        OpaqueType("d", "n", "D"),
    ],
    ids=lambda type_: type(type_).__name__,
)
def test_denotations_come_back(type_: Type) -> None:
    assert type_from_proto(type_to_proto(type_)) == type_


def test_no_type_is_an_empty_message() -> None:
    assert type_to_proto(None) == TypeProto()
    assert type_from_proto(TypeProto()) is None


@pytest.mark.parametrize(
    "type_", [SequenceType(None), OptionalType(None), MapType(DataType.INT64, None)], ids=["seq", "optional", "map"]
)
def test_an_unknown_inner_type_is_kept_unknown(type_: Type) -> None:
    assert type_from_proto(type_to_proto(type_)) == type_


def test_a_negative_dimension_is_unknown() -> None:
    proto = type_to_proto(TensorType(F, (1,)))
    proto.tensor_type.shape.dim[0].dim_value = -1
    assert type_from_proto(proto) == TensorType(F, (None,))


def test_an_unknown_element_type_is_refused() -> None:
    proto = TypeProto()
    proto.tensor_type.elem_type = 999
    with pytest.raises(ModelError) as error:
        type_from_proto(proto)
    assert (error.value.code, error.value.message) == ("NNC-M022", "element type 999 is unknown to ONNX")


def test_a_tensor_type_knows_rank_size_and_bytes_as_far_as_they_are_fixed() -> None:
    fixed, open_, any_ = TensorType(DataType.INT4, (3, 5)), TensorType(F, (3, "N")), TensorType(F)
    assert (fixed.rank, fixed.static_shape, fixed.size, fixed.nbytes) == (2, (3, 5), 15, 8)
    assert (open_.rank, open_.static_shape, open_.size, open_.nbytes) == (2, None, None, None)
    assert (any_.rank, any_.static_shape, any_.size, any_.nbytes) == (None, None, None, None)
    assert TensorType(DataType.STRING, (3,)).nbytes is None


def test_types_are_values() -> None:
    assert TensorType(F, (1, 2)) == TensorType(F, (1, 2))
    assert len({TensorType(F, (1,)), TensorType(F, (1,)), TensorType(F)}) == 2


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("a_1", "a_1"),
        ("_x", "_x"),
        ("1a", '"1a"'),
        ("a.b", '"a.b"'),
        ("", '""'),
        ("é", '"é"'),
        ('a"b\\', '"a\\"b\\\\"'),
    ],
)
def test_names_are_quoted_where_they_must_be(name: str, quoted: str) -> None:
    assert quote_name(name) == quoted


def test_text_is_always_quoted() -> None:
    assert quote_text("a") == '"a"'
