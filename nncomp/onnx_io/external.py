"""External data of a model: found, contained, checked against the bytes that are really there, then memory-mapped.

Containment: the resolved file must lie under the folder of the model as it was named or under the folder of the model
file that it resolves to, which is how the Hugging Face cache lays files out. Sizes are compared in Python integers
before any allocation; a data file is opened without following its last link and must be a regular file.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from onnx import TensorProto

from nncomp.errors import ModelError, Where
from nncomp.ir import DataType, MappedTensor, Tensor

_MAX_DIGITS: Final = 20  # of an offset or length: 2^64 has as many


@dataclass
class ExternalFiles:
    """The data files beside one model, each mapped once.

    Attributes:
        model: Path of the model file; None when the model came as bytes, and external data cannot be found.
        warnings: What was accepted but should be known.
    """

    model: Path | None = None
    warnings: list[str] = field(default_factory=list)
    _maps: dict[Path, mmap.mmap | bytes] = field(default_factory=dict)

    def tensor(self, proto: TensorProto, dtype: DataType, dims: tuple[int, ...]) -> Tensor:
        """Return a tensor over the mapped bytes; ranges that are equal give tensors that share them.

        Raises:
            ModelError: NNC-M010 to NNC-M013.
        """
        where = Where(tensor=proto.name)
        entries = {entry.key: entry.value for entry in proto.external_data}
        for key in entries.keys() - {"location", "offset", "length", "checksum"}:
            self.warnings.append(f"tensor {proto.name!r}: unknown external data key {key!r} is ignored")
        location = entries.get("location", "")
        needed = math.ceil(math.prod(dims) * dtype.itemsize)
        path = self._contained(location, proto.name)
        data = self._mapped(path, proto.name)
        offset = _number(entries.get("offset", "0"), "offset", where)
        length = _number(entries.get("length", str(needed)), "length", where)
        if length < needed or offset > len(data) or length > len(data) - offset:
            raise ModelError(
                f"tensor {proto.name!r} needs {needed} bytes at {offset} (length {length}) of {location!r}, "
                f"which holds {len(data)}",
                code="NNC-M012",
                where=where,
            )
        from nncomp.onnx_io.tensors import tensor_from_proto, tensor_metadata  # the formats share their unpacking

        if isinstance(data, bytes) or (dtype.bits >= 8 and offset % int(dtype.itemsize)):
            raw = data[offset : offset + needed]
            inline = TensorProto(data_type=proto.data_type, dims=dims, raw_data=raw, name=proto.name)
            inline.doc_string = proto.doc_string
            inline.metadata_props.extend(proto.metadata_props)
            return tensor_from_proto(inline, self)
        metadata = tensor_metadata(proto)
        return MappedTensor(data, offset, dtype, dims, name=proto.name, doc=proto.doc_string, metadata=metadata)

    def _contained(self, location: str, tensor: str) -> Path:
        where = Where(tensor=tensor, file=location)
        if self.model is None:
            raise ModelError(
                f"tensor {tensor!r} lies in {location!r}, but the model was not read from a file",
                code="NNC-M011",
                where=where,
            )
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or "\\" in location or location.startswith("/") or ".." in parts:
            raise ModelError(
                f"external data {location!r} of tensor {tensor!r} escapes the model folder",
                code="NNC-M010",
                where=where,
                hint="a location is a relative path inside the model's folder",
            )
        path = self.model.parent / location
        if not os.path.lexists(path):
            raise ModelError(
                f"external data of tensor {tensor!r} is missing: expected {str(path)!r}", code="NNC-M011", where=where
            )
        resolved = Path(os.path.realpath(path))
        homes = {Path(os.path.realpath(self.model.parent)), Path(os.path.realpath(self.model)).parent}
        if not any(home == resolved or home in resolved.parents for home in homes):
            raise ModelError(
                f"external data {location!r} of tensor {tensor!r} escapes the model folder",
                code="NNC-M010",
                where=where,
                hint=f"it leads to {str(resolved)!r}",
            )
        return resolved

    def _mapped(self, path: Path, tensor: str) -> mmap.mmap | bytes:
        if path in self._maps:
            return self._maps[path]
        where = Where(tensor=tensor, file=str(path))
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ModelError(
                f"external data of tensor {tensor!r} is missing: expected {str(path)!r}", code="NNC-M011", where=where
            ) from None
        except OSError as error:
            raise ModelError(
                f"external data {str(path)!r} cannot be opened: {error.strerror}", code="NNC-M013", where=where
            ) from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ModelError(
                    f"external data {str(path)!r} of tensor {tensor!r} is not a regular file",
                    code="NNC-M013",
                    where=where,
                )
            if status.st_nlink > 1:
                self.warnings.append(f"external data {path.name!r} has {status.st_nlink} hard links")
            mapped = mmap.mmap(handle, status.st_size, access=mmap.ACCESS_READ) if status.st_size else b""
        finally:
            os.close(handle)
        self._maps[path] = mapped
        return mapped


def _number(text: str, key: str, where: Where) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ModelError(
            f"external data of tensor {where.tensor!r} has {key} {text[:40]!r}, expected a whole number",
            code="NNC-M012",
            where=where,
        )
    return int(text)
