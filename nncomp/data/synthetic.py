"""Random inputs: enough to try a pipeline and to measure time, not to say anything about accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from nncomp.data.fingerprint import Fingerprint
from nncomp.data.source import DataSource, DataWarning
from nncomp.errors import NncompWarning
from nncomp.ir import Graph
from nncomp.runtime import Feeds, random_feeds

SAMPLES = 16


class RandomSource(DataSource):
    """Samples from :func:`nncomp.runtime.random_feeds`, the same for the same seed.

    Args:
        graph: The model.
        n: Number of samples.
        seed: Seed of the first sample; the others count up.
        dims: Sizes of symbolic dimensions; all others that are free have size one.
    """

    name: ClassVar[str] = "random"

    def __init__(self, graph: Graph, n: int = SAMPLES, seed: int = 0, *, dims: Mapping[str, int] | None = None) -> None:
        self._graph, self._samples, self._seed, self._dims = graph, n, seed, dict(dims or {})
        self._inputs = [f"{value.name}: {value.type}" for value in graph.inputs]

    def __iter__(self) -> Iterator[Feeds]:
        for number in range(self._samples):
            yield random_feeds(self._graph, seed=self._seed + number, dims=self._dims)

    @property
    def size(self) -> int:
        """Number of samples."""
        return self._samples

    @property
    def label(self) -> str:
        """What messages call this data."""
        return "random data"

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """That figures mean nothing."""
        text = "random data: ranges and accuracy measured on it mean nothing for real inputs"
        return (DataWarning(text, code="NNC-W048"),)

    def fingerprint(self) -> str:
        """Return a digest of inputs, sizes and seed."""
        dims = sorted(self._dims.items())
        return Fingerprint("random", *self._inputs, repr(dims), str(self._samples), str(self._seed)).digest()
