"""Row 89: samples from functions, from random numbers and from plugins' sources."""

import sys

import numpy as np
import pytest

from nncomp.data import DataSource, FeedSource, FunctionSource, RandomSource, open_data
from nncomp.errors import DataError, UnsupportedError
from nncomp.ir import DataType, Graph, SequenceType, TensorType

ONE = np.ones((1, 3), np.float32)


def values(source):
    return [feeds["x"].ravel().tolist() for feeds in source]


def warned(source):
    return [(warning.code, warning.message) for warning in source.warnings]


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


def test_what_a_plugins_source_counts_is_counted(graph):
    class Counting(Acme):
        @property
        def counts(self):
            return {"unreadable": 2}

    data = open_data("counting:3", graph, registry_sources={"counting": Counting})
    assert data.counts == {"unreadable": 2}
