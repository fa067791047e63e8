"""``nncomp_tvm.load``: it runs what was saved, and refuses what is damaged or for another machine."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nncomp
import nncomp_tvm
from nncomp.errors import ModelError, NncompError, UnsupportedError, UsageError
from nncomp.runtime import random_feeds
from nncomp.testing import graph
from nncomp_tvm.target import TvmCpuTarget

SMALL = "g (float[1,3,8,8] x) => (float[1,4,8,8] y) <float[4,3,1,1] w> { c = Conv (x, w) y = Relu (c) }"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    model = graph(SMALL, opset=18)
    artifact = TvmCpuTarget().build(model, nncomp.Context())
    artifact.save(folder)
    return folder, model, artifact


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built[0], tmp_path / "out")


def changed(folder, **fields):
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def refused(folder, kind=ModelError, **options):
    with pytest.raises(kind) as refusal:
        nncomp_tvm.load(folder, **options)
    error = refusal.value
    if kind is ModelError:
        assert (error.code, error.exit_status) == ("NNC-T004", 3)
        assert error.hint == "copy the whole folder again, or compile again"
        return error.message
    return error.code, error.exit_status, error.message, error.hint


def test_it_gives_the_same_numbers_and_is_saved_as_the_same_bytes(built, tmp_path):
    folder, model, artifact = built
    loaded = nncomp_tvm.load(folder)
    feeds = random_feeds(model, seed=1)
    np.testing.assert_array_equal(loaded.run(feeds)["y"], artifact.run(feeds)["y"])
    assert loaded.measure(feeds, model, seconds=0).pairs >= 15
    assert len(loaded.kernels(feeds)) == len(artifact.kernels(feeds))
    assert {path.name: path.read_bytes() for path in loaded.save(tmp_path)} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }


def test_numbers_that_it_was_built_for_stay_pinned(tmp_path):
    model = graph("g (float[2,6] x, int64[2] to) => (float[] y) { y = Reshape (x, to) }", opset=18)
    feeds = {"x": np.ones((2, 6), np.float32), "to": np.array([3, 4])}
    TvmCpuTarget().build(model, nncomp.Context(data=[feeds])).save(tmp_path)
    loaded = nncomp_tvm.load(tmp_path)
    assert loaded.run(feeds)["y"].shape == (3, 4)
    with pytest.raises(NncompError) as failure:
        loaded.run({**feeds, "to": np.array([4, 3])})
    assert failure.value.message == "input 'to' is [4, 3]: the library was built for [3, 4]"
    changed(tmp_path, pinned={"other": [1]})
    assert refused(tmp_path) == "'model.json' is no manifest: pinned: there is no input 'other'"
    changed(tmp_path, pinned={"to": [[1], 2]})
    assert refused(tmp_path) == "'model.json' is no manifest: pinned.to: expected numbers"


@pytest.mark.parametrize("file", ["model.so", "model.params"])
def test_a_changed_file_is_named(folder, file):
    path = folder / file
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert refused(folder) == f"{file!r} has another SHA-256 than the manifest says"
    path.write_bytes(data[:-1])
    assert refused(folder) == f"{file!r} has {len(data) - 1} bytes, the manifest says {len(data)}"
    path.unlink()
    assert refused(folder) == f"{file!r} cannot be read: No such file or directory"
    os.mkfifo(path)
    assert refused(folder) == f"{file!r} is not a regular file"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"speed": 1}, "unknown key 'speed'"),
        ({"outputs": []}, "outputs: expected at least 1 entry, got []"),
        ({"device": "tpu"}, "device: expected 'cpu' or 'cuda', got 'tpu'"),
        (
            {"library": {"file": "../model.so", "bytes": 1, "sha256": "0" * 64}},
            "library.file: expected text of the form ^[^/\\\\\\x00]+$, got '../model.so'",
        ),
    ],
)
def test_a_manifest_of_another_form_says_where(folder, fields, reason):
    changed(folder, **fields)
    assert refused(folder) == f"'model.json' is no manifest: {reason}"


def test_what_is_no_manifest_is_told(folder):
    changed(folder, schema=2)
    assert refused(folder) == "'model.json' is no manifest of schema 1"
    (folder / "model.json").write_bytes(b"[" * 100_000)
    assert refused(folder).startswith("'model.json' is no JSON: ")


def test_a_manifest_that_is_too_large_is_not_read(folder):
    with (folder / "model.json").open("ab") as file:
        file.truncate((1 << 24) + 1)
    assert refused(folder) == "'model.json' has 16777217 bytes, expected at most 16777216"


def test_parameters_of_another_number_are_refused(folder):
    parameters = json.loads((folder / "model.json").read_text())["parameters"]
    changed(folder, parameters={**parameters, "count": 2})
    assert refused(folder) == "'model.params' holds 1 tensors, expected 2, named from '0' on"


def test_a_manifest_without_the_library_is_believed_and_what_is_no_library_is_not(folder):
    changed(folder, library=None)
    nncomp_tvm.load(folder)
    (folder / "model.so").write_bytes(b"no library")
    assert refused(folder).startswith("'model.so' is no library of a model: ")


def test_what_is_for_another_machine_is_told(folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("nncomp_tvm.loading.lacking_features", lambda cpu: ["avx9"])
        assert nncomp_tvm.load(folder).unrunnable().startswith("this CPU lacks avx9, which code for ")
    changed(folder, target={"kind": "llvm", "mcpu": "z80"})
    assert refused(folder, UnsupportedError) == (
        "NNC-T002",
        4,
        "the library is for CPU 'z80', which LLVM does not know on this kind of machine",
        "compile on this machine, or for its CPU",
    )
    changed(folder, tvm="0.1")
    from nncomp_tvm.library import VERSION

    assert refused(folder, UnsupportedError) == (
        "NNC-T002",
        4,
        f"the library was built with TVM 0.1, and here is {VERSION}",
        "compile again, or pip install apache-tvm==0.1",
    )
    changed(folder, device="cuda")
    assert refused(folder, UnsupportedError)[2:] == (
        "the library is for a GPU, and what loads it here is for a CPU",
        "docs/tvm.md has the lines that load it",
    )


def test_threads_are_at_least_one(folder):
    assert refused(folder, UsageError, threads=0)[2] == "threads: expected at least 1, got 0"


def test_without_tvm_it_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert refused(folder, UnsupportedError) == (
        "NNC-T001", 4, "a library of TVM needs apache-tvm", "pip install 'nncomp[tvm]'",
    )  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_manifest_is_an_error_of_ours_or_does_no_harm(built, tmp_path, data):
    folder = shutil.copytree(built[0], tmp_path / "out", dirs_exist_ok=True)
    text = bytearray((folder / "model.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.json").write_bytes(text)
    try:
        nncomp_tvm.load(folder)
    except NncompError as error:
        assert error.code in ("NNC-T002", "NNC-T004")
