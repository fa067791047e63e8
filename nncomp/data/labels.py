"""Labels: of the arrays beside the samples, or of the folders that images lie in; and samples with their labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nncomp.data.arrays import native
from nncomp.data.checked import Checked
from nncomp.data.folder import FolderSource, array_files
from nncomp.data.images import ImageSource, image_files
from nncomp.data.inputs import data_error
from nncomp.data.members import Part, label_array
from nncomp.data.npz import NPY_MAGIC, NPZ_MAGIC, NpzSource, first_bytes, members_of
from nncomp.errors import DataError
from nncomp.runtime import Array, Feeds


@dataclass(frozen=True, slots=True)
class Labelled:
    """Samples that fit the model, and what they are.

    Attributes:
        data: the samples.
        labels: (samples in the data set, ...), one row a sample.
    """

    data: Checked
    labels: Array

    def __iter__(self) -> Iterator[tuple[Feeds, Array]]:
        """Yield feeds with the labels of the samples in them; a sample that is left out takes its label along."""
        for numbers, feeds in self.data.numbered():
            yield feeds, self.labels[list(numbers)]


def labels(path: str | os.PathLike[str], *, part: Part = "evaluation", inputs: Iterable[str] = ()) -> Array | None:
    """Return the labels that lie with the data, in the order of the samples; None when there are none.

    Of an ``.npz``, or of the ``.npz`` files of a folder, the array that :mod:`nncomp.data.members` calls labels. Of
    images in folders, the number of each image's folder among the sorted names of all folders beside it.

    Args:
        path: The data.
        part: As for :func:`nncomp.data.open_data`.
        inputs: The model's inputs, whose arrays are no labels.

    Raises:
        DataError: the labels cannot be read (NNC-D001, NNC-D002).
    """
    path = Path(path)
    if path.is_dir():
        files = array_files(path)
        return array_labels(files, part, inputs) if files else folder_labels(path, image_files(path))
    plain = first_bytes(path).startswith((NPY_MAGIC, NPZ_MAGIC))
    return array_labels([path], part, inputs) if plain else None


def array_labels(files: Sequence[Path], part: Part, inputs: Iterable[str]) -> Array | None:
    """Return the labels in array files, one after the other; None when no file has any.

    Raises:
        DataError: some files have labels and some have not (NNC-D003), or they cannot be read (NNC-D001, NNC-D002).
    """
    inputs = list(inputs)
    found = [array for array in (_labels_in(file, inputs, part) for file in files) if array is not None]
    if found and len(found) < len(files):
        raise data_error(files[0].parent, f"has labels in {len(found)} of {len(files)} files", code="NNC-D003")
    return np.concatenate(found) if found else None


def folder_labels(root: Path, files: Iterable[Path]) -> Array | None:
    """Return the class of each image: the place of its folder among the sorted folders of ``root``.

    None when images lie in ``root`` itself.
    """
    if not root.is_dir():
        return None
    files = list(files)
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    numbers = {name: number for number, name in enumerate(names)}
    tops = [path.relative_to(root).parts[0] for path in files]
    if not tops or not all(top in numbers for top in tops):
        return None
    return np.array([numbers[top] for top in tops], np.int64)


def labelled(data: Checked, part: Part, inputs: Iterable[str]) -> Labelled:
    """Return ``data`` with its labels.

    Raises:
        DataError: there are none, or not as many as samples (NNC-D003).
    """
    source, found, rows = data.source, None, 0
    if isinstance(source, ImageSource):
        found, rows = folder_labels(source.root, source.files), len(source.files)
    elif isinstance(source, NpzSource | FolderSource):
        found, rows = array_labels(source.files, part, inputs), source.rows
    if found is None:
        raise DataError(
            f"{data.label} has no labels",
            hint=f"name an array 'y' or 'y_{part}' beside the samples, or put images into one folder a class",
        )
    if len(found) != rows:
        raise DataError(f"{data.label} has {len(found)} labels for {rows} samples")
    return Labelled(data, found)


def _labels_in(path: Path, inputs: Sequence[str], part: Part) -> Array | None:
    members = members_of(path)
    name = label_array(members, inputs, part)
    if name is None:
        return None
    column = members[name]()
    if column.found.dtype.kind not in "fiub" or not column.found.shape:
        raise data_error(path, f"array {name!r} is {column.found}, expected one label a sample", code="NNC-D003")
    column.refuse_large(0)
    return native(column.whole())
