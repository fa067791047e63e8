"""External data: found beside the model, held inside its folder, checked against the file, and mapped, not read."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from nncomp.errors import ModelError, UsageError
from nncomp.ir import DataType, Graph
from nncomp.onnx_io import ExternalFiles, from_bytes, load, save
from nncomp.testing import assert_same_function, graph

WEIGHTS = np.arange(6, dtype=np.float32)
BIG = "g (float[1,64] x) => (float[1,64] y) <float[64,64] w, float[64] b> { a = MatMul (x, w)  y = Add (a, b) }"


def external(name: str, dims: list[int], dtype: int = TensorProto.FLOAT, **keys: Any) -> TensorProto:
    proto = TensorProto(name=name, data_type=dtype, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": "w.bin"} | keys).items():
        proto.external_data.add(key=key, value=str(value))
    return proto


def model(tensor: TensorProto) -> ModelProto:
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 17]> g (float[6] x) => (y) { y = Add (x, w) }')
    proto.graph.initializer.append(tensor)
    return proto


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a model whose tensor lies in a file beside it."""

    def write(tensor: TensorProto, data: bytes | None = WEIGHTS.tobytes(), file: str = "w.bin") -> Path:
        (tmp_path / "m").mkdir(exist_ok=True)
        path = tmp_path / "m" / "model.onnx"
        path.write_bytes(model(tensor).SerializeToString())
        if data is not None:
            (tmp_path / "m" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "m" / file).write_bytes(data)
        return path

    return write


def weights(g: Graph) -> list[float]:
    array = g.array(g.find("w"))
    assert array is not None
    return array.astype(np.float64).reshape(-1).tolist()


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as error:
        load(path)
    return error.value


# ---------------------------------------------------------------- found and mapped


def test_data_is_mapped_and_not_copied(write: Callable[..., Path]) -> None:
    g = load(write(external("w", [6])))
    array = g.array(g.find("w"))
    assert array is not None
    assert weights(g) == WEIGHTS.tolist()
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_offset_and_length_choose_a_part(write: Callable[..., Path]) -> None:
    assert weights(load(write(external("w", [2], offset=8, length=8)))) == [2, 3]


def test_an_offset_that_does_not_fit_the_type_is_read_all_the_same(write: Callable[..., Path]) -> None:
    g = load(write(external("w", [6], offset=3), b"abc" + WEIGHTS.tobytes()))
    assert weights(g) == WEIGHTS.tolist()


def test_packed_types_are_unpacked(write: Callable[..., Path]) -> None:
    g = load(write(external("w", [3], TensorProto.INT4), bytes([0x78, 0x0F])))
    assert weights(g) == [-8, 7, -1]


def test_a_folder_below_the_models_will_do(write: Callable[..., Path]) -> None:
    assert weights(load(write(external("w", [6], location="data/w.bin"), file="data/w.bin"))) == WEIGHTS.tolist()


def test_doc_and_metadata_of_an_external_tensor_are_kept(write: Callable[..., Path]) -> None:
    tensor = external("w", [6])
    tensor.doc_string = "learned"
    tensor.metadata_props.add(key="a", value="b")
    found = load(write(tensor)).find("w").const
    assert found is not None
    assert (found.doc, dict(found.metadata)) == ("learned", {"a": "b"})


@pytest.mark.row(22)
def test_tensors_of_one_file_share_one_map(tmp_path: Path) -> None:
    proto = model(external("w", [6]))
    proto.graph.initializer.append(external("v", [6]))
    proto.graph.node[0].input[0] = "v"
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    g = load(tmp_path / "model.onnx")
    assert np.shares_memory(g.array(g.find("w")), g.array(g.find("v")))


