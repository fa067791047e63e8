"""Model files: what is not an ONNX model is refused by name, and nothing is ever half written."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto

from nncomp.errors import ModelError, NncompWarning, ResourceError, UsageError, Where
from nncomp.ir import DataType, Graph, Tensor, raw_bytes
from nncomp.onnx_io.external import ExternalFiles
from nncomp.onnx_io.reader import graph_from_proto
from nncomp.onnx_io.stream import ModelStream
from nncomp.onnx_io.tensors import described_tensor, tensor_to_proto
from nncomp.onnx_io.writer import graph_to_proto

PROTOBUF_LIMIT: Final = 2**31 - 1
"""A protobuf message of this size or more cannot be written; larger models keep their weights in a file beside."""

_ALIGN: Final = 4096  # a page: external tensors can be mapped by whoever reads them
_EXTERNAL_FROM: Final = 1024  # bytes; smaller tensors stay in the model file
_MAGIC: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a zip archive (PyTorch checkpoints are, too)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x80\x02", "a Python pickle (an old PyTorch checkpoint?)"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x89HDF", "an HDF5 file (a Keras model?)"),
    (b"GGUF", "a GGUF file"),
    (b"ORTM", "an ONNX Runtime .ort file"),
    (b"<?xml", "an XML file"),
)


def load(path: str | os.PathLike[str]) -> Graph:
    """Read a model file; external data is mapped, not read.

    Warns:
        NncompWarning: external data, or a declared size, is odd (NNC-W050, NNC-W041).

    Raises:
        ModelError: the file is not a valid ONNX model.
    """
    path = Path(path)
    message = read_model(path)
    files = ExternalFiles(path)
    try:
        graph = graph_from_proto(message, files)
    except ModelError as error:
        if not error.where.file:
            error.where = Where(
                file=str(path), graph=error.where.graph, node=error.where.node, tensor=error.where.tensor
            )
        raise
    for text in dict.fromkeys(files.warnings):
        warnings.warn(NncompWarning(text, code="NNC-W050"), stacklevel=2)
    for item in (*message.graph.input, *message.graph.output):
        if any(dim.dim_value < 0 for dim in item.type.tensor_type.shape.dim):
            text = f"{item.name!r} declares a negative size, which is taken for unknown"
            warnings.warn(NncompWarning(text, code="NNC-W041"), stacklevel=2)
    return graph


def read_model(path: Path) -> ModelProto:
    """Read a model file as a message.

    Raises:
        ModelError: the file cannot be read or is none (NNC-M001 to NNC-M007).
    """
    return _parse(_read(path), path)


def save(graph: Graph, path: str | os.PathLike[str], *, protobuf_limit: int = PROTOBUF_LIMIT) -> tuple[Path, ...]:
    """Write a model file, atomically; weights go to ``<name>.data`` beside it when the message would be too large.

    Args:
        graph: A model's own graph.
        path: Destination, replaced as a whole or left alone.
        protobuf_limit: Bytes that one message may have.

    Returns:
        The files written, the model first.

    Raises:
        UsageError: the destination is no place to write (NNC-R020).
        ResourceError: the disk refused (NNC-E001).
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"output {str(path)!r} is a folder", code="NNC-R020", where=Where(file=str(path)))
    if fits_one_message(graph, protobuf_limit):
        stream = _stream(graph)
        if stream.size < protobuf_limit:
            write_atomically(path, stream)
            return (path,)
    data_path = path.with_name(path.name + ".data")
    tensors: list[Tensor] = []
    offset = 0

    def reference(tensor: Tensor, name: str) -> TensorProto:
        nonlocal offset
        if tensor.nbytes < _EXTERNAL_FROM or tensor.dtype.name == "STRING":
            return tensor_to_proto(tensor, name)
        proto = described_tensor(tensor, name)
        proto.data_location = TensorProto.EXTERNAL
        for key, value in (("location", data_path.name), ("offset", str(offset)), ("length", str(tensor.nbytes))):
            proto.external_data.add(key=key, value=value)
        tensors.append(tensor)
        offset += -(-tensor.nbytes // _ALIGN) * _ALIGN
        return proto

    model = graph_to_proto(graph, write_tensor=reference)
    _write_all(
        {
            data_path: (chunk for tensor in tensors for chunk in _padded(tensor)),
            path: [model.SerializeToString(deterministic=True)],
        }
    )
    return (path, data_path)


def fits_one_message(graph: Graph, protobuf_limit: int = PROTOBUF_LIMIT) -> bool:
    """Tell whether a model's weights leave room for the rest in a message of so many bytes."""
    return _weights_bytes(graph) < protobuf_limit * 0.9


def _stream(graph: Graph) -> ModelStream:
    """Return the message to be written; weights of bodies are in memory, for they lie deep inside it."""
    constants = {value.name: value.const or value.default for value in graph.values()}
    held: dict[str, Tensor] = {}

    def hold(tensor: Tensor, name: str) -> TensorProto:
        if tensor.nbytes < _EXTERNAL_FROM or tensor.dtype is DataType.STRING or constants.get(name) is not tensor:
            return tensor_to_proto(tensor, name)
        held[name] = tensor
        return described_tensor(tensor, name)

    return ModelStream(graph_to_proto(graph, write_tensor=hold), held)


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write ``chunks`` to a temporary file beside ``path``, flush it to disk, and move it into place.

    Raises:
        ResourceError: the disk refused; nothing is left behind and ``path`` is as before (NNC-E001).
    """
    _write_all({path: chunks})


def _write_all(files: Mapping[Path, Iterable[bytes | memoryview]]) -> None:
    """Write several files, and move them into place in this order once all are on the disk."""
    written: dict[Path, str] = {}
    path = Path()
    try:
        for path, chunks in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, written[path] = tempfile.mkstemp(prefix=f".{path.name[:64]}.", suffix=".tmp", dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                _write_chunks(file, chunks)
            Path(written[path]).chmod(0o666 & ~_umask())
        for path in files:
            Path(written[path]).replace(path)
            del written[path]
    except OSError as error:
        raise ResourceError(
            f"cannot write {str(path)!r}: {error.strerror or error}", code="NNC-E001", where=Where(file=str(path))
        ) from error
    finally:
        for temporary in written.values():
            Path(temporary).unlink(missing_ok=True)


def _write_chunks(file: BinaryIO, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _padded(tensor: Tensor) -> Iterator[bytes | memoryview]:
    yield raw_bytes(tensor)
    yield b"\0" * (-tensor.nbytes % _ALIGN)


def _weights_bytes(graph: Graph) -> int:
    values = [value for part in graph.graphs() for value in part.values()]
    return sum(tensor.nbytes for value in values for tensor in (value.const, value.default) if tensor is not None)


def _read(path: Path) -> bytes:
    where = Where(file=str(path))
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(
            f"cannot open model {str(path)!r}: {error.strerror}", code="NNC-M006", where=where, hint=_neighbours(path)
        ) from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise ModelError(f"model {str(path)!r} is {kind}", code="NNC-M006", where=where, hint=_contents(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read model {str(path)!r}: {error.strerror}", code="NNC-M006", where=where) from None
    if not data:
        raise ModelError(f"model {str(path)!r}: the file is empty", code="NNC-M001", where=where)
    _refuse_other_formats(data, path)
    return data


def _contents(folder: Path) -> str:
    """Return what to do with what a folder holds that was given as a model; "" where nobody knows."""
    if (folder / "model.onnx").is_file():
        return f"give the model in it, {folder / 'model.onnx'}"
    reports = [folder / name for name in ("report.json", "report.rejected.json")]
    return f"to see the report in it: nncomp report {folder}" if any(one.is_file() for one in reports) else ""


def _refuse_other_formats(data: bytes, path: Path) -> None:
    where = Where(file=str(path))
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(
            f"model {str(path)!r} is a Git LFS pointer", code="NNC-M003", where=where, hint="run `git lfs pull`"
        )
    head = data[:4096]
    found = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    if data[4:8] == b"TFL3":
        found = "a TensorFlow Lite model"
    elif head.lstrip()[:9].lower() in (b"<!doctype", b"<html>", b"<html lan") or head.lstrip()[:5].lower() == b"<html":
        found = "an HTML page (a download that failed?)"
    elif len(data) > 8 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") < len(data):
        found = "a safetensors file"
    if found:
        raise ModelError(f"model {str(path)!r} is {found}, not ONNX", code="NNC-M004", where=where)


def _neighbours(path: Path) -> str:
    """Return what models stand where one was looked for, as a hint."""
    try:
        names = sorted(one.name for one in path.parent.glob("*.onnx") if one.is_file())
    except OSError:
        return ""
    near = difflib.get_close_matches(path.stem, [Path(name).stem for name in names], 1)
    if near:
        return f"did you mean {str(path.with_name(near[0] + '.onnx'))!r}?"
    return f"models there: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else ""


def _is_text(data: bytes) -> bool:
    try:
        head = data[:4096].decode()
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char in "\t\r\n" for char in head)


def _parse(data: bytes, path: Path) -> ModelProto:
    where = Where(file=str(path))
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        if _nested_too_deep(data):
            raise ModelError(
                f"model {str(path)!r} is nested deeper than protobuf allows", code="NNC-M007", where=where
            ) from None
        hint = str(error) if "corrupt" not in str(error) else "is the download complete?"
        raise ModelError(
            f"model {str(path)!r} is not a readable ONNX protobuf ({len(data)} bytes)",
            code="NNC-M002",
            where=where,
            hint="this is text; an ONNX model is a binary file" if _is_text(data) else hint,
        ) from None
    if not model.HasField("graph"):
        raise ModelError(f"model {str(path)!r} holds no ONNX graph", code="NNC-M005", where=where)
    return model


def _nested_too_deep(data: bytes) -> bool:
    """True when the message parses by length fields alone further down than protobuf's 100 levels."""
    start, end, depth = 0, len(data), 0
    while depth <= 100:
        inner = _largest_field(data, start, end)
        if inner is None:
            return False
        start, end = inner
        depth += 1
    return True


def _largest_field(data: bytes, start: int, end: int) -> tuple[int, int] | None:
    best: tuple[int, int] | None = None
    while start < end:
        tag, start = _varint(data, start, end)
        wire = tag & 7
        if wire == 2:
            size, start = _varint(data, start, end)
            if start < 0 or start + size > end:
                return None
            if best is None or size > best[1] - best[0]:
                best = (start, start + size)
            start += size
        elif wire == 0:
            _, start = _varint(data, start, end)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        else:
            return None
        if start < 0:
            return None
    return best


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at < 0:
        return 0, -1
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1


def to_bytes(graph: Graph) -> bytes:
    """Return the model as one message, the same bytes for the same graph."""
    data: bytes = graph_to_proto(graph).SerializeToString(deterministic=True)
    return data


def from_bytes(data: bytes) -> Graph:
    """Return the graph of a serialized model without external data.

    Raises:
        ModelError: as :func:`load`.
    """
    return graph_from_proto(_parse(data, Path("<bytes>")))
