"""Checked: the only way from a data source to a model; each sample is held against the graph's inputs before a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from nncomp.data.fingerprint import Fingerprint
from nncomp.data.fitting import Fit, alike, joined
from nncomp.data.inputs import FLOAT_KIND, input_specs
from nncomp.data.source import Around, DataSource, DataWarning, Numbered
from nncomp.errors import DataError, NncompWarning, Where
from nncomp.ir import Graph
from nncomp.runtime import Feeds


class Checked(Around):
    """The samples of a source that fit the model, for as many runs as they fill.

    Floats of another width are cast, with a warning where that rounds; integers and booleans are widened; a missing
    batch axis is added. Samples with NaN or infinity are left out and counted. For an input whose first dimension is
    fixed, samples are collected or split to fill it; otherwise ``batch`` samples of one shape are run at a time.

    Args:
        source: Where samples come from.
        graph: The model.
        limit: How many samples to look at.
        batch: Samples in one run, for models with a free batch dimension.
        strict: A sample with NaN or infinity is an error.

    Raises:
        DataError: the model fixes another batch (NNC-D003). While iterating: a sample does not fit (NNC-D003), or none
            is left (NNC-D004).
    """

    name: ClassVar[str] = "checked"

    def __init__(
        self, source: DataSource, graph: Graph, *, limit: int | None = None, batch: int = 1, strict: bool = False
    ) -> None:
        super().__init__(source)
        self._limit, self._batch, self._strict = limit, batch, strict
        specs = input_specs(graph)
        self._fit = Fit(specs)
        fixed = next((spec for spec in specs if spec.batch is not None or spec.shape == ()), None)
        if batch > 1 and fixed is not None:
            raise DataError(
                f"batch = {batch}, but input {fixed.name!r} is {fixed.type}: the model says how much one run takes",
                where=Where(tensor=fixed.name),
                hint="leave batch out",
            )
        self._counts: Counter[str] = Counter()
        self._ended = False
        self._fingerprint: str | None = None

    @property
    def source(self) -> DataSource:
        """Where samples come from."""
        return self._source

    @property
    def size(self) -> int | None:
        """Number of samples that are looked at."""
        known = self._source.size
        return known if known is None or self._limit is None else min(known, self._limit)

    @property
    def batch(self) -> int:
        """Samples in one run, for models that leave that free."""
        return self._batch

    @property
    def counts(self) -> Mapping[str, int]:
        """``samples`` given out, ``not finite`` and ``left over`` ones, and what the source counts."""
        return {**self._source.counts, **self._counts}

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """What the source warns of, and what was mended or left out here."""
        counts, found = self._counts, list(self._source.warnings)

        def warn(text: str, code: str) -> None:
            found.append(DataWarning(f"{self.label}: {text}", code=code))

        for name, change in self._fit.rounded.items():
            warn(f"input {name!r}: numbers are rounded from {change}", "NNC-W042")
        if self.size == 1 or (self._ended and counts["samples"] == 1):  # others may have looked at the first ones only
            warn("one sample only: ranges measured on it hold for nothing else", "NNC-W043")
        if counts["not finite"]:
            warn(f"{counts['not finite']} samples hold NaN or infinity and are left out", "NNC-W044")
        if counts["left over"]:
            warn(f"{counts['left over']} samples at the end do not fill the model's batch and are not used", "NNC-W047")
        return found

    def fingerprint(self) -> str:
        """Return the source's digest with the limit; the batch does not enter, for statistics do not depend on it."""
        if self._fingerprint is None:
            digest = self._source.fingerprint()
            self._fingerprint = digest and Fingerprint("checked", digest, str(self._limit)).digest()
        return self._fingerprint

    def __iter__(self) -> Iterator[Feeds]:
        for _, feeds in self.numbered():
            yield feeds

    def numbered(self) -> Iterator[Numbered]:
        """Yield feeds with the numbers, in the data set, of the samples in them."""
        self._counts.clear()
        self._ended = False
        for numbers, feeds in self._batches(self._usable()):
            self._counts["samples"] += len(numbers)
            yield numbers, feeds
        self._ended = True
        if not self._counts["samples"]:
            raise self._nothing()

    def _usable(self) -> Iterator[Numbered]:
        """Yield the samples that fit and are finite."""
        looked_at = 0
        for numbers, given in self._source.numbered():
            what = f"{self.label}: sample {numbers[0]}"
            for feeds in self._fit.parts(given, what):
                bad = _not_finite(feeds)
                if bad is None:
                    yield numbers, feeds
                elif self._strict:
                    raise DataError(f"{what}: input {bad!r} holds NaN or infinity", where=Where(tensor=bad))
                else:
                    self._counts["not finite"] += len(numbers)
            looked_at += len(numbers)
            if self._limit is not None and looked_at >= self._limit:
                return

    def _batches(self, samples: Iterable[Numbered]) -> Iterator[Numbered]:
        """Yield samples put together: as many as fill a fixed batch, else ``batch``, always of one shape."""
        numbers: list[int] = []
        group: list[Feeds] = []
        for sample_numbers, feeds in samples:
            if group and not alike(feeds, group[0]):
                yield from self._rest(numbers, group)
                numbers, group = [], []
            numbers += sample_numbers
            group.append(feeds)
            if len(group) == (self._fit.lacking(feeds) or self._batch):
                yield tuple(numbers), joined(group)
                numbers, group = [], []
        yield from self._rest(numbers, group)

    def _rest(self, numbers: Sequence[int], group: Sequence[Feeds]) -> Iterator[Numbered]:
        """Yield a group that is not full, unless the model takes full ones only."""
        if group and self._fit.lacking(group[0]):
            self._counts["left over"] += len(numbers)
        elif group:
            yield tuple(numbers), joined(group)

    def _nothing(self) -> DataError:
        left_out = ", ".join(f"{count} {word}" for word, count in self.counts.items() if count and " to " not in word)
        text = f"no sample is left: {left_out}" if left_out else "there are no samples"
        return DataError(f"{self.label}: {text}", code="NNC-D004")


def _not_finite(feeds: Feeds) -> str | None:
    """Return the first input with NaN or infinity."""
    floats = (name for name, array in feeds.items() if array.dtype.kind == FLOAT_KIND)
    return next((name for name in floats if not np.isfinite(feeds[name]).all()), None)
