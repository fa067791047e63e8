"""A folder of ``.npy`` and ``.npz`` files, one after the other, sorted by name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from nncomp.data.fingerprint import Fingerprint
from nncomp.data.inputs import data_error
from nncomp.data.members import Part
from nncomp.data.npz import SUFFIXES, NpzSource
from nncomp.data.preprocess import Preprocess
from nncomp.data.source import DataSource, Numbered
from nncomp.errors import NncompWarning
from nncomp.ir import Graph
from nncomp.runtime import Feeds


class FolderSource(DataSource):
    """The samples of all files of a folder.

    Each file holds one sample or a stack of them, as :mod:`nncomp.data.columns` says, and is checked against the model
    before the first sample is given. Hidden files and folders in the folder are not looked at.

    Args:
        root: The folder.
        graph: The model; an ``.npy`` has no name in it, so it fits models with one input.
        part: As for :class:`~nncomp.data.npz.NpzSource`.
        preprocess: For arrays of uint8 images.
        limit: No more files are opened than this many samples need.

    Raises:
        DataError: there are no files or no samples (NNC-D004), or as :class:`~nncomp.data.npz.NpzSource`.
    """

    name: ClassVar[str] = "folder"

    def __init__(
        self,
        root: str | os.PathLike[str],
        graph: Graph,
        *,
        part: Part = "calibration",
        preprocess: Preprocess | None = None,
        limit: int | None = None,
    ) -> None:
        self._root = Path(root)
        files = array_files(self._root)
        if not files:
            raise data_error(self._root, "holds no .npy or .npz files", code="NNC-D004")
        self._sources: list[NpzSource] = []
        for path in files:
            if limit is not None and self.size >= limit:
                break
            self._sources.append(NpzSource(path, graph, part=part, preprocess=preprocess))

    def __iter__(self) -> Iterator[Feeds]:
        for source in self._sources:
            yield from source

    def numbered(self) -> Iterator[Numbered]:
        """Yield feeds with the numbers of their samples in all files together."""
        before = 0
        for source in self._sources:
            for numbers, feeds in source.numbered():
                yield tuple(before + number for number in numbers), feeds
            before += source.rows

    @property
    def size(self) -> int:
        """Number of samples."""
        return sum(source.size for source in self._sources)

    @property
    def rows(self) -> int:
        """Number of samples, those that fill no batch included."""
        return sum(source.rows for source in self._sources)

    @property
    def files(self) -> Sequence[Path]:
        """The files that are read, in order."""
        return [path for source in self._sources for path in source.files]

    @property
    def label(self) -> str:
        """What messages call this data."""
        return f"data {str(self._root)!r}"

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """What the files warn of."""
        return [warning for source in self._sources for warning in source.warnings]

    def fingerprint(self) -> str:
        """Return a digest of the files' names and content."""
        digest = Fingerprint("folder")
        for source in self._sources:
            digest.text(source.files[0].name, source.fingerprint())
        return digest.digest()


def array_files(root: Path) -> list[Path]:
    """Return the array files of a folder, sorted by name.

    Raises:
        DataError: the folder cannot be read (NNC-D004).
    """
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise data_error(root, f"cannot be read: {error.strerror}", code="NNC-D004") from None
    return [path for path in entries if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()]
