"""Spooled: makes data that can be read once readable again, by keeping in a temporary file what was read."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from nncomp.data.source import Around, DataSource, Numbered
from nncomp.errors import NncompError, ResourceError
from nncomp.runtime import Array, Feeds

_IN_MEMORY: Final = 1 << 26


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an array was put."""

    offset: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


class Spooled(Around):
    """What ``source`` gives, read from it once, as far as anybody asks, and then from the file.

    Memory is that of one sample and 64 MiB; what is more goes to disk until this is dropped.

    Args:
        source: Can be iterated once.

    Raises:
        ResourceError: while iterating, when the disk is full (NNC-E001).
    """

    name: ClassVar[str] = "spooled"

    def __init__(self, source: DataSource) -> None:
        super().__init__(source)
        self._stream = source.numbered()
        self._kept: list[tuple[tuple[int, ...], dict[str, _Place]]] = []
        self._failure: NncompError | None = None
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115  closed with this object
        weakref.finalize(self, self._file.close)

    def __iter__(self) -> Iterator[Feeds]:
        for _, feeds in self.numbered():
            yield feeds

    def numbered(self) -> Iterator[Numbered]:
        """Yield feeds as the source numbers them; its failure is raised again at the same place."""
        position = 0
        while position < len(self._kept) or self._read_one():
            numbers, places = self._kept[position]
            yield numbers, {name: self._array(place) for name, place in places.items()}
            position += 1

    def fingerprint(self) -> str:
        """Return "": the source may be endless, and nobody has seen all of it."""
        return ""

    def _read_one(self) -> bool:
        """Keep the next sample; False when there is none."""
        if self._failure is not None:
            raise self._failure
        try:
            found = next(self._stream, None)
        except NncompError as error:
            self._failure = error
            raise
        if found is None:
            return False
        numbers, feeds = found
        self._kept.append((numbers, {name: self._put(array) for name, array in feeds.items()}))
        return True

    def _put(self, array: Array) -> _Place:
        try:
            offset = self._file.seek(0, 2)
            self._file.write(array.tobytes())
        except OSError as error:
            raise ResourceError(f"{self.label}: cannot keep samples for a second reading: {error.strerror}") from error
        return _Place(offset, array.dtype, array.shape)

    def _array(self, place: _Place) -> Array:
        self._file.seek(place.offset)
        data = self._file.read(math.prod(place.shape) * place.dtype.itemsize)
        return np.frombuffer(data, place.dtype).reshape(place.shape)