def test_attributes_bodies_and_sparse_tensors_may_lie_outside_too(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 17]> g (bool c, float[6] x) => (y) { y = If (c) '
        "<then_branch = t () => (p) { k = Constant <value = float[1] {0}> ()  p = Add (x, k) }, "
        "else_branch = e () => (q) { q = Add (x, s) }> }"
    )
    then, other = (attr.g for attr in proto.graph.node[0].attribute)
    then.node[0].attribute[0].t.CopyFrom(external("", [6]))
    other.sparse_initializer.add(dims=[6], values=external("s", [2]), indices=external("", [2], 7, offset=24))
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes() + np.array([1, 4]).tobytes())
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    g = load(tmp_path / "model.onnx")
    then_body, other_body = g.ops()[0].bodies.values()
    assert then_body.array(then_body.find("k")).tolist() == WEIGHTS.tolist()  # type: ignore[union-attr]
    assert other_body.array(other_body.find("s")).tolist() == [0, 0, 0, 0, 1, 0]  # type: ignore[union-attr]
    save(g, tmp_path / "elsewhere" / "model.onnx")
    assert_same_function(g, load(tmp_path / "elsewhere" / "model.onnx"), exact=True)


def test_the_written_model_holds_its_sparse_data_itself(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 17]> g (float[6] x) => (y) { y = Foo (x) }')
    attr = proto.graph.node[0].attribute.add(name="sp", type=onnx.AttributeProto.SPARSE_TENSOR)
    attr.sparse_tensor.dims.append(6)
    attr.sparse_tensor.values.CopyFrom(external("s", [1]))
    attr.sparse_tensor.indices.CopyFrom(helper.make_tensor("", 7, [1], [3]))
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    save(load(tmp_path / "model.onnx"), tmp_path / "copy.onnx")
    assert b"w.bin" not in (tmp_path / "copy.onnx").read_bytes()


# ---------------------------------------------------------------- accepted, but said


def test_an_unknown_key_is_ignored_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    files = ExternalFiles(tmp_path / "model.onnx")
    files.tensor(external("w", [6], __class__="x"), DataType.FLOAT, (6,))
    assert files.warnings == ["tensor 'w': unknown external data key '__class__' is ignored"]


def test_a_hard_link_is_accepted_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    os.link(tmp_path / "w.bin", tmp_path / "other.bin")
    files = ExternalFiles(tmp_path / "model.onnx")
    files.tensor(external("w", [6]), DataType.FLOAT, (6,))
    assert files.warnings == ["external data 'w.bin' has 2 hard links"]


# ---------------------------------------------------------------- contained


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "a/../../w.bin", "", "a\\w.bin", "w\0.bin"])
def test_a_location_outside_the_models_folder_is_refused(write: Callable[..., Path], location: str) -> None:
    path = write(external("w", [6], location=location))
    (path.parent.parent / "w.bin").write_bytes(WEIGHTS.tobytes())
    error = refusal(path)
    assert error.code == "NNC-M010"
    assert error.message == f"external data {location!r} of tensor 'w' escapes the model folder"
    assert error.hint == "a location is a relative path inside the model's folder"
    assert (error.where.file, error.where.tensor) == (location or str(path), "w")


def test_a_link_inside_the_folder_is_followed(write: Callable[..., Path]) -> None:
    path = write(external("w", [6]), file="real.bin")
    (path.parent / "w.bin").symlink_to("real.bin")
    assert weights(load(path)) == WEIGHTS.tolist()


def test_a_link_that_leads_outside_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(external("w", [6]), None)
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    (path.parent / "w.bin").symlink_to(tmp_path / "secret.bin")
    error = refusal(path)
    assert (error.code, error.message) == ("NNC-M010", "external data 'w.bin' of tensor 'w' escapes the model folder")
    assert error.hint == f"it leads to {str(tmp_path / 'secret.bin')!r}"


def test_a_linked_folder_that_leads_outside_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(external("w", [6], location="data/w.bin"), None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "w.bin").write_bytes(WEIGHTS.tobytes())
    (path.parent / "data").symlink_to(tmp_path / "other")
    assert refusal(path).code == "NNC-M010"


