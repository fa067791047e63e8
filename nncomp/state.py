"""Plain data as bytes and back, exactly: what the cache and checkpoints keep. Nothing is ever unpickled.

Plain data is None, booleans, numbers, text, lists, tuples, dicts with text keys, and numpy's arrays and scalars of
numbers. The bytes begin with a digest of the rest, so that what was cut, changed, or written by somebody else is never
taken for data.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

_MAGIC: Final = b"nncomp-state-1\n"
_DIGEST_BYTES: Final = 32
_ARRAY, _SCALAR, _TUPLE, _ESCAPED = "$array", "$scalar", "$tuple", "$dict"
_NUMBER_KINDS: Final = "biufc"


class NotPlainError(TypeError):
    """A value that is no plain data; the message says where it is."""


class DamagedError(ValueError):
    """Bytes that :func:`dumps` did not write, or not all of them; the message says what is wrong."""


def dumps(value: Any) -> bytes:
    """Return ``value`` as bytes; equal values give equal bytes.

    Raises:
        NotPlainError: something in it is no plain data.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    text = json.dumps(_packed(value, arrays, "value"), separators=(",", ":"))
    stream = io.BytesIO()
    stream.write(len(data := text.encode()).to_bytes(8, "little") + data)
    for array in arrays:
        np.lib.format.write_array(stream, array, allow_pickle=False)
    body = zlib.compress(stream.getbuffer(), 1)
    return _MAGIC + hashlib.sha256(body).digest() + body


def loads(data: bytes) -> Any:
    """Return what :func:`dumps` was given; arrays are new and may be written to.

    Raises:
        DamagedError: the bytes are not such.
    """
    start = len(_MAGIC) + _DIGEST_BYTES
    if not data.startswith(_MAGIC):
        raise DamagedError("it is of another form")
    if hashlib.sha256(data[start:]).digest() != data[len(_MAGIC) : start]:
        raise DamagedError("its digest does not match")
    stream = io.BytesIO(zlib.decompress(data[start:]))
    tree = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    arrays = []
    while stream.tell() < len(stream.getbuffer()):
        arrays.append(np.lib.format.read_array(stream, allow_pickle=False))
    return _unpacked(tree, arrays)


def _packed(value: Any, arrays: list[np.ndarray[Any, Any]], place: str) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMBER_KINDS and value.dtype.isbuiltin == 1:
        arrays.append(np.asarray(value, order="C"))
        return {_ARRAY if isinstance(value, np.ndarray) else _SCALAR: len(arrays) - 1}
    if type(value) in (list, tuple):
        items = [_packed(item, arrays, f"{place}[{index}]") for index, item in enumerate(value)]
        return items if type(value) is list else {_TUPLE: items}
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        inner = {key: _packed(item, arrays, f"{place}[{key!r}]") for key, item in value.items()}
        return {_ESCAPED: inner} if len(inner) == 1 and next(iter(inner)).startswith("$") else inner
    raise NotPlainError(f"{place} is {type(value).__name__}, which is no plain data")


def _unpacked(tree: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    if isinstance(tree, list):
        return [_unpacked(item, arrays) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        (key, item), *_ = tree.items()
        if key == _ARRAY:
            return arrays[item]
        if key == _SCALAR:
            return arrays[item][()]
        if key == _TUPLE:
            return tuple(_unpacked(part, arrays) for part in item)
        if key == _ESCAPED:
            return {name: _unpacked(part, arrays) for name, part in item.items()}
    return {key: _unpacked(item, arrays) for key, item in tree.items()}
