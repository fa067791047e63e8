"""Plain data as bytes and back: exact, the same bytes each time, and never taken from bytes that were changed."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nncomp.state import DamagedError, NotPlainError, dumps, loads

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.just("$array"), inner),
    max_leaves=20,
)


@given(plain)
def test_plain_data_comes_back_as_it_was(value):
    found = loads(dumps(value))
    assert found == value
    assert repr(found) == repr(value)  # tuples stay tuples, -0.0 stays -0.0
    assert dumps(found) == dumps(value)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_arrays_come_back_bit_by_bit(dtype, shape):
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    found = loads(dumps({"a": [array, array.T]}))["a"]
    for got, expected in zip(found, (array, array.T), strict=True):
        assert (got.dtype, got.shape, got.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
        assert got.flags.writeable


def test_scalars_keep_their_type():
    found = loads(dumps([np.float32(0.1), np.int8(3), np.bool_(True)]))
    assert [type(one) for one in found] == [np.float32, np.int8, np.bool_]
    assert found == [np.float32(0.1), 3, True]


def test_numbers_that_are_not_finite_come_back():
    found = loads(dumps([math.inf, -math.inf, math.nan]))
    assert found[:2] == [math.inf, -math.inf]
    assert math.isnan(found[2])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {2}]}, "value['a'][1] is set, which is no plain data"),
        ({1: 2}, "value is dict, which is no plain data"),
        (np.array([object()]), "value is ndarray, which is no plain data"),
        (np.str_("a"), "value is str_, which is no plain data"),
    ],
)
def test_what_would_not_come_back_is_refused(value, message):
    with pytest.raises(NotPlainError) as caught:
        dumps(value)
    assert str(caught.value) == message


def test_damage_anywhere_is_seen():
    data = dumps({"a": np.arange(5), "b": "text"})
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(DamagedError):
            loads(bytes(changed))
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            loads(data[:length])


@given(st.binary())
def test_foreign_bytes_are_never_data(data):
    with pytest.raises(DamagedError):
        loads(data)
