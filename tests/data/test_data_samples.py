"""Rows 84 to 89: samples that a program gives, one by one, held against the model."""

import sys

import ml_dtypes
import numpy as np
import pytest

from nncomp.data import DataSource, FeedSource, FunctionSource, RandomSource, ReaderSource, open_data
from nncomp.errors import DataError, PluginError, ResourceError, UnsupportedError
from nncomp.ir import DataType, Graph, SequenceType, TensorType

ONE = np.ones((1, 3), np.float32)


@pytest.fixture
def graph(model):
    return model(x="FLOAT N 3")


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


@pytest.mark.row(85)
def test_row_85_a_look_at_the_first_of_many_samples_is_no_warning(graph):
    source = open_data([{"x": ONE}] * 3, graph)
    next(iter(source))
    assert warned(source) == []


@pytest.mark.row(85)
def test_row_85_an_iterator_serves_once(graph):
    source = FeedSource((one for one in [ONE, ONE]), graph)
    assert len(values(source)) == 2
    assert source.fingerprint() == ""
    assert source.size is None
    with pytest.raises(DataError) as caught:
        values(source)
    assert (caught.value.code, caught.value.message) == ("NNC-D004", "data can be read only once, and was")
    assert (
        caught.value.hint == "give a list, a reader with rewind(), or module:function, which is called anew each time"
    )
    with pytest.raises(TypeError, match=r"^data does not know its size; ask \.size$"):
        len(source)


@pytest.mark.row(85)
def test_row_85_what_can_be_read_once_is_kept_for_the_next_time(graph):
    taken = []

    def stream():
        for number in range(4):
            taken.append(number)
            yield {"x": ONE * np.float32(number)}
        raise ValueError("lost")

    source = open_data(stream(), graph)
    first = iter(source)
    assert [next(first)["x"][0, 0] for _ in range(2)] == [0, 1]
    assert taken == [0, 1]
    for _ in range(2):
        got = []
        with pytest.raises(PluginError, match=r"^data failed at sample 4: ValueError: lost$"):
            got.extend(source)
        assert [feeds["x"][0, 0] for feeds in got] == [0, 1, 2, 3]
    assert taken == [0, 1, 2, 3]
    assert (source.fingerprint(), source.size, source.label) == ("", None, "data")


@pytest.mark.row(85)
def test_row_85_what_is_kept_goes_to_disk(graph, monkeypatch):
    monkeypatch.setattr("nncomp.data.spool._IN_MEMORY", 10)
    source = open_data(iter([ONE * np.float32(number) for number in range(3)]), graph)
    assert values(source) == values(source) == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]

    def full(data):
        raise OSError(28, "No space left on device")

    source = open_data(iter([ONE]), graph)
    monkeypatch.setattr(source.source._file, "write", full)
    with pytest.raises(ResourceError) as caught:
        list(source)
    text = "data: cannot keep samples for a second reading: No space left on device"
    assert (caught.value.code, caught.value.message) == ("NNC-E001", text)


@pytest.mark.row(85)
def test_row_85_no_more_is_taken_from_an_iterator_than_the_limit(graph):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield ONE

    assert len(values(open_data(endless(), graph, limit=3))) == 3
    assert len(taken) == 3


@pytest.mark.row(86)
def test_row_86_samples_that_are_not_finite_are_left_out_and_counted(graph):
    bad = [np.array([[1, np.nan, 3]], np.float32), np.array([[1, -np.inf, 3]], np.float32)]
    source = open_data([bad[0], ONE, bad[1], ONE, np.full((1, 3), 1e39)], graph)
    assert values(source) == [[1, 1, 1]] * 2
    assert source.counts == {"samples": 2, "not finite": 3}
    text = "data: 3 samples hold NaN or infinity and are left out"
    assert ("NNC-W044", text) in warned(source)
    assert values(source) == [[1, 1, 1]] * 2
    assert source.counts == {"samples": 2, "not finite": 3}


@pytest.mark.row(86)
def test_row_86_strict_stops_at_a_sample_that_is_not_finite(graph):
    source = iter(open_data([ONE, ONE * np.float32(np.nan)], graph, strict=True))
    next(source)
    with pytest.raises(DataError) as caught:
        next(source)
    assert (caught.value.code, caught.value.message) == ("NNC-D003", "data: sample 1: input 'x' holds NaN or infinity")
    assert caught.value.where.tensor == "x"


@pytest.mark.row(86)
def test_row_86_nothing_left_is_an_error(graph, error_of):
    error = error_of(lambda: open_data([ONE * np.float32(np.inf)] * 2, graph))
    assert (error.code, error.message) == ("NNC-D004", "data: no sample is left: 2 not finite")


