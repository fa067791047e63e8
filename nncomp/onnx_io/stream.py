"""Write a message without ever holding it: the bytes that protobuf would give, one weight at a time.

A protobuf message is its fields one behind the other, by number when it is written deterministically. So the model is
what comes before its graph, the graph, and what comes behind; the graph likewise around its initializers; an
initializer around its data. Only lengths must be known beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from onnx import GraphProto, ModelProto, TensorProto

from nncomp.ir import Tensor, raw_bytes

_GRAPH: Final = ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER: Final = GraphProto.INITIALIZER_FIELD_NUMBER
_DATA: Final = TensorProto.RAW_DATA_FIELD_NUMBER


class ModelStream:
    """The bytes of a model whose initializers lack data.

    Args:
        model: The message; initializers named in ``data`` have no data in it.
        data: What they hold, by name.
    """

    def __init__(self, model: ModelProto, data: Mapping[str, Tensor]) -> None:
        self._tensors = [_TensorStream(proto, data.get(proto.name)) for proto in model.graph.initializer]
        self._before = _fields(model, below=_GRAPH)
        self._after = _fields(model, above=_GRAPH)
        self._graph_before = _fields(model.graph, below=_INITIALIZER)
        self._graph_after = _fields(model.graph, above=_INITIALIZER)
        self._graph_size = (
            len(self._graph_before)
            + sum(len(_tag(_INITIALIZER)) + len(_varint(one.size)) + one.size for one in self._tensors)
            + len(self._graph_after)
        )

    @property
    def size(self) -> int:
        """Bytes in all."""
        head = len(_tag(_GRAPH)) + len(_varint(self._graph_size))
        return len(self._before) + head + self._graph_size + len(self._after)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._before
        yield _tag(_GRAPH) + _varint(self._graph_size)
        yield self._graph_before
        for one in self._tensors:
            yield _tag(_INITIALIZER) + _varint(one.size)
            yield from one
        yield self._graph_after
        yield self._after


class _TensorStream:
    """One initializer; ``data`` is None when the message holds it already."""

    def __init__(self, proto: TensorProto, data: Tensor | None) -> None:
        self._data = data
        if data is None:
            self._before, self._after = proto.SerializeToString(deterministic=True), b""
        else:
            self._before = _fields(proto, below=_DATA) + _tag(_DATA) + _varint(data.nbytes)
            self._after = _fields(proto, above=_DATA)

    @property
    def size(self) -> int:
        return len(self._before) + (0 if self._data is None else self._data.nbytes) + len(self._after)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield self._before
        if self._data is not None:
            yield raw_bytes(self._data)
        yield self._after


def _fields(message: Any, *, below: int = 1 << 30, above: int = 0) -> bytes:
    """Return the fields of a message whose numbers lie between."""
    part = type(message)()
    part.CopyFrom(message)
    for field, _ in message.ListFields():
        if not above < field.number < below:
            part.ClearField(field.name)
    data: bytes = part.SerializeToString(deterministic=True)
    return data


def _tag(number: int) -> bytes:
    return _varint(number << 3 | 2)  # a field with a length


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
