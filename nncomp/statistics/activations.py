"""Activations: what values held for each sample, kept in memory up to a budget and in temporary files beyond it."""

from __future__ import annotations

import math
import tempfile
import threading
import weakref
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from nncomp.errors import ResourceError


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an array was put."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass
class _Shelf:
    """What one value held: an entry a sample, and the file of those that memory had no room for."""

    entries: list[Any] = field(default_factory=list)
    nbytes: int = 0
    file: IO[bytes] | None = None
    length: int = 0


class Activations:
    """Arrays by value and sample.

    Args:
        budget: Bytes to hold in memory.

    Raises:
        ResourceError: while putting, when the disk is full (NNC-E001).
    """

    def __init__(self, budget: int) -> None:
        self._free = budget
        self._lock = threading.Lock()
        self._shelves: dict[str, _Shelf] = {}
        weakref.finalize(self, _close, self._shelves)

    def __contains__(self, name: str) -> bool:
        return name in self._shelves

    def put(self, name: str, array: Any) -> None:
        """Keep what ``name`` held for the next sample; anything but a plain array stays in memory, uncounted."""
        shelf = self._shelves.setdefault(name, _Shelf())
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            shelf.entries.append(array)
        elif array.nbytes <= self._free:
            self._free -= array.nbytes
            shelf.nbytes += array.nbytes
            shelf.entries.append(array)
        else:
            with self._lock:
                shelf.entries.append(_write(shelf, array))

    def get(self, name: str, number: int) -> Any:
        """Return what ``name`` held for sample ``number``; safe from several threads."""
        shelf = self._shelves[name]
        entry = shelf.entries[number]
        if not isinstance(entry, _Place):
            return entry
        assert shelf.file is not None
        with self._lock:
            shelf.file.seek(entry.offset)
            data = shelf.file.read(math.prod(entry.shape) * entry.dtype.itemsize)
        return np.frombuffer(data, entry.dtype).reshape(entry.shape)

    def drop(self, name: str) -> None:
        """Forget a value."""
        shelf = self._shelves.pop(name)
        self._free += shelf.nbytes
        if shelf.file is not None:
            shelf.file.close()


def _write(shelf: _Shelf, array: Any) -> _Place:
    try:
        if shelf.file is None:
            shelf.file = tempfile.TemporaryFile()  # noqa: SIM115  closed when the value is dropped
        shelf.file.seek(shelf.length)
        shelf.file.write(np.ascontiguousarray(array).data)
    except OSError as error:
        raise ResourceError(f"cannot keep activations in a temporary file: {error.strerror}") from error
    place = _Place(shelf.length, array.dtype, array.shape)
    shelf.length += array.nbytes
    return place


def _close(shelves: dict[str, _Shelf]) -> None:
    for shelf in shelves.values():
        if shelf.file is not None:
            shelf.file.close()