def test_a_fixed_batch_is_collected_from_single_samples(model):
    source = open_data([np.full(3, number, np.float32) for number in range(5)], model(x="FLOAT 2 3"))
    assert [feeds["x"][:, 0].tolist() for feeds in source] == [[0, 1], [2, 3]]
    text = "data: 1 samples at the end do not fill the model's batch and are not used"
    assert (source.counts, warned(source)) == ({"samples": 4, "left over": 1}, [("NNC-W047", text)])


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


class Reader:
    def __init__(self, count=2, *, fails_at=None):
        self.count, self.fails_at = count, fails_at
        self.at = 0

    def get_next(self):
        if self.at == self.fails_at:
            raise KeyError("gone")
        self.at += 1
        return {"x": ONE * self.at} if self.at <= self.count else None


class Rewinding(Reader):
    def rewind(self):
        self.at = 0


def test_a_reader_of_onnxruntime_is_data(graph):
    source = ReaderSource(Reader(), graph)
    assert values(source) == [[1, 1, 1], [2, 2, 2]]
    assert source.fingerprint() == ""
    with pytest.raises(DataError) as caught:
        values(source)
    assert caught.value.message == "data can be read only once, and was"


def test_a_reader_that_rewinds_can_be_read_again(graph):
    source = open_data(Rewinding(), graph)
    assert values(source) == values(source)
    assert len(source.fingerprint()) == 64


@pytest.mark.row(89)
def test_row_89_a_failure_names_the_sample_and_what_came_before_was_given(graph):
    got = []
    with pytest.raises(PluginError) as caught:
        got.extend(open_data(Reader(1000, fails_at=512), graph))
    assert len(got) == 512
    assert (caught.value.code, caught.value.exit_status) == ("NNC-P010", 7)
    assert caught.value.message == "data failed at sample 512: KeyError: 'gone'"
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.row(89)
def test_row_89_a_reader_that_cannot_rewind_is_a_plugin_error(graph):
    reader = Reader()
    reader.rewind = lambda: 1 / 0
    source = open_data(reader, graph)
    values(source)
    with pytest.raises(PluginError) as caught:
        values(source)
    assert caught.value.message == "data cannot be rewound: ZeroDivisionError: division by zero"