@pytest.mark.row(13)
def test_the_layout_of_the_hugging_face_cache_works(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "0123").write_bytes(model(external("w", [6], location="model.onnx_data")).SerializeToString())
    (blobs / "4567").write_bytes(WEIGHTS.tobytes())
    (snapshot / "model.onnx").symlink_to("../../../blobs/0123")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/4567")
    assert weights(load(snapshot / "model.onnx")) == WEIGHTS.tolist()


# ---------------------------------------------------------------- really there


def test_a_missing_file_is_named_with_its_path(write: Callable[..., Path]) -> None:
    path = write(external("w", [6]), None)
    error = refusal(path)
    assert error.code == "NNC-M011"
    assert error.message == f"external data of tensor 'w' is missing: expected {str(path.parent / 'w.bin')!r}"


def test_a_link_to_nowhere_is_missing(write: Callable[..., Path]) -> None:
    path = write(external("w", [6]), None)
    (path.parent / "w.bin").symlink_to("gone.bin")
    assert refusal(path).code == "NNC-M011"


def test_a_model_that_is_no_file_has_no_external_data() -> None:
    with pytest.raises(ModelError) as error:
        from_bytes(model(external("w", [6])).SerializeToString())
    assert error.value.code == "NNC-M011"
    assert error.value.message == "tensor 'w' lies in 'w.bin', but the model was not read from a file"


HUGE = 2**63 - 1


@pytest.mark.parametrize(
    ("keys", "size", "message"),
    [
        ({}, 20, "tensor 'w' needs 24 bytes at 0 (length 24) of 'w.bin', which holds 20"),
        ({"length": 20}, 24, "tensor 'w' needs 24 bytes at 0 (length 20) of 'w.bin', which holds 24"),
        ({"length": 28}, 24, "tensor 'w' needs 24 bytes at 0 (length 28) of 'w.bin', which holds 24"),
        ({"offset": 4}, 24, "tensor 'w' needs 24 bytes at 4 (length 24) of 'w.bin', which holds 24"),
        ({"offset": 25}, 24, "tensor 'w' needs 24 bytes at 25 (length 24) of 'w.bin', which holds 24"),
        (
            {"offset": HUGE, "length": HUGE},
            24,
            f"tensor 'w' needs 24 bytes at {HUGE} (length {HUGE}) of 'w.bin', which holds 24",
        ),
        ({"offset": -1}, 24, "external data of tensor 'w' has offset '-1', expected a whole number"),
        ({"length": "abc"}, 24, "external data of tensor 'w' has length 'abc', expected a whole number"),
        ({"length": "9" * 5000}, 24, f"external data of tensor 'w' has length {'9' * 40!r}, expected a whole number"),
        ({"offset": "²"}, 24, "external data of tensor 'w' has offset '²', expected a whole number"),
        ({}, 0, "tensor 'w' needs 24 bytes at 0 (length 24) of 'w.bin', which holds 0"),
    ],
    ids=[
        "short file",
        "short",
        "long",
        "offset",
        "past end",
        "overflow",
        "negative",
        "text",
        "digits",
        "square",
        "empty",
    ],
)
def test_a_range_that_does_not_fit_is_refused(
    write: Callable[..., Path], keys: dict[str, Any], size: int, message: str
) -> None:
    error = refusal(write(external("w", [6], **keys), b"\0" * size))
    assert (error.code, error.message) == ("NNC-M012", message)


def test_dims_of_terabytes_are_refused_before_memory_is_taken(write: Callable[..., Path]) -> None:
    error = refusal(write(external("w", [2**40])))
    assert error.code == "NNC-M012"
    assert error.message == f"tensor 'w' needs {2**42} bytes at 0 (length {2**42}) of 'w.bin', which holds 24"


def test_an_empty_tensor_needs_no_bytes(write: Callable[..., Path]) -> None:
    assert weights(load(write(external("w", [0]), b""))) == []


