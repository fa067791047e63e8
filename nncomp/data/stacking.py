"""StackedSource: samples from columns, one an input, cut as :mod:`nncomp.data.columns` says and read side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from nncomp.data.arrays import native, to_numpy
from nncomp.data.columns import ArrayColumn, Column, Cut, cut, cut_images
from nncomp.data.fingerprint import Fingerprint
from nncomp.data.inputs import Found, InputSpec, converts, input_specs, mismatch, required
from nncomp.data.preprocess import Preprocess, image_input
from nncomp.data.source import DataSource, DataWarning, Numbered
from nncomp.errors import DataError, NncompWarning, Where
from nncomp.ir import Graph
from nncomp.runtime import Array, Feeds


class StackedSource(DataSource):
    """Samples of columns, one an input, read side by side.

    Args:
        label: What messages call the data.
        specs: The graph's inputs.
        columns: By input name.
        preprocess: For a column of uint8 images (samples, height, width[, channels]).
        file: Where the data is.

    Raises:
        DataError: a column does not fit its input (NNC-D003), one sample is too large to be read at once (NNC-D002), or
            there are no samples (NNC-D004).
    """

    name: ClassVar[str] = "stack"

    def __init__(
        self,
        label: str,
        specs: Sequence[InputSpec],
        columns: Mapping[str, Column],
        *,
        preprocess: Preprocess | None = None,
        file: str = "",
    ) -> None:
        self._label, self._file, self._columns = label, file, dict(columns)
        self._preprocess = preprocess
        found = {name: column.found for name, column in columns.items()}
        cuts = _cuts(specs, found) if preprocess is None else _image_cuts(specs, found, preprocess, label)
        if cuts.keys() != found.keys() or any(spec.name not in found for spec in required(specs)):
            advice = _advice(specs, found) if preprocess is None else "preprocessing is for images in uint8"
            raise mismatch(label, specs, found, found.keys() - cuts.keys(), file=file, advice=advice)
        self._cuts = cuts
        self._rows = max((one.rows for one in cuts.values()), default=1) or 1
        self._samples = self._agreed()
        for name, one in cuts.items():
            columns[name].refuse_large(one.rows)

    def __iter__(self) -> Iterator[Feeds]:
        for _, feeds in self.numbered():
            yield feeds

    def numbered(self) -> Iterator[Numbered]:
        """Yield feeds with the numbers of the rows in them."""
        streams: dict[str, Iterator[Array]] = {}
        same: dict[str, Array] = {}
        for name, one in self._cuts.items():
            if one.rows:
                streams[name] = _finished(self._columns[name], one)
            else:
                same[name] = native(one.finish(self._columns[name].whole()))
        for number in range(self._samples):
            feeds = {name: same[name] if name in same else next(streams[name]) for name in self._cuts}
            yield tuple(range(number * self._rows, (number + 1) * self._rows)), feeds

    @property
    def size(self) -> int:
        """Number of rows that are fed."""
        return self._samples * self._rows

    @property
    def rows(self) -> int:
        """Number of rows, those that fill no batch included."""
        lengths = [self._columns[name].found.shape[0] for name, one in self._cuts.items() if one.rows == self._rows]
        return max(lengths, default=self.size)

    @property
    def label(self) -> str:
        """What messages call this data."""
        return self._label

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """Rows that fill no batch."""
        left = self.rows - self.size
        if not left:
            return ()
        text = f"{self.label}: {left} rows at the end do not fill the model's batch and are not used"
        return (DataWarning(text, code="NNC-W047"),)

    def fingerprint(self) -> str:
        """Return a digest of names, types, shapes and numbers."""
        digest = Fingerprint("stack")
        for feeds in self:
            for name, array in sorted(feeds.items()):
                digest.text(name).array(array)
        return digest.digest()

    def _agreed(self) -> int:
        """Return how many feeds there are."""
        counts = {name: one.samples for name, one in self._cuts.items() if one.samples is not None}
        if len(set(counts.values())) > 1:
            text = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
            raise DataError(
                f"{self._label}: inputs have different numbers of samples: {text}",
                code="NNC-D003",
                where=Where(file=self._file),
                hint="stack the samples of every input along its first axis",
            )
        shapes = {name: self._columns[name].found.shape for name in self._cuts}
        empty = [name for name, shape in shapes.items() if shape[:1] == (0,)]
        if empty or all(0 in shape for shape in shapes.values()):
            name = next(iter(empty or shapes))
            raise DataError(
                f"{self._label}: {name!r} holds no samples: {self._columns[name].found}",
                code="NNC-D004",
                where=Where(file=self._file, tensor=name),
            )
        return next(iter(counts.values()), 1)


class ArraySource(StackedSource):
    """Arrays in memory, by input name, samples stacked along the first axis.

    Args:
        arrays: numpy arrays, or whatever :func:`nncomp.data.arrays.to_numpy` takes.
        graph: The model.
        preprocess: For uint8 images.

    Raises:
        DataError: as :class:`StackedSource`; or something is no array (NNC-D001).
    """

    name: ClassVar[str] = "arrays"

    def __init__(
        self, arrays: Mapping[str, object], graph: Graph, *, preprocess: Preprocess | None = None, label: str = "data"
    ) -> None:
        columns = {name: ArrayColumn(to_numpy(value, f"{label}: {name!r}")) for name, value in arrays.items()}
        super().__init__(label, input_specs(graph), columns, preprocess=preprocess)


def _cuts(specs: Sequence[InputSpec], found: Mapping[str, Found]) -> dict[str, Cut]:
    """Return the cuts of the columns that fit."""
    present = {spec: found[spec.name] for spec in specs if spec.name in found}
    cuts = {spec.name: cut(spec, one.shape) for spec, one in present.items() if converts(one.dtype, spec)}
    return {name: one for name, one in cuts.items() if one is not None}


def _image_cuts(
    specs: Sequence[InputSpec], found: Mapping[str, Found], preprocess: Preprocess, label: str
) -> dict[str, Cut]:
    spec = image_input(specs)
    one = cut_images(preprocess.for_input(spec), found[spec.name], label) if spec.name in found else None
    return {} if one is None else {spec.name: one}


def _advice(specs: Sequence[InputSpec], found: Mapping[str, Found]) -> str:
    floats = [spec.name for spec in specs if np.dtype(spec.dtype).kind == "f" and spec.name in found]
    if any(found[name].dtype == np.uint8 for name in floats):
        return "are these images? then say how they become numbers, as in --preprocess unit"
    if any(found[name].dtype.kind in "iub" for name in floats):
        return "convert integers to float32, as in training"
    return next((text for spec in specs if spec.name in found and (text := _moved(spec, found[spec.name]))), "")


def _moved(spec: InputSpec, one: Found) -> str:
    """Return how to move the channels of images to where the model wants them, "" when that does not help."""
    wanted = spec.shape
    if wanted is None or len(wanted) != 4 or len(one.shape) != 4:
        return ""
    for order, place in (((0, 3, 1, 2), "last"), ((0, 2, 3, 1), "first")):
        pairs = zip(wanted[1:], [one.shape[axis] for axis in order[1:]], strict=True)
        if all(want == size for want, size in pairs if isinstance(want, int)):
            return f"the channels seem to stand {place}: {spec.name}.transpose{order} moves them"
    return ""


def _finished(column: Column, one: Cut) -> Iterator[Array]:
    for block in column.blocks(one.rows):
        yield native(one.finish(block))