MODULE = """
import numpy as np
import sys
one = np.ones((1, 3), np.float32)

def stacked(): return {"x": np.ones((4, 3), np.float32)}
def array(): return np.ones((4, 3), np.float32)
def stream():
    for _ in range(4):
        yield {"x": one}
def endless():
    while True:
        yield one
class Loaders:
    @staticmethod
    def arrays(): return [one] * 4
def fails(): raise OSError("no network")
def fails_later():
    yield one
    raise ValueError("bad row\\nand more")
def leaves():
    yield one
    sys.exit(3)
def number(): return 3
constant = 3

import nncomp
class Source(nncomp.DataSource):
    def __iter__(self):
        yield {"x": one}
        raise IndexError("lost")
    def fingerprint(self): return "1"
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "calibration_data.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "calibration_data", raising=False)
    yield tmp_path
    sys.modules.pop("calibration_data", None)


@pytest.mark.parametrize("name", ["stacked", "array", "stream", "Loaders.arrays"])
def test_a_function_gives_data_anew_each_time(graph, module, name):
    path = list(sys.path)
    source = open_data(f"calibration_data:{name}", graph, allow_code=True, base=module)
    assert sys.path == path
    assert values(source) == values(source) == [[1, 1, 1]] * 4
    assert source.fingerprint() == source.fingerprint() != ""
    assert source.label == f"data 'calibration_data:{name}'"


def test_a_function_may_go_on_for_ever(graph, module):
    source = open_data("calibration_data:endless", graph, allow_code=True, base=module, limit=3)
    assert len(values(source)) == 3
    assert len(source.fingerprint()) == 64


@pytest.mark.row(89)
@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("calibration_data:fails", "NNC-P010", "failed before the first sample: OSError: no network"),
        ("calibration_data:fails_later", "NNC-P010", "failed at sample 1: ValueError: bad row"),
        ("calibration_data:Source", "NNC-P010", "failed at sample 1: IndexError: lost"),
        ("calibration_data:leaves", "NNC-P010", "failed at sample 1: SystemExit: 3"),
        ("calibration_data:absent", "NNC-P010", ": module 'calibration_data' has no 'absent'"),
        ("calibration_data:constant", "NNC-P010", ": expected a function, got int"),
        ("calibration_data:number", "NNC-D001", ": expected arrays by input name or an iterable of them, got int"),
        ("no_such_module:f", "NNC-P010", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
    ],
)
def test_row_89_a_function_that_fails_is_named(graph, module, error_of, name, code, message):
    error = error_of(lambda: open_data(name, graph, allow_code=True, base=module))
    assert (error.code, error.message) == (code, f"data {name!r}{'' if message[0] == ':' else ' '}{message}")


def test_a_recipe_cannot_name_code(graph, module):
    with pytest.raises(DataError) as caught:
        open_data("calibration_data:stream", graph, base=module)
    assert "calibration_data" not in sys.modules
    assert caught.value.code == "NNC-D001"
    assert caught.value.message == "data 'calibration_data:stream' is Python code, which a recipe cannot name"
    assert caught.value.hint == "say --data calibration_data:stream on the command line"


def test_function_sources_can_be_made_without_opening(graph, module):
    source = FunctionSource("calibration_data:stream", graph, folder=module)
    assert [numbers for numbers, _ in source.numbered()] == [(0,), (1,), (2,), (3,)]
    assert source.warnings == ()
    assert len(list(FunctionSource("calibration_data:stream", graph))) == 4


def test_random_data_says_that_it_means_nothing(model):
    graph = model(x="FLOAT N 3", ids="INT64 N L")
    source = open_data("random:3", graph, seed=7)
    assert isinstance(source.source, RandomSource)
    assert [feeds["ids"].shape for feeds in source] == [(1, 1)] * 3
    assert warned(source) == [
        ("NNC-W048", "random data: ranges and accuracy measured on it mean nothing for real inputs")
    ]
    assert (
        values(source) == values(open_data("random:3", graph, seed=7)) != values(open_data("random:3", graph, seed=8))
    )
    assert source.fingerprint() == open_data("random:3", graph, seed=7).fingerprint()
    assert source.fingerprint() != open_data("random:3", graph, seed=8).fingerprint()
    assert open_data("random", graph).size == 16
    assert open_data("random", graph, limit=5).size == 5
    wide = RandomSource(graph, 1, dims={"L": 9})
    assert next(iter(wide))["ids"].shape == (1, 9)


def test_random_data_can_be_batched(model):
    assert [len(feeds["x"]) for feeds in open_data("random:5", model(x="FLOAT N 3"), batch=2)] == [2, 2, 1]


@pytest.mark.row(62)
@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (SequenceType(TensorType(DataType.FLOAT, (1,))), "seq(float[1])"),
        (TensorType(DataType.STRING, (1,)), "string[1]"),
        (TensorType(DataType.BFLOAT16, (1,)), "bfloat16[1]"),
        (TensorType(DataType.UNDEFINED, (1,)), "undefined[1]"),
        (None, "None"),
    ],
)
def test_row_62_inputs_that_no_array_feeds_are_refused(type_, text):
    graph = Graph("g")
    graph.set_outputs([graph.add_input("x", type_)])
    with pytest.raises(UnsupportedError) as caught:
        open_data([ONE], graph)
    assert caught.value.message == f"input 'x' is {text}: data can feed dense tensors of numbers only"
    assert caught.value.exit_status == 4


class Acme(DataSource):
    name = "acme"

    def __init__(self, argument):
        self.argument = argument

    @classmethod
    def open(cls, argument, graph):
        if argument == "broken":
            raise ValueError("no such table")
        return cls(argument)

    @property
    def once(self):
        return self.argument == "once"

    def __iter__(self):
        yield {"x": ONE.tolist()}
        if self.argument == "short":
            raise ConnectionError("lost")
        yield {"x": ONE}

    def fingerprint(self):
        return self.argument


class Closed(DataSource):
    name = "closed"

    def __iter__(self):
        yield {}

    def fingerprint(self):
        return ""


def test_a_plugins_source_is_opened_by_name(graph):
    source = open_data("acme:table:1", graph, registry_sources={"acme": Acme})
    assert values(source) == [[1, 1, 1]] * 2
    assert source.label == "data source 'acme'"
    assert source.fingerprint() == open_data("acme:table:1", graph, registry_sources={"acme": Acme}).fingerprint()
    assert source.size is None


def test_a_plugins_source_that_serves_once_is_kept(graph):
    source = open_data("acme:once", graph, registry_sources={"acme": Acme})
    assert values(source) == values(source) == [[1, 1, 1]] * 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("acme:broken", "data source 'acme' failed to open: ValueError: no such table"),
        ("acme:short", "data source 'acme' failed at sample 1: ConnectionError: lost"),
        ("closed:x", "data source 'closed' cannot be opened by name ('x')"),
    ],
)
def test_a_plugins_source_that_fails_is_named(graph, error_of, spec, message):
    error = error_of(lambda: open_data(spec, graph, registry_sources={"acme": Acme, "closed": Closed}))
    assert (error.code, error.message) == ("NNC-P010", message)


def test_a_source_is_true_even_when_it_is_empty(graph):
    assert FeedSource([], graph)
    assert len(FeedSource([ONE], graph)) == 1