def test_a_pipe_is_refused_and_does_not_block(write: Callable[..., Path]) -> None:
    path = write(external("w", [6]), None)
    os.mkfifo(path.parent / "w.bin")
    error = refusal(path)
    assert error.code == "NNC-M013"
    assert error.message == f"external data {str(path.parent / 'w.bin')!r} of tensor 'w' is not a regular file"


def test_a_folder_is_refused(write: Callable[..., Path]) -> None:
    path = write(external("w", [6]), None)
    (path.parent / "w.bin").mkdir()
    assert refusal(path).code == "NNC-M013"


def test_a_socket_is_refused(write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(external("w", [6]), None)
    monkeypatch.chdir(path.parent)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("w.bin")
        error = refusal(path)
    assert error.code == "NNC-M013"
    assert error.message == f"external data {str(path.parent / 'w.bin')!r} cannot be opened: No such device or address"


# ---------------------------------------------------------------- written


def test_a_model_over_the_limit_keeps_its_weights_in_a_file_beside(tmp_path: Path) -> None:
    g = graph(BIG)
    written = save(g, tmp_path / "big.onnx", protobuf_limit=4096)
    assert written == (tmp_path / "big.onnx", tmp_path / "big.onnx.data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    assert (tmp_path / "big.onnx").stat().st_size < 4096
    assert_same_function(g, load(tmp_path / "big.onnx"), exact=True)


def test_small_tensors_stay_in_the_model_and_large_ones_start_on_a_page(tmp_path: Path) -> None:
    text = "g (float[1,64] x) => (y) <float[64,65] w, float[64,64] v, float[1] b> { y = Foo (x, w, v, b) }"
    save(graph(text), tmp_path / "big.onnx", protobuf_limit=4096)
    proto = onnx.load(tmp_path / "big.onnx", load_external_data=False)
    found = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in proto.graph.initializer
    }
    assert found == {
        "w": {"location": "big.onnx.data", "offset": "0", "length": "16640"},
        "v": {"location": "big.onnx.data", "offset": "20480", "length": "16384"},
        "b": {},
    }


def test_docs_of_weights_go_with_the_reference(tmp_path: Path) -> None:
    proto = model(TensorProto(name="w", data_type=1, dims=[6000], raw_data=b"\0" * 24000, doc_string="learned"))
    save(from_bytes(proto.SerializeToString()), tmp_path / "big.onnx", protobuf_limit=4096)
    assert load(tmp_path / "big.onnx").find("w").const.doc == "learned"  # type: ignore[union-attr]


def test_a_large_default_counts_for_the_limit(tmp_path: Path) -> None:
    g = graph("g (float[2] x, float[4096] d = {" + ",".join(["0"] * 4096) + "}) => (float[2] y) { y = Relu (x) }")
    assert len(save(g, tmp_path / "big.onnx", protobuf_limit=4096)) == 2


def test_packed_weights_are_written_packed(tmp_path: Path) -> None:
    g = graph("g (float[1] x) => (y) <int4[5001] w> { y = Foo (x, w) }")
    save(g, tmp_path / "big.onnx", protobuf_limit=1024)
    assert (tmp_path / "big.onnx.data").stat().st_size == 4096
    assert weights(load(tmp_path / "big.onnx")) == weights(g)


def test_a_model_can_be_written_over_its_own_mapped_data(tmp_path: Path) -> None:
    g = graph(BIG)
    save(g, tmp_path / "big.onnx", protobuf_limit=4096)
    mapped = load(tmp_path / "big.onnx")
    mapped.rename(mapped.find("a"), "renamed")
    save(mapped, tmp_path / "big.onnx", protobuf_limit=4096)
    assert_same_function(g, load(tmp_path / "big.onnx"), exact=True)


def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    for name in "ab":
        save(graph(BIG), tmp_path / name / "big.onnx", protobuf_limit=4096)
    for file in ("big.onnx", "big.onnx.data"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_folder_is_no_place_to_write_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        save(graph(BIG), tmp_path)
    assert (error.value.code, error.value.message) == ("NNC-R020", f"output {str(tmp_path)!r} is a folder")
