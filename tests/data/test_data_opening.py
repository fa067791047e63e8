"""What the words after ``--data`` and in a recipe's ``[data]`` table open; row 78; and labels."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nncomp.data import (
    DataOptions,
    FolderSource,
    ImageSource,
    NpzSource,
    Preprocess,
    RandomSource,
    labels,
    open_data,
    open_labelled,
    resolve_path,
)
from nncomp.demo import data_path
from nncomp.errors import DataError, UsageError
from nncomp.options import inline_table
from nncomp.testing import graph as parsed

X = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def graph(model):
    return model(x="FLOAT N 3")


@pytest.fixture
def image_graph(model):
    return model(x="FLOAT N 3 2 2")


def image(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2), (value, 0, 0)).save(path)


def test_what_a_path_is_decides_how_it_is_read(tmp_path, graph, image_graph):
    np.savez(tmp_path / "data", x=X)
    (tmp_path / "data.npz").rename(tmp_path / "data.bin")
    np.save(tmp_path / "x.npz", X)  # numpy adds .npy
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "1.npy", X)
    image(tmp_path / "images" / "a" / "1.png")
    assert isinstance(open_data(tmp_path / "data.bin", graph).source, NpzSource)
    assert isinstance(open_data(str(tmp_path / "x.npz.npy"), graph).source, NpzSource)
    assert isinstance(open_data(str(tmp_path / "arrays"), graph).source, FolderSource)
    assert isinstance(open_data(str(tmp_path / "images"), image_graph).source, ImageSource)
    assert isinstance(open_data("random:2", graph).source, RandomSource)


@pytest.mark.row(78)
def test_row_78_paths_are_relative_to_the_recipe_and_nothing_is_expanded(tmp_path, graph, monkeypatch):
    (tmp_path / "recipes").mkdir()
    np.savez(tmp_path / "x.npz", x=X)
    np.savez(tmp_path / "recipes" / "random", x=X)
    (tmp_path / "recipes" / "random.npz").rename(tmp_path / "recipes" / "random")
    monkeypatch.setenv("DATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    base = tmp_path / "recipes"
    assert open_data("../x.npz", graph, base=base).size == 4
    assert open_data(str(tmp_path / "x.npz"), graph, base=base).size == 4
    assert isinstance(open_data("./random", graph, base=base).source, NpzSource)
    assert isinstance(open_data("random", graph, base=base).source, RandomSource)
    assert resolve_path("~/x", base) == base / "~" / "x"
    assert resolve_path("x", None) == Path("x")
    for spec in ("~/x.npz", "$DATA/x.npz", "${DATA}/x.npz"):
        with pytest.raises(DataError) as caught:
            open_data(spec, graph, base=base)
        assert (caught.value.code, caught.value.message) == ("NNC-D004", f"data {str(base / spec)!r} does not exist")
        assert caught.value.hint == "'~' and variables are not expanded"


@pytest.mark.parametrize("spec", ["nothing.npz", "", "a\0b", "x" * 5000, "a:b:c", "os:", ":getcwd", "os:getcwd()"])
def test_what_does_not_exist_is_named(tmp_path, graph, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data(spec, graph, allow_code=True)
    assert caught.value.code == "NNC-D004"
    if spec:
        assert (caught.value.message, caught.value.hint) == (f"data {spec!r} does not exist", "")


def test_a_folder_without_data_is_named(tmp_path, graph):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(DataError) as caught:
        open_data(tmp_path, graph)
    assert caught.value.code == "NNC-D004"
    assert caught.value.message == f"data {str(tmp_path)!r} holds no .npy or .npz files and no images"
    assert caught.value.hint == "images end in .jpg, .jpeg, .png, .bmp or .webp"
    with pytest.raises(DataError) as caught:
        FolderSource(tmp_path, graph)
    assert caught.value.message == f"data {str(tmp_path)!r} holds no .npy or .npz files"


def test_a_folder_of_two_kinds_is_refused(tmp_path, graph):
    image(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DataError) as caught:
        open_data(tmp_path, graph)
    assert caught.value.message == f"data {str(tmp_path)!r} holds arrays and images, expected one kind"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("limit", 0, "limit: expected at least 1, got 0"),
        ("batch", 0, "batch: expected at least 1, got 0"),
        ("skip_bad", -1, "skip_bad: expected at least 0, got -1"),
        ("part", "test", "part: expected 'calibration' or 'evaluation', got 'test'"),
        ("preprocess", "x", "preprocess: unknown preset 'x', expected one of imagenet, tf, unit"),
    ],
)
def test_wrong_options_are_usage_errors(graph, option, value, message):
    with pytest.raises(UsageError) as caught:
        open_data("random", graph, **{option: value})
    assert (caught.value.code, caught.value.message) == ("NNC-R021", message)


def test_options_are_plain_data_and_frozen():
    options = DataOptions.model_validate({"path": "x", "preprocess": {"preset": "tf", "resize": [4, 5]}, "limit": 3})
    assert options.preprocess == Preprocess(mean=127.5, std=127.5, resize=(4, 5))
    dump = options.model_dump(mode="json", exclude_defaults=True)
    assert DataOptions.model_validate(dump) == options
    assert inline_table(dump) == '{path="x", preprocess={resize=[4, 5], mean=127.5, std=127.5}, limit=3}'
    for wrong in ({"paht": "x"}, {"limit": True}, {"limit": "3"}, {"path": 3}, {"skip_bad": -1}):
        with pytest.raises(ValueError, match="validation error"):
            DataOptions.model_validate(wrong)
    with pytest.raises(ValueError, match="frozen"):
        options.limit = 4


def test_the_demo_data_has_two_parts(model):
    graph = model(image="FLOAT N 1 8 8")
    assert open_data(data_path(), graph).size == 200
    evaluation = open_labelled(data_path(), graph, batch=64)
    found = [(feeds["image"], truth) for feeds, truth in evaluation]
    assert sum(len(truth) for _, truth in found) == 450
    with np.load(data_path()) as data:
        np.testing.assert_array_equal(np.concatenate([x for x, _ in found]), data["x_evaluation"])
        np.testing.assert_array_equal(np.concatenate([truth for _, truth in found]), data["y_evaluation"])


@pytest.mark.parametrize("name", ["y", "label", "labels", "y_evaluation", "labels_evaluation"])
def test_labels_lie_beside_the_samples(tmp_path, graph, name):
    path = tmp_path / "a.npz"
    np.savez(path, x=X, **{name: np.arange(4)})
    assert labels(path).tolist() == [0, 1, 2, 3]
    assert [truth.tolist() for _, truth in open_labelled(path, graph)] == [[0], [1], [2], [3]]


def test_labels_of_samples_that_are_left_out_are_left_out(tmp_path, graph, image_graph):
    bad = X.copy()
    bad[1] = np.nan
    np.savez(tmp_path / "a.npz", x=bad, y=np.arange(4))
    found = list(open_labelled(tmp_path / "a.npz", graph, batch=2))
    assert [truth.tolist() for _, truth in found] == [[0, 2], [3]]
    np.testing.assert_array_equal(found[0][0]["x"], X[[0, 2]])
    for number, folder in enumerate(("cat", "dog", "emu")):
        image(tmp_path / "images" / folder / "1.png", number)
    (tmp_path / "images" / "dog" / "0.png").write_text("no image")
    found = list(open_labelled(tmp_path / "images", image_graph, preprocess=Preprocess(), skip_bad=1))
    assert [(feeds["x"][0, 0, 0, 0], truth.tolist()) for feeds, truth in found] == [(0, [0]), (1, [1]), (2, [2])]


def test_labels_follow_a_fixed_batch(tmp_path, model):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, start in (("a", 0), ("b", 3)):
        np.savez(folder / name, x=np.arange(start, start + 3, dtype=np.float32), y=np.arange(start, start + 3))
    found = list(open_labelled(folder, model(x="FLOAT 2")))
    assert [(feeds["x"].tolist(), truth.tolist()) for feeds, truth in found] == [([0, 1], [0, 1]), ([3, 4], [3, 4])]


def test_classes_are_the_sorted_folders(tmp_path, image_graph):
    for folder, count in (("b", 2), ("a", 1), ("c/deep", 1)):
        for number in range(count):
            image(tmp_path / folder / f"{number}.png")
    (tmp_path / "aa_empty").mkdir()
    assert labels(tmp_path).tolist() == [0, 2, 2, 3]
    limited = open_labelled(tmp_path, image_graph, preprocess="unit", limit=2)
    assert [truth.tolist() for _, truth in limited] == [[0], [2]]
    numbers = [numbers for numbers, _ in limited.data.numbered()]
    assert labels(tmp_path)[np.concatenate(numbers)].tolist() == [0, 2]
    image(tmp_path / "top.png")
    assert labels(tmp_path) is None


def test_no_labels_are_none_or_an_error(tmp_path, graph, image_graph):
    np.savez(tmp_path / "a.npz", x=X)
    np.savez(tmp_path / "b.npz", x=X, y=np.arange(3))
    np.savez(tmp_path / "c.npz", x=X, y=np.array(["a"] * 4))
    (tmp_path / "empty").mkdir()
    image(tmp_path / "a.png")
    assert labels(tmp_path / "a.npz") is None
    assert labels(tmp_path / "a.png") is None
    assert labels(tmp_path / "empty") is None
    hint = "name an array 'y' or 'y_evaluation' beside the samples, or put images into one folder a class"
    for data, model in ((tmp_path / "a.npz", graph), (tmp_path / "a.png", image_graph)):
        with pytest.raises(DataError) as caught:
            open_labelled(data, model, preprocess="unit" if model is image_graph else None)
        assert (caught.value.code, caught.value.message) == ("NNC-D003", f"data {str(data)!r} has no labels")
        assert caught.value.hint == hint
    with pytest.raises(DataError) as caught:
        open_labelled(tmp_path / "b.npz", graph)
    assert caught.value.message == f"data {str(tmp_path / 'b.npz')!r} has 3 labels for 4 samples"
    with pytest.raises(DataError) as caught:
        labels(tmp_path / "c.npz")
    expected = "array 'y' is string[4], expected one label a sample"
    assert caught.value.message == f"data {str(tmp_path / 'c.npz')!r} {expected}"
    with pytest.raises(DataError) as caught:
        open_labelled([X], graph)
    assert caught.value.message == "data has no labels"


def test_labels_in_some_files_only_are_an_error(tmp_path, graph):
    np.savez(tmp_path / "a.npz", x=X, y=np.arange(4))
    np.savez(tmp_path / "b.npz", x=X)
    with pytest.raises(DataError) as caught:
        labels(tmp_path)
    assert caught.value.message == f"data {str(tmp_path)!r} has labels in 1 of 2 files"


def test_importing_data_loads_nothing_heavy():
    heavy = "PIL", "onnxruntime", "torch"
    code = f"import sys, nncomp.data; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path, graph):
    path = tmp_path / "a.npz"
    np.savez(path, x=X)
    path.chmod(0)
    with pytest.raises(DataError) as caught:
        open_data(path, graph)
    assert (caught.value.code, caught.value.message) == (
        "NNC-D004",
        f"data {str(path)!r} cannot be opened: Permission denied",
    )


def test_a_number_in_a_file_is_fed_to_an_input_of_no_axes_with_every_sample(tmp_path):
    model = parsed("g (float[N,2] x, int64 rate) => (float[N,2] y, int64 z) { y = Relu (x) z = Identity (rate) }")
    np.savez(tmp_path / "x.npz", x=np.ones((2, 2), np.float32), rate=np.array(16000))
    assert [int(feeds["rate"]) for feeds in open_data(str(tmp_path / "x.npz"), model)] == [16000, 16000]
