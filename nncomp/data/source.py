"""DataSource: a single-pass stream of model inputs, sample by sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

from nncomp.errors import NncompWarning, PluginError
from nncomp.runtime import Feeds

if TYPE_CHECKING:
    from nncomp.ir import Graph

Numbered: TypeAlias = tuple[tuple[int, ...], Feeds]
"""Feeds for one run, and the numbers, in the data set, of the samples in them."""


class DataWarning(NncompWarning):
    """Something about the data that figures may suffer from."""


class DataSource(ABC):
    """Calibration or evaluation inputs.

    Iterating gives feeds (arrays by input name), each for one run of the model, in a fixed order; iterating again
    starts over. Nothing but headers is read before iteration begins, and one run's samples are held at a time. A
    plugin's source needs ``name``, ``__iter__``, ``fingerprint`` and ``open``; what it gives is checked as files are.

    Class attributes:
        name: the sort of source, as plugins register it: ``--data NAME:ARGUMENT`` opens it.
    """

    name: ClassVar[str]

    @classmethod
    def open(cls, argument: str, graph: Graph) -> Self:
        """Return the source that ``--data NAME:ARGUMENT`` asks for."""
        raise PluginError(f"data source {cls.name!r} cannot be opened by name ({argument!r})", code="NNC-P010")

    @abstractmethod
    def __iter__(self) -> Iterator[Feeds]:
        """Yield feeds.

        Raises:
            DataError: a sample cannot be read or does not fit (NNC-D0xx).
            PluginError: the user's own source raised (NNC-P010).
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest that changes when the data or its preprocessing does.

        "" when nobody can know without using the data up: then nothing may be cached under it.
        """

    def numbered(self) -> Iterator[Numbered]:
        """Yield feeds with the numbers of their samples; to be overridden where that is not 0, 1, 2, ..."""
        for number, feeds in enumerate(self):
            yield (number,), feeds

    @property
    def once(self) -> bool:
        """True when it can be iterated only once; :func:`nncomp.data.open_data` then keeps what it gives."""
        return False

    @property
    def size(self) -> int | None:
        """Number of samples, those that will be left out included; None when it is not known beforehand."""
        return None

    @property
    def label(self) -> str:
        """What messages call this data."""
        return f"data source {self.name!r}"

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """What the report should say, each once; complete after an iteration."""
        return ()

    @property
    def counts(self) -> Mapping[str, int]:
        """What happened in the last iteration, as numbers of samples by word."""
        return MappingProxyType({})

    def __len__(self) -> int:
        if self.size is None:
            raise TypeError(f"{self.label} does not know its size; ask .size")
        return self.size

    def __bool__(self) -> bool:
        return True


class Around(DataSource):
    """Base of sources that give the samples of another in another way, and are called and warned of as that is.

    Args:
        source: The other.
    """

    def __init__(self, source: DataSource) -> None:
        self._source = source

    @property
    def size(self) -> int | None:
        """What the other says."""
        return self._source.size

    @property
    def label(self) -> str:
        """What the other is called."""
        return self._source.label

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """What the other warns of."""
        return self._source.warnings

    @property
    def counts(self) -> Mapping[str, int]:
        """What the other counts."""
        return self._source.counts
