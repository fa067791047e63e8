"""Fingerprint: a digest of names, numbers, arrays and files, each with its length, so that no two contents meet."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Self

import numpy as np

from nncomp.data.inputs import data_error
from nncomp.runtime import Array


class Fingerprint:
    """SHA-256 over what is added, in order. Files enter with all their bytes, in chunks, but never their dates."""

    def __init__(self, *texts: str) -> None:
        self._hash = hashlib.sha256()
        self.text(*texts)

    def text(self, *texts: str) -> Self:
        """Add words."""
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            self._hash.update(b"%d:%s" % (len(data), data))
        return self

    def array(self, array: Array) -> Self:
        """Add type, shape and data of an array, whatever its strides and byte order."""
        little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        self.text(little.dtype.str, repr(little.shape))
        self._hash.update(little.reshape(-1).view(np.uint8).data)
        return self

    def file(self, path: Path) -> Self:
        """Add the content of a file.

        Raises:
            DataError: it cannot be read (NNC-D004).
        """
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256")
        except OSError as error:
            raise data_error(path, f"cannot be read: {error.strerror}", code="NNC-D004") from None
        return self.text(digest.hexdigest())

    def digest(self) -> str:
        """Return the digest in hex."""
        return self._hash.hexdigest()
