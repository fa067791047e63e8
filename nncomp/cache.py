"""Cache: results that take long and depend on nothing but their key, in a folder that any number of runs share.

A key is a digest of all that the result depends on, so an entry is never out of date: it is right, or damaged. Damage
is found by digest; the entry is then computed anew, with a warning. Entries are written to a file beside and moved into
place: of two runs that write one entry, the last wins, and nobody reads half of one. Dates only decide what goes first
when the folder is full, so a clock that is wrong costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from nncomp.errors import NncompError, NncompWarning
from nncomp.onnx_io import write_atomically
from nncomp.state import DamagedError, dumps, loads

LIMIT_BYTES: Final = 2**30
"""What a cache may hold before the entries that were not used for longest go."""

_SUFFIX: Final = ".state"


class RecomputedWarning(NncompWarning):
    """Something kept from an earlier run cannot be used, or nothing can be kept.

    That costs time, and the result is the same: the warning is shown, but it is no part of the report, and ``--strict``
    lets it pass.
    """


class Cache:
    """Plain data (see :mod:`nncomp.state`) by key, in a folder that is made when the first entry comes.

    Args:
        folder: Where entries are.
        limit_bytes: See :data:`LIMIT_BYTES`.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = folder
        self._limit = limit_bytes
        self._writable = True

    def get(self, key: str) -> Any | None:
        """Return what is kept under ``key``, None if there is nothing or it is damaged (warning NNC-W070)."""
        path = self._path(key)
        try:
            found = loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, DamagedError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            warnings.warn(
                RecomputedWarning(
                    f"cache entry {str(path)!r} cannot be used ({reason}); it is computed anew", code="NNC-W070"
                ),
                stacklevel=2,
            )
            return None
        with suppress(OSError):
            os.utime(path)
        return found

    def put(self, key: str, value: Any) -> None:
        """Keep ``value``; a folder that cannot be written to is warned of once (NNC-W071).

        Raises:
            NotPlainError: ``value`` is no plain data.
        """
        data = dumps(value)
        if not self._writable:
            return
        try:
            write_atomically(self._path(key), [data])
            self._make_room()
        except (NncompError, OSError) as error:
            self._writable = False
            reason = error.message if isinstance(error, NncompError) else str(error)
            warnings.warn(
                RecomputedWarning(f"the cache keeps nothing: {reason}", code="NNC-W071"),
                stacklevel=2,
            )

    def discard(self, key: str) -> None:
        """Forget what is kept under ``key``, if anything is."""
        with suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}{_SUFFIX}"

    def _make_room(self) -> None:
        """Drop the entries that were used least recently while there are more bytes than allowed."""
        entries = []
        for path in self.folder.glob(f"*/*{_SUFFIX}"):
            with suppress(OSError):  # another run dropped it
                status = path.stat()
                entries.append((status.st_mtime, path, status.st_size))
        total = sum(size for _, _, size in entries)
        for _, path, size in sorted(entries):
            if total <= self._limit:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


class MemoryCache(Cache):
    """A cache of this process alone, gone with it."""

    def __init__(self) -> None:
        super().__init__(Path())
        self._kept: dict[str, bytes] = {}

    def get(self, key: str) -> Any | None:
        """Return a copy of what is kept under ``key``, None if there is nothing."""
        data = self._kept.get(key)
        return None if data is None else loads(data)

    def put(self, key: str, value: Any) -> None:
        """Keep ``value``.

        Raises:
            NotPlainError: it is no plain data.
        """
        self._kept[key] = dumps(value)

    def discard(self, key: str) -> None:
        """Forget what is kept under ``key``, if anything is."""
        self._kept.pop(key, None)


class TemporaryCache(Cache):
    """A cache that processes forked from this one share, gone with it."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="nncomp-")
        super().__init__(Path(self._temporary.name))


def key_of(*parts: Any) -> str:
    """Return the digest of ``parts``, which are data that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
