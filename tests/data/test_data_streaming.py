"""What is read one sample at a time is what numpy reads at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncomp.data import ArraySource, FolderSource, NpzSource, open_data
from nncomp.ir import DataType, Graph, TensorType, tensor

FLOATS = ["<f4", ">f4", "<f2", "<f8", ">f8"]
INTEGERS = ["|u1", "|i1", "<i4", ">i4", "<i8", ">u2", "|b1"]


def graph_with(dtype, shape, name="x"):
    graph = Graph("g")
    graph.set_outputs([graph.add_input(name, TensorType(dtype, shape))])
    return graph


@st.composite
def stacks(draw):
    """An array of samples, the model's input for it, and how many rows go together."""
    dtype = draw(st.sampled_from(FLOATS + INTEGERS))
    item = draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
    rows = draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    array = np.asarray(rng.uniform(0, 100, (rows, *item))).astype(dtype)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    batch = draw(st.sampled_from(["N", None, *range(1, rows + 1)]))
    dims = tuple(size if draw(st.booleans()) else f"d{axis}" for axis, size in enumerate(item))
    wanted = DataType.FLOAT if dtype in FLOATS else DataType.INT64
    return array, graph_with(wanted, (batch, *dims)), batch if isinstance(batch, int) else 1


@given(stacks(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_streaming_equals_slicing(tmp_path_factory, stack, compressed):
    array, graph, rows = stack
    folder = tmp_path_factory.mktemp("stack")
    (np.savez_compressed if compressed else np.savez)(folder / "x.npz", x=array)
    np.save(folder / "x.npy", array)
    wanted = next(iter(graph.inputs)).type.dtype.numpy()
    expected = [
        np.load(folder / "x.npz")["x"][start : start + rows].astype(wanted)
        for start in range(0, len(array) // rows * rows, rows)
    ]
    for data in (folder / "x.npz", folder / "x.npy", {"x": array}):
        source = open_data(data, graph)
        found = [feeds["x"] for feeds in source]
        assert source.size == len(expected) * rows
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == wanted
            assert one.dtype.isnative
            assert one.flags.c_contiguous
            np.testing.assert_array_equal(one, other, strict=True)


@pytest.mark.row(90)
@given(
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from([None, *range(1, 12)]),
)
@settings(max_examples=60, deadline=None)
def test_row_90_samples_and_fingerprint_do_not_depend_on_the_batch(count, batch, limit):
    graph = graph_with(DataType.FLOAT, ("N", 3))
    array = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    single = open_data({"x": array}, graph, limit=limit)
    grouped = open_data({"x": array}, graph, limit=limit, batch=batch)
    runs = [feeds["x"] for feeds in grouped]
    assert {len(run) for run in runs[:-1]} <= {batch}
    np.testing.assert_array_equal(np.concatenate(runs), np.concatenate([feeds["x"] for feeds in single]))
    assert grouped.fingerprint() == single.fingerprint()
    assert grouped.counts["samples"] == single.counts["samples"] == min(count, limit or count)


def test_iterating_again_starts_over(tmp_path):
    graph = graph_with(DataType.FLOAT, ("N", 3))
    np.savez(tmp_path / "x.npz", x=np.arange(12, dtype=np.float32).reshape(4, 3))
    source = open_data(tmp_path / "x.npz", graph)
    next(iter(source))
    assert [feeds["x"].tolist() for feeds in source] == [feeds["x"].tolist() for feeds in source]
    assert source.counts == {"samples": 4}


@pytest.mark.parametrize(
    ("given", "dims", "expected"),
    [
        ((6, 3), ("N", 3), [(1, 3)] * 6),
        ((6, 3), (2, 3), [(2, 3)] * 3),
        ((7, 3), (2, 3), [(2, 3)] * 3),
        ((6, 3), (3,), [(3,)] * 6),
        ((6,), (), [()] * 6),
        ((), (), [()]),
        ((3,), ("N", 3), [(1, 3)]),
        ((3,), (1, 3), [(1, 3)]),
        ((4, 2, 3), (2, 3), [(2, 3)] * 4),
        ((6,), (3,), [(3,)] * 2),
        ((6, 5, 4), None, [(1, 5, 4)] * 6),
    ],
)
def test_an_array_is_cut_as_the_input_asks(given, dims, expected):
    source = ArraySource({"x": np.ones(given, np.float32)}, graph_with(DataType.FLOAT, dims))
    assert [feeds["x"].shape for feeds in source] == expected


def test_an_input_that_is_empty_in_every_sample_is_fed_beside_others():
    graph = graph_with(DataType.FLOAT, ("N", 3))
    graph.add_input("past", TensorType(DataType.FLOAT, ("N", "past", 4)))
    arrays = {"x": np.ones((2, 3), np.float32), "past": np.ones((2, 0, 4), np.float32)}
    assert [feeds["past"].shape for feeds in open_data(arrays, graph)] == [(1, 0, 4)] * 2


def test_one_number_serves_all_samples():
    graph = graph_with(DataType.FLOAT, ("N", 3))
    graph.add_input("rate", TensorType(DataType.INT64, ()))
    arrays = {"x": np.ones((4, 3), np.float32), "rate": np.int64(16000)}
    assert [feeds["rate"].item() for feeds in open_data(arrays, graph)] == [16000] * 4


def test_inputs_with_different_fixed_batches_advance_together():
    graph = graph_with(DataType.FLOAT, (2, 3))
    graph.add_input("state", TensorType(DataType.FLOAT, (4,)))
    arrays = {"x": np.arange(18, dtype=np.float32).reshape(6, 3), "state": np.arange(12, dtype=np.float32)}
    found = list(open_data(arrays, graph))
    assert [feeds["state"].tolist() for feeds in found] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    np.testing.assert_array_equal(found[2]["x"], arrays["x"][4:])


def test_rows_that_fill_no_batch_are_named():
    source = open_data({"x": np.ones((7, 3), np.float32)}, graph_with(DataType.FLOAT, (2, 3)))
    text = "data: 1 rows at the end do not fill the model's batch and are not used"
    assert [(warning.code, warning.message) for warning in source.warnings] == [("NNC-W047", text)]
    assert source.size == 6


@pytest.mark.parametrize(
    ("names", "part", "chosen"),
    [
        (["x"], "calibration", "x"),
        (["arr_0"], "calibration", "arr_0"),
        (["image", "y"], "evaluation", "image"),
        (["x_calibration", "x_evaluation", "y_evaluation"], "calibration", "x_calibration"),
        (["x_calibration", "x_evaluation", "y_evaluation"], "evaluation", "x_evaluation"),
        (["x", "x_evaluation"], "calibration", "x"),
        (["images_calibration", "labels_calibration"], "calibration", "images_calibration"),
    ],
)
def test_an_array_is_found_by_its_name(tmp_path, names, part, chosen):
    graph = graph_with(DataType.FLOAT, ("N",))
    np.savez(tmp_path / "a.npz", **{name: np.full(2, number, np.float32) for number, name in enumerate(names)})
    source = NpzSource(tmp_path / "a.npz", graph, part=part)
    assert next(iter(source))["x"].tolist() == [names.index(chosen)]


def test_an_input_named_like_a_label_is_an_input(tmp_path):
    np.savez(tmp_path / "a.npz", y=np.ones(2, np.float32))
    source = NpzSource(tmp_path / "a.npz", graph_with(DataType.FLOAT, ("N",), name="y"))
    assert next(iter(source))["y"].tolist() == [1]


def test_inputs_with_a_default_may_be_left_out(tmp_path):
    graph = graph_with(DataType.FLOAT, ("N",))
    graph.add_input("scale", TensorType(DataType.FLOAT, (1,)), default=tensor(np.ones(1, np.float32)))
    np.savez(tmp_path / "a.npz", arr_0=np.ones(2, np.float32))
    assert [list(feeds) for feeds in open_data(tmp_path / "a.npz", graph)] == [["x"], ["x"]]
    np.savez(tmp_path / "a.npz", x=np.ones(2, np.float32), scale=np.ones(2, np.float32))
    assert [list(feeds) for feeds in open_data(tmp_path / "a.npz", graph)] == [["x", "scale"]] * 2


def test_a_folder_is_its_files_one_after_the_other(tmp_path):
    graph = graph_with(DataType.FLOAT, ("N", 2))
    np.save(tmp_path / "b.npy", np.full((3, 2), 2, np.float32))
    np.save(tmp_path / "a.npy", np.full(2, 1, np.float32))
    np.savez(tmp_path / "c.npz", x=np.full((2, 2), 3, np.float32))
    (tmp_path / ".hidden.npy").write_bytes(b"no array")
    (tmp_path / "notes.txt").write_text("no array")
    (tmp_path / "d.npy").mkdir()
    source = FolderSource(tmp_path, graph)
    assert [(numbers, feeds["x"][0, 0].item()) for numbers, feeds in source.numbered()] == [
        ((0,), 1.0),
        ((1,), 2.0),
        ((2,), 2.0),
        ((3,), 2.0),
        ((4,), 3.0),
        ((5,), 3.0),
    ]
    assert source.size == 6
    assert [path.name for path in FolderSource(tmp_path, graph, limit=2).files] == ["a.npy", "b.npy"]


def test_fingerprints_follow_the_content_and_nothing_else(tmp_path):
    graph = graph_with(DataType.FLOAT, ("N", 2))
    array = np.arange(6, dtype=np.float32).reshape(3, 2)

    def digest(data, **options):
        return open_data(data, graph, **options).fingerprint()

    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, x=array)
    assert digest(tmp_path / "a.npz") == digest(tmp_path / "b.npz")
    assert digest(tmp_path / "a.npz") != digest(tmp_path / "a.npz", limit=2)
    assert digest({"x": array}) == digest({"x": array.astype(">f4")}) == digest({"x": np.asfortranarray(array)})
    changed = array.copy()
    changed[2, 1] = 7
    np.savez(tmp_path / "b.npz", x=changed)
    assert digest(tmp_path / "a.npz") != digest(tmp_path / "b.npz")
    assert digest({"x": array}) != digest({"x": changed})
    assert digest([array]) == digest([array]) != digest([changed])


def test_a_folder_has_a_fingerprint_and_the_warnings_of_its_files(tmp_path):
    graph = graph_with(DataType.FLOAT, (2, 2))
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((3, 2), np.float32))
    source = FolderSource(tmp_path, graph)
    assert [feeds["x"].shape for feeds in source] == [(2, 2)] * 2
    assert [warning.code for warning in source.warnings] == ["NNC-W047"] * 2
    before = source.fingerprint()
    assert FolderSource(tmp_path, graph).fingerprint() == before
    (tmp_path / "b.npy").rename(tmp_path / "c.npy")
    assert FolderSource(tmp_path, graph).fingerprint() != before


def test_a_source_is_taken_as_it_is():
    graph = graph_with(DataType.FLOAT, ("N", 2))
    source = ArraySource({"x": np.zeros((3, 2), np.float32)}, graph)
    assert open_data(source, graph).source is source
