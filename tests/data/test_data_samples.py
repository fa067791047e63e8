"""Rows 84, 85 and 88: arrays that a program gives, held against the model."""

import ml_dtypes
import numpy as np
import pytest

from nncomp.data import open_data
from nncomp.errors import DataError
from nncomp.ir import DataType

ONE = np.ones((1, 3), np.float32)


def values(source):
    return [feeds["x"].ravel().tolist() for feeds in source]


def warned(source):
    return [(warning.code, warning.message) for warning in source.warnings]


class Tensor:
    """What torch's tensors do: no plain conversion while there are gradients or a device."""

    def __init__(self, array, *, ready=False):
        self.array, self.ready = array, ready

    def detach(self):
        return self

    def cpu(self):
        return Tensor(self.array, ready=True)

    def __array__(self, dtype=None, copy=None):
        if not self.ready:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad")
        return self.array


class Capsule:
    """An object that has DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.row(88)
@pytest.mark.parametrize(
    "wrap",
    [
        Tensor,
        Capsule,
        read_only,
        np.asfortranarray,
        np.ndarray.tolist,
        lambda array: array.astype(">f4"),
        lambda array: np.repeat(array, 2, axis=0)[::2],
        lambda array: array[::-1][::-1],
        memoryview,
    ],
    ids=["tensor", "dlpack", "read-only", "fortran", "list", "big-endian", "strided", "reversed", "buffer"],
)
@pytest.mark.parametrize("stacked", [True, False])
def test_row_88_whatever_is_an_array_to_somebody_is_taken(graph, wrap, stacked):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = {"x": wrap(array)} if stacked else [{"x": wrap(array)}]
    found = [feeds["x"] for feeds in open_data(data, graph)]
    np.testing.assert_array_equal(np.concatenate(found), array)
    assert all(one.flags.c_contiguous and one.dtype.isnative and type(one) is np.ndarray for one in found)


@pytest.mark.row(84, 85, 88)
@pytest.mark.parametrize(
    ("data", "code", "message", "hint"),
    [
        (
            {"x": [[1.0], [1.0, 2.0]]},
            "NNC-D001",
            "data: 'x': list cannot be read as an array: setting an array element with a sequence. The requested array "
            "has an inhomogeneous shape after 1 dimensions. The detected shape was (2,) + inhomogeneous part.",
            "give numpy arrays, or tensors that numpy.asarray or DLPack take",
        ),
        (
            [{"x": object()}],
            "NNC-D001",
            "data: sample 0: 'x': object holds Python objects, expected plain numbers",
            "are all samples of one shape? numpy makes objects of ragged lists",
        ),
        (
            [{"x": ONE}, (ONE, 3)],
            "NNC-D003",
            "data: sample 1: expected a mapping of input names to arrays, got tuple",
            "the model's inputs: 'x'",
        ),
        (
            [{"x": ONE}, {"x": ONE, "label": np.int64(3)}],
            "NNC-D003",
            "data: sample 1: 'label' is no input of the model",
            "input  expected    found\nx      float[N,3]  float[1,3]\nlabel  nothing     int64",
        ),
        (
            [{"x": ONE}, {"image": ONE}],
            "NNC-D003",
            "data: sample 1: input 'x' is missing (and 1 more)",
            "rename 'image' to 'x'\n"
            "input  expected    found\n"
            "x      float[N,3]  missing\n"
            "image  nothing     float[1,3]",
        ),
        (
            [ONE, np.ones((1, 4), np.float32)],
            "NNC-D003",
            "data: sample 1: input 'x': expected float[N,3], got float[1,4]",
            "input  expected    found\nx      float[N,3]  float[1,4]",
        ),
        (
            [np.ones((0, 3), np.float32)],
            "NNC-D003",
            "data: sample 0: input 'x': expected float[N,3], got float[0,3]",
            "input  expected    found\nx      float[N,3]  float[0,3]",
        ),
        (
            [np.ones((1, 3), np.int64)],
            "NNC-D003",
            "data: sample 0: input 'x': expected float[N,3], got int64[1,3]",
            "input  expected    found\nx      float[N,3]  int64[1,3]",
        ),
        (
            [np.ones((1, 3), ml_dtypes.bfloat16)],
            "NNC-D003",
            "data: sample 0: input 'x': expected float[N,3], got bfloat16[1,3]",
            "input  expected    found\nx      float[N,3]  bfloat16[1,3]",
        ),
        ([], "NNC-D004", "data: there are no samples", ""),
        (iter(()), "NNC-D004", "data: there are no samples", ""),
        (7, "NNC-D001", "data: expected arrays by input name or an iterable of them, got int", ""),
        (b"abc", "NNC-D001", "data: expected arrays by input name or an iterable of them, got bytes", ""),
    ],
)
def test_rows_84_85_88_what_does_not_fit_is_named(graph, error_of, data, code, message, hint):
    error = error_of(lambda: open_data(data, graph))
    assert (error.code, error.message, error.hint) == (code, message, hint)
    assert isinstance(error, DataError)


def test_one_array_is_not_enough_for_several_inputs(model):
    graph = model(a="FLOAT N 3", b="FLOAT N 3")
    with pytest.raises(DataError) as caught:
        open_data(ONE, graph)
    assert caught.value.message == "data is one array, but the model has several inputs"
    with pytest.raises(DataError) as caught:
        list(open_data([ONE], graph))
    assert caught.value.message == "data: sample 0: expected a mapping of input names to arrays, got ndarray"
    assert caught.value.hint == "the model's inputs: 'a', 'b'"


@pytest.mark.row(84)
@pytest.mark.parametrize(
    ("found", "wanted", "text"),
    [
        (np.float64, "FLOAT", "float64 to float32"),
        (np.float32, "FLOAT16", "float32 to float16"),
        (np.float16, "FLOAT", None),
        (np.float32, "DOUBLE", None),
        (np.int32, "INT64", None),
        (np.uint8, "INT32", None),
        (np.bool_, "INT64", None),
    ],
)
def test_row_84_numbers_are_cast_where_they_keep_their_value_or_are_floats(model, found, wanted, text):
    source = open_data([np.ones(3, found)] * 3, model(x=f"{wanted} N 3"))
    assert {feeds["x"].dtype for feeds in source} == {DataType[wanted].numpy()}
    expected = [("NNC-W042", f"data: input 'x': numbers are rounded from {text}")] if text else []
    assert warned(source) == expected


@pytest.mark.row(84)
@pytest.mark.parametrize(
    ("found", "wanted"),
    [(np.int64, "INT32"), (np.int8, "UINT8"), (np.int32, "BOOL"), (np.float32, "INT64"), (np.uint64, "INT64")],
)
def test_row_84_numbers_that_might_change_are_refused(model, found, wanted):
    with pytest.raises(DataError):
        list(open_data([np.ones(3, found)], model(x=f"{wanted} N 3")))


@pytest.mark.row(85)
def test_row_85_one_sample_is_a_warning(graph):
    text = "data: one sample only: ranges measured on it hold for nothing else"
    source = open_data((one for one in [ONE]), graph)
    assert values(source) == [[1, 1, 1]]
    assert warned(source) == [("NNC-W043", text)]
    assert warned(open_data({"x": ONE}, graph)) == [("NNC-W043", text)]


def test_a_fixed_batch_is_cut_from_larger_ones(model):
    graph = model(x="FLOAT 1 3", mask="BOOL n")
    feeds = {"x": np.arange(9, dtype=np.float32).reshape(3, 3), "mask": np.array([True, False, True])}
    found = [(one["x"].tolist(), one["mask"].tolist()) for one in open_data([feeds], graph)]
    assert found == [([[0, 1, 2]], [True]), ([[3, 4, 5]], [False]), ([[6, 7, 8]], [True])]


def test_a_batch_that_neither_fills_nor_divides_is_refused(model, error_of):
    error = error_of(lambda: open_data([np.ones((3, 3), np.float32)], model(x="FLOAT 2 3")))
    assert error.message == "data: sample 0: input 'x': expected float[2,3], got float[3,3]"


def test_what_is_extra_is_the_only_thing_named(model, error_of):
    error = error_of(lambda: open_data([{"x": ONE, "label": 3}], model(x="FLOAT 1 3")))
    assert error.message == "data: sample 0: 'label' is no input of the model"


def test_a_batch_for_a_model_that_fixes_it_is_refused(model):
    with pytest.raises(DataError) as caught:
        open_data([ONE], model(x="FLOAT 1 3"), batch=4)
    text = "batch = 4, but input 'x' is float[1,3]: the model says how much one run takes"
    assert (caught.value.message, caught.value.hint) == (text, "leave batch out")


def test_samples_of_other_shapes_start_a_new_run(model):
    data = [np.ones((1, length), np.float32) for length in (2, 2, 3, 2)]
    source = open_data(data, model(x="FLOAT N L"), batch=4)
    assert [feeds["x"].shape for feeds in source] == [(2, 2), (1, 3), (1, 2)]


def test_a_reused_buffer_does_not_mix_samples(graph):
    def reuse():
        buffer = np.zeros((1, 3), np.float32)
        for number in range(3):
            buffer[:] = number
            yield buffer

    assert values(open_data(reuse(), graph, batch=3)) == [[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    kept = list(open_data(reuse(), graph))  # as threads do
    assert [feeds["x"][0, 0] for feeds in kept] == [0, 1, 2]
