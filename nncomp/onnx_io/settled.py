"""Settled: a graph without a past, exactly as a file would give it back.

Two graphs may be equal and yet lead a pass to another result: names that were given and dropped, or the order in which
ops were added, decide what comes next. A graph that went through its written form has no such past, so that what was
read from a checkpoint and what never left memory go the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from onnx import ModelProto, TensorProto

from nncomp.ir import ArrayTensor, DataType, Graph, MappedTensor, Tensor, raw_bytes
from nncomp.onnx_io.external import ExternalFiles
from nncomp.onnx_io.files import read_model, write_atomically
from nncomp.onnx_io.reader import graph_from_proto
from nncomp.onnx_io.tensors import described_tensor, tensor_metadata, tensor_to_proto
from nncomp.onnx_io.writer import graph_to_proto

_KEPT_FROM: Final = 1024  # bytes; smaller tensors go through the message


class _InMemory(ExternalFiles):
    """Tensors that a message refers to by number."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[Tensor] = []

    def tensor(self, proto: TensorProto, dtype: DataType, dims: tuple[int, ...]) -> Tensor:
        """Return the tensor under the name and notes that it was written with."""
        known = self.tensors[int(proto.external_data[0].value)]
        if isinstance(known, MappedTensor):
            return known.described(proto.name, proto.doc_string, tensor_metadata(proto))
        # What comes from a file is contiguous, and the order of sums depends on that.
        data = np.ascontiguousarray(known.numpy()).reshape(dims)
        return ArrayTensor(data, dtype, name=proto.name, doc=proto.doc_string, metadata=tensor_metadata(proto))


def settled(graph: Graph) -> Graph:
    """Return ``graph`` as its written form gives it back; constants are shared, not copied."""
    files = _InMemory()

    def number(tensor: Tensor) -> str:
        files.tensors.append(tensor)
        return str(len(files.tensors) - 1)

    return graph_from_proto(_referring(graph, number), files)


def save_parts(graph: Graph, path: Path, tensors: str) -> None:
    """Write a model whose larger constants lie in a folder beside it, each under its digest and written only once.

    Args:
        graph: A model's own graph.
        path: The model file.
        tensors: Name of the folder beside it.

    Raises:
        ResourceError: the disk refused (NNC-E001).
    """
    from nncomp.text import digest

    def kept(tensor: Tensor) -> str:
        name = f"{tensors}/{digest(tensor)}"
        if not (path.parent / name).exists():
            write_atomically(path.parent / name, [raw_bytes(tensor)])
        return name

    write_atomically(path, [_referring(graph, kept).SerializeToString(deterministic=True)])


def load_parts(path: Path) -> Graph:
    """Return what :func:`save_parts` wrote: :func:`settled`, with constants that are mapped from their files.

    Raises:
        ModelError: it is not all there.
    """
    return graph_from_proto(read_model(path), ExternalFiles(path))


def _referring(graph: Graph, location: Callable[[Tensor], str]) -> ModelProto:
    def write(tensor: Tensor, name: str) -> TensorProto:
        if tensor.nbytes < _KEPT_FROM or tensor.dtype is DataType.STRING:
            return tensor_to_proto(tensor, name)
        proto = described_tensor(tensor, name)
        proto.data_location = TensorProto.EXTERNAL
        proto.external_data.add(key="location", value=location(tensor))
        return proto

    return graph_to_proto(graph, write_tensor=write)
