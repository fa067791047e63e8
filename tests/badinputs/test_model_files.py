# ruff: noqa: E501  tables: one case a line
"""the list of bad inputs section A: files that are no model. Exit 3, a stable code, one line, nothing written, nothing allocated."""

import gzip
import io
import json
import os
import pickle
import resource
import struct
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nncomp.cli import main
from nncomp.onnx_io import load, save, to_bytes
from nncomp.testing import graph

THIRDPARTY = str(Path(__file__).parents[1] / "thirdparty")


def deep_ifs(depth: int) -> bytes:
    """Return a message nested like Ifs in Ifs, written by hand: protobuf itself would not build it."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(data)) + data

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    body = field(2, b"g")  # GraphProto.name
    for _ in range(depth):
        attribute = field(1, b"then_branch") + field(6, body) + b"\xa0\x01\x05"
        node = field(4, b"If") + field(5, attribute)
        body = field(1, node) + field(2, b"g")
    return b"\x08\x08" + field(7, body)


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return buffer.getvalue()


def safetensors_bytes() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 4


GOOD = to_bytes(graph("g (float[1,4] x) => (float[1,3] y) <float[4,3] w> { y = MatMul (x, w) }"))
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
RANDOM = np.random.default_rng(1).bytes(512)

CASES = [
    # 1
    ("empty", b"", "NNC-M001", "the file is empty", ""),
    # 2, 7
    ("random", RANDOM, "NNC-M002", "is not a readable ONNX protobuf (512 bytes)", None),
    ("text", b"a list of things\n", "NNC-M002", "is not a readable ONNX protobuf (17 bytes)", "this is text; an ONNX model is a binary file"),
    ("truncated", GOOD[:-5], "NNC-M002", f"is not a readable ONNX protobuf ({len(GOOD) - 5} bytes)", None),
    ("trailing garbage", GOOD + b"\xff" * 7, "NNC-M002", f"is not a readable ONNX protobuf ({len(GOOD) + 7} bytes)", None),
    ("length of 2 GB", b"\x08\x08\x3a\xff\xff\xff\xff\x07abc", "NNC-M002", "is not a readable ONNX protobuf (11 bytes)", None),
    # 3
    ("git lfs pointer", LFS, "NNC-M003", "is a Git LFS pointer", "run `git lfs pull`"),
    # 4
    ("html", b"<!DOCTYPE html><html>", "NNC-M004", "is an HTML page (a download that failed?), not ONNX", ""),
    ("html, bare", b"\n<html><body>", "NNC-M004", "is an HTML page (a download that failed?), not ONNX", ""),
    ("gzip", gzip.compress(GOOD), "NNC-M004", "is a gzip file, not ONNX", ""),
    ("zip", zip_bytes(), "NNC-M004", "is a zip archive (PyTorch checkpoints are, too), not ONNX", ""),
    ("pickle", pickle.dumps({"a": 1}, 2), "NNC-M004", "is a Python pickle (an old PyTorch checkpoint?), not ONNX", ""),
    ("pickle 4", pickle.dumps({"a": 1}, 4), "NNC-M004", "is a Python pickle, not ONNX", ""),
    ("safetensors", safetensors_bytes(), "NNC-M004", "is a safetensors file, not ONNX", ""),
    ("tflite", b"\x1c\0\0\0TFL3" + b"\0" * 40, "NNC-M004", "is a TensorFlow Lite model, not ONNX", ""),
    ("hdf5", b"\x89HDF\r\n\x1a\n", "NNC-M004", "is an HDF5 file (a Keras model?), not ONNX", ""),
    ("gguf", b"GGUF\x03\0\0\0", "NNC-M004", "is a GGUF file, not ONNX", ""),
    # 5
    ("a tensor", TensorProto(data_type=1, dims=[2], raw_data=b"\0" * 8).SerializeToString(), "NNC-M00[25]", None, None),
    ("no graph", onnx.ModelProto(ir_version=8).SerializeToString(), "NNC-M005", "holds no ONNX graph", ""),
    # 8
    ("Ifs 60 deep", deep_ifs(60), "NNC-M007", "is nested deeper than protobuf allows", ""),
]  # fmt: skip


@pytest.fixture
def compile_(capsys, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(THIRDPARTY)

    def call(path, *more):
        capsys.readouterr()
        status = main(
            [
                "compile",
                str(path),
                "-o",
                str(tmp_path / "out"),
                "--plugin",
                "acme_plugin",
                "-t",
                "acme",
                "-p",
                "nothing",
                *more,
            ]
        )
        return status, *capsys.readouterr()

    return call


@pytest.mark.row(1, 2, 3, 4, 5, 7, 8)
@pytest.mark.parametrize(
    ("data", "code", "message", "hint"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_file_that_is_no_model_is_refused_in_one_line(compile_, tmp_path, data, code, message, hint):
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, out, err = compile_(path, "--json")
    assert status == 3
    error = json.loads(out)["error"]
    assert error["code"] in (code, *(code.replace("[25]", digit) for digit in "25"))
    if message is not None:
        assert error["message"].removeprefix(f"model '{path}'").lstrip(": ") == message
    if hint is not None:
        assert error["hint"] == hint
    assert error["where"]["file"] == str(path)
    lines = [line for line in err.splitlines() if "is left out" not in line]
    assert lines[0] == f"nncomp: error {error['code']}: {error['message']}"
    assert "Traceback" not in err
    assert sorted(found.name for found in tmp_path.iterdir()) == ["bad.onnx"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000  # KiB


@pytest.mark.row(6)
@pytest.mark.parametrize("sort", ["missing", "folder", "fifo", "loop", "device"])
def test_a_path_that_is_no_regular_file_is_refused_before_it_is_opened(compile_, tmp_path, sort):
    path = tmp_path / "model.onnx"
    expected = {
        "missing": "cannot open model '{}': No such file or directory",
        "folder": "model '{}' is a folder",
        "fifo": "model '{}' is not a regular file",
        "loop": "cannot open model '{}': Too many levels of symbolic links",
        "device": "model '{}' is not a regular file",
    }[sort]
    if sort == "folder":
        path.mkdir()
    elif sort == "fifo":
        os.mkfifo(path)
    elif sort == "loop":
        path.symlink_to(path)
    elif sort == "device":
        path = Path("/dev/zero")
    status, out, err = compile_(path)
    assert (status, out) == (3, "")
    assert f"nncomp: error NNC-M006: {expected.format(path)}\n" in err
    if sort == "folder":
        (path / "report.json").write_text("{}")
        assert f"  hint: to see the report in it: nncomp report {path}\n" in compile_(path)[2]
        (path / "model.onnx").write_bytes(b"")
        assert f"  hint: give the model in it, {path}/model.onnx\n" in compile_(path)[2]
    if sort == "missing":
        (tmp_path / "modell.onnx").write_bytes(b"")
        assert f"  hint: did you mean '{tmp_path}/modell.onnx'?\n" in compile_(path)[2]
        assert "  hint: models there: modell.onnx\n" in compile_(tmp_path / "zzz.onnx")[2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(compile_, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(GOOD)
    path.chmod(0)
    status, _, err = compile_(path)
    assert status == 3
    assert "NNC-M006" in err


@pytest.mark.row(9)
def test_ifs_28_deep_are_legal_and_pass(compile_, tmp_path):
    path = tmp_path / "deep.onnx"
    path.write_bytes(chain_of_ifs(28))
    status, _, err = compile_(path, "--no-measure")
    assert status == 0, err


def chain_of_ifs(depth: int) -> bytes:
    """Return Ifs nested ``depth`` deep, in the then branch only, so that the file stays small."""

    def info(name, dtype=TensorProto.FLOAT, shape=(1,)):
        return helper.make_tensor_value_info(name, dtype, shape)

    body = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "leaf", [], [info("r")])
    for level in range(depth):
        other = helper.make_graph([helper.make_node("Neg", ["x"], [f"n{level}"])], f"e{level}", [], [info(f"n{level}")])
        node = helper.make_node("If", ["c"], [f"y{level}"], then_branch=body, else_branch=other)
        body = helper.make_graph([node], f"g{level}", [], [info(f"y{level}")])
    body.input.extend([info("x"), info("c", TensorProto.BOOL, ())])
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.row(10)
def test_a_model_too_large_for_one_message_gets_a_data_file_by_itself(compile_, tmp_path, monkeypatch):
    import nncomp.onnx_io.files as files

    path = tmp_path / "big.onnx"
    save(graph("g (float[1,512] x) => (float[1,8] y) <float[512,8] w> { y = MatMul (x, w) }"), path)
    monkeypatch.setattr(files, "PROTOBUF_LIMIT", 4096)
    monkeypatch.setattr(files.save, "__kwdefaults__", {"protobuf_limit": 4096})
    status, out, err = compile_(path)
    assert status == 0, err
    assert sorted(found.name for found in (tmp_path / "out").iterdir()) == [
        "model.onnx",
        "model.onnx.data",
        "recipe.lock.toml",
        "report.html",
        "report.json",
    ]
    assert "model.onnx.data" in out.splitlines()[-1]
    result = load(tmp_path / "out" / "model.onnx")
    assert np.array_equal(result.find("w").const.numpy(), load(path).find("w").const.numpy())
