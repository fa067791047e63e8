"""Rows 85, 86 and 89: samples that come one by one, once or again, some of them broken."""

import numpy as np
import pytest

from nncomp.data import FeedSource, ReaderSource, open_data
from nncomp.errors import DataError, PluginError, ResourceError

ONE = np.ones((1, 3), np.float32)


def values(source):
    return [feeds["x"].ravel().tolist() for feeds in source]


def warned(source):
    return [(warning.code, warning.message) for warning in source.warnings]


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
