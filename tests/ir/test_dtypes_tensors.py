"""Element types and constant data: every ONNX type keeps its bits, whatever numpy makes of it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from nncomp.ir import ArrayTensor, AttributeType, DataType, attribute, string_tensor, tensor
from nncomp.ir.tensors import packed_bytes, unpacked_codes
from nncomp.onnx_io import ExternalFiles
from nncomp.onnx_io.tensors import tensor_from_proto, tensor_to_proto

STORED = [dtype for dtype in DataType if dtype not in (DataType.UNDEFINED, DataType.STRING)]
NARROW = [dtype for dtype in STORED if dtype.bits < 8]
TYPED_FIELDS = {
    "float_data": (DataType.FLOAT, DataType.COMPLEX64),
    "double_data": (DataType.DOUBLE, DataType.COMPLEX128),
    "int64_data": (DataType.INT64,),
    "uint64_data": (DataType.UINT32, DataType.UINT64),
}


def raw(dtype: DataType, elements: int, seed: int = 0) -> bytes:
    """Random bits of so many elements; the bits behind the last are zero, and booleans are 0 or 1."""
    rng = np.random.default_rng([seed, dtype.value])
    if dtype is DataType.BOOL:
        return rng.integers(0, 2, elements, np.uint8).tobytes()
    flags = rng.integers(0, 2, elements * dtype.bits, np.uint8)
    return np.packbits(flags, bitorder="little").tobytes()


def read(proto: TensorProto) -> ArrayTensor:
    found = tensor_from_proto(proto, ExternalFiles())
    assert isinstance(found, ArrayTensor)
    return found


@pytest.mark.parametrize("dtype", DataType)
def test_types_are_numbered_and_called_as_in_onnx(dtype: DataType) -> None:
    assert TensorProto.DataType.Value(dtype.name) == dtype.value


def test_every_type_of_onnx_is_there() -> None:
    assert {dtype.name for dtype in DataType} == set(TensorProto.DataType.keys())
    assert {type_.name for type_ in AttributeType} == set(onnx.AttributeProto.AttributeType.keys())


@pytest.mark.parametrize("dtype", STORED)
def test_numpys_type_leads_back(dtype: DataType) -> None:
    assert DataType.from_numpy(dtype.numpy()) is dtype
    assert DataType.from_numpy(dtype.numpy().newbyteorder(">")) is dtype


@pytest.mark.parametrize("dtype", [np.dtype("U3"), np.dtype("S3"), np.dtype(object)])
def test_text_of_any_numpy_type_is_a_string(dtype: np.dtype[Any]) -> None:
    assert DataType.from_numpy(dtype) is DataType.STRING


def test_a_numpy_type_that_onnx_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError) as error:
        DataType.from_numpy(np.dtype("datetime64[s]"))
    assert str(error.value) == "ONNX has no element type for numpy's datetime64[s]"


def test_numpy_has_no_type_for_undefined() -> None:
    with pytest.raises(TypeError) as error:
        DataType.UNDEFINED.numpy()
    assert str(error.value) == "numpy has no type for UNDEFINED"


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("FLOAT", 32), ("BFLOAT16", 16), ("BOOL", 8), ("FLOAT6E2M3", 6), ("INT4", 4), ("UINT2", 2), ("STRING", 0)],
)  # fmt: skip
def test_bits_are_those_that_onnx_stores(dtype: str, bits: int) -> None:
    assert DataType[dtype].bits == bits
    assert DataType[dtype].itemsize == bits / 8


def test_only_real_floating_point_types_are_floating_point() -> None:
    not_floating = {dtype.name for dtype in DataType if not dtype.is_floating_point()}
    integers = {f"{sign}INT{bits}" for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)}
    assert not_floating == integers | {"UNDEFINED", "STRING", "BOOL", "COMPLEX64", "COMPLEX128"}


@pytest.mark.parametrize("elements", [0, 1, 5, 8])
@pytest.mark.parametrize("dtype", STORED)
def test_raw_data_comes_back_bit_for_bit(dtype: DataType, elements: int) -> None:
    data = raw(dtype, elements)
    found = read(TensorProto(name="t", data_type=dtype.value, dims=[elements], raw_data=data))
    assert (found.dtype, found.shape, found.nbytes) == (dtype, (elements,), len(data))
    assert found.tobytes() == data
    assert tensor_to_proto(found, "t").raw_data == data


@pytest.mark.parametrize("dtype", STORED)
def test_typed_data_holds_the_same_numbers_as_raw_data(dtype: DataType) -> None:
    field = next((name for name, kinds in TYPED_FIELDS.items() if dtype in kinds), "int32_data")
    expected = read(TensorProto(data_type=dtype.value, dims=[5], raw_data=raw(dtype, 5)))
    proto = TensorProto(data_type=dtype.value, dims=[5])
    if dtype in (DataType.FLOAT6E2M3, DataType.FLOAT6E3M2):  # one element an entry, says onnx.proto
        entries = expected.numpy().view(np.uint8)
    elif field == "int32_data":
        entries = np.frombuffer(expected.tobytes(), f"u{max(1, int(dtype.itemsize))}").astype(np.uint32).view(np.int32)
    else:
        part = {"float_data": "f4", "double_data": "f8"}.get(field, expected.numpy().dtype)
        entries = expected.numpy().view(part)
    getattr(proto, field).extend(entries.tolist())
    assert read(proto).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [dtype for dtype in STORED if not dtype.name.startswith("FLOAT6")])
def test_numbers_are_those_that_onnx_reads(dtype: DataType) -> None:
    proto = TensorProto(data_type=dtype.value, dims=[2, 3], raw_data=raw(dtype, 6))
    expected, found = numpy_helper.to_array(proto), read(proto).numpy()
    assert expected.dtype == found.dtype
    assert np.ascontiguousarray(expected).tobytes() == np.ascontiguousarray(found).tobytes()


@pytest.mark.parametrize("dtype", NARROW)
def test_every_code_of_a_type_narrower_than_a_byte_comes_back(dtype: DataType) -> None:
    codes = np.arange(2**dtype.bits, dtype=np.uint8)
    flags = np.unpackbits(codes.reshape(-1, 1), axis=1, count=dtype.bits, bitorder="little")
    data = np.packbits(flags.reshape(-1), bitorder="little").tobytes()
    found = read(TensorProto(data_type=dtype.value, dims=[len(codes)], raw_data=data))
    assert len(set(found.numpy().astype(np.float32).tolist())) >= len(codes) - 1  # 0.0 == -0.0
    assert found.tobytes() == data


def test_an_odd_number_of_int4_leaves_the_last_half_byte_empty() -> None:
    found = tensor(np.array([-8, 7, -1], ml_dtypes.int4))
    assert (found.dtype, found.nbytes) == (DataType.INT4, 2)
    assert found.tobytes() == bytes([0x78, 0x0F])


def test_float6_elements_lie_one_behind_the_other() -> None:
    found = tensor(np.array([1, 2, 3, 4], np.uint8).view(ml_dtypes.float6_e2m3fn))
    assert found.nbytes == 3
    assert int.from_bytes(found.tobytes(), "little") == 1 | 2 << 6 | 3 << 12 | 4 << 18


@given(st.lists(st.integers(0, 63), max_size=40), st.sampled_from(NARROW))
def test_packing_and_unpacking_are_inverse(codes: list[int], dtype: DataType) -> None:
    cut = np.array(codes, np.uint8) & (2**dtype.bits - 1)
    packed = packed_bytes(cut, dtype)
    assert len(packed) == -(-len(codes) * dtype.bits // 8)
    assert unpacked_codes(np.frombuffer(packed, np.uint8), dtype.bits, len(codes)).tolist() == cut.tolist()


def test_big_endian_arrays_are_stored_little_endian() -> None:
    assert tensor(np.array([1, 256], ">i4")).tobytes() == np.array([1, 256], "<i4").tobytes()


def test_arrays_that_are_not_contiguous_are_stored_in_order() -> None:
    data = np.arange(6, dtype=np.int32).reshape(2, 3)
    assert tensor(data.T).tobytes() == np.ascontiguousarray(data.T).tobytes()


@pytest.mark.parametrize("data", [["a", "b\u00e9"], np.array(["a", "b\u00e9"]), np.array(["a", "b\u00e9"], object)])
def test_text_becomes_bytes(data: npt.ArrayLike) -> None:
    found = tensor(data)
    assert (found.dtype, found.numpy().dtype) == (DataType.STRING, np.dtype(object))
    assert found.numpy().tolist() == [b"a", "b\u00e9".encode()]
    assert list(tensor_to_proto(found, "s").string_data) == [b"a", "b\u00e9".encode()]


def test_an_attribute_of_text_in_an_array_becomes_bytes_too() -> None:
    found = attribute(np.array(["a"])).value
    assert isinstance(found, ArrayTensor)
    assert found.numpy().tolist() == [b"a"]


def test_strings_that_are_not_utf8_are_kept() -> None:
    items = [b"\xff\x00", b"", b"ok"]
    found = string_tensor(items, (3, 1))
    assert (found.shape, found.nbytes) == ((3, 1), 4)
    assert read(tensor_to_proto(found, "s")).numpy().reshape(-1).tolist() == items


def test_a_string_tensor_keeps_its_doc_and_metadata() -> None:
    proto = TensorProto(name="s", data_type=8, dims=[1], string_data=[b"a"], doc_string="words")
    proto.metadata_props.add(key="lang", value="en")
    assert tensor_to_proto(read(proto), "s") == proto


@pytest.mark.parametrize("shape", [(), (0,), (1, 0, 3)])
def test_scalars_and_empty_tensors_keep_their_shape(shape: tuple[int, ...]) -> None:
    found = tensor(np.zeros(shape, np.float32))
    assert read(tensor_to_proto(found, "t")).shape == shape


def test_nan_payloads_and_signs_of_zero_are_bits_like_others() -> None:
    data = np.array([0x7FC00001, 0xFFC0BEEF, 0x80000000], np.uint32).tobytes()
    assert read(TensorProto(data_type=1, dims=[3], raw_data=data)).tobytes() == data


def test_a_tensors_array_cannot_be_written_to_and_the_callers_stays_writable() -> None:
    data = np.zeros(2, np.float32)
    found = tensor(data)
    assert not found.numpy().flags.writeable
    assert data.flags.writeable


def test_a_tensor_is_an_array_to_numpy() -> None:
    assert np.asarray(tensor(np.arange(3))).tolist() == [0, 1, 2]
    assert repr(ArrayTensor(np.zeros((2, 3), np.float32), name="w")) == "<Tensor w FLOAT [2, 3]>"
