"""Feeds that a Python program gives one by one: lists, generators, and readers with ONNX Runtime's ``get_next``.

What a program raises becomes one error that names the sample; what was given before it has been used already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

from nncomp.data.arrays import native, to_numpy
from nncomp.data.fingerprint import Fingerprint
from nncomp.data.inputs import InputSpec, input_specs, only_input
from nncomp.data.source import Around, DataSource
from nncomp.errors import DataError, NncompError, PluginError
from nncomp.ir import Graph
from nncomp.runtime import Feeds

T = TypeVar("T")


@runtime_checkable
class Reader(Protocol):
    """ONNX Runtime's ``CalibrationDataReader``: feeds until None. ``rewind()``, if there is one, starts over."""

    def get_next(self) -> Mapping[str, Any] | None:
        """Return the next feeds."""


class FeedSource(DataSource):
    """Feeds from an iterable: mappings of input names to arrays, or plain arrays for a model with one input.

    Each goes to the model as it is, but for what :class:`~nncomp.data.checked.Checked` mends.

    Args:
        items: A list, or anything else that can be iterated; an iterator or generator serves for one iteration only.
        graph: The model.
        label: What messages call the data.
    """

    name: ClassVar[str] = "feeds"

    def __init__(self, items: Iterable[object], graph: Graph, *, label: str = "data") -> None:
        self._items, self._label = items, label
        self._specs = input_specs(graph)
        self._started = False

    def __iter__(self) -> Iterator[Feeds]:
        if self.once and self._started:
            raise read_before(self._label)
        self._started = True
        for number, item in enumerate(guarded(self._items, self._label)):
            yield as_feeds(item, self._specs, f"{self._label}: sample {number}")

    @property
    def once(self) -> bool:
        """True for an iterator."""
        return isinstance(self._items, Iterator)

    @property
    def size(self) -> int | None:
        """Number of feeds, if the iterable knows it."""
        try:
            return len(self._items)  # type: ignore[arg-type]
        except TypeError:
            return None

    @property
    def label(self) -> str:
        """What messages call this data."""
        return self._label

    def fingerprint(self) -> str:
        """Return a digest of all arrays, "" for an iterator."""
        return "" if self.once else digest_of(self)


class ReaderSource(DataSource):
    """The feeds of a reader as ONNX Runtime's quantization tools use it.

    Args:
        reader: Has ``get_next``; with ``rewind`` it can be read again.
        graph: The model.
        label: What messages call the data.
    """

    name: ClassVar[str] = "reader"

    def __init__(self, reader: Reader, graph: Graph, *, label: str = "data") -> None:
        self._reader, self._label = reader, label
        self._specs = input_specs(graph)
        self._started = False

    def __iter__(self) -> Iterator[Feeds]:
        if self._started:
            if self.once:
                raise read_before(self._label)
            with plugin_errors(f"{self._label} cannot be rewound"):
                self._reader.rewind()  # type: ignore[attr-defined]
        self._started = True
        for number, item in enumerate(guarded(_read(self._reader), self._label)):
            yield as_feeds(item, self._specs, f"{self._label}: sample {number}")

    @property
    def once(self) -> bool:
        """True for a reader without ``rewind``."""
        return not callable(getattr(self._reader, "rewind", None))

    @property
    def label(self) -> str:
        """What messages call this data."""
        return self._label

    def fingerprint(self) -> str:
        """Return a digest of all arrays, "" for a reader that cannot be rewound."""
        return "" if self.once else digest_of(self)


def as_feeds(item: object, specs: Sequence[InputSpec], what: str) -> Feeds:
    """Return one item of a program's stream as arrays by input name.

    Raises:
        DataError: it is of another form (NNC-D003), or something in it is no array (NNC-D001).
    """
    if isinstance(item, Mapping):
        return {str(name): native(to_numpy(value, f"{what}: {name!r}")) for name, value in item.items()}
    spec = only_input(specs)
    names = ", ".join(repr(one.name) for one in specs if not one.optional)
    if spec is None or isinstance(item, tuple | list):
        raise DataError(
            f"{what}: expected a mapping of input names to arrays, got {type(item).__name__}",
            hint=f"the model's inputs: {names or 'none'}",
        )
    return {spec.name: native(to_numpy(item, what))}


def guarded(items: Iterable[T], label: str) -> Iterator[T]:
    """Yield ``items``.

    Raises:
        PluginError: the program behind them raised (NNC-P010); its exception is the cause.
    """
    with plugin_errors(f"{label} cannot be iterated"):
        iterator = iter(items)
    number = 0
    while True:
        with plugin_errors(f"{label} failed at sample {number}"):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
        number += 1


@contextmanager
def plugin_errors(what: str) -> Iterator[None]:
    """Turn whatever somebody else's code raises into a PluginError (NNC-P010); our own errors pass."""
    try:
        yield
    except (NncompError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        reason = str(error).strip().partition("\n")[0]
        raise PluginError(f"{what}: {type(error).__name__}: {reason}".rstrip(": "), code="NNC-P010") from error


def digest_of(items: Iterable[Feeds]) -> str:
    """Return a digest of all that is given, which reads all of it."""
    digest = Fingerprint("feeds")
    for feeds in items:
        digest.text(str(len(feeds)))
        for name, array in sorted(feeds.items()):
            digest.text(name).array(array)
    return digest.digest()


def read_before(label: str) -> DataError:
    """Return the error for a stream that is used up."""
    return DataError(
        f"{label} can be read only once, and was",
        code="NNC-D004",
        hint="give a list, a reader with rewind(), or module:function, which is called anew each time",
    )


def _read(reader: Reader) -> Iterator[object]:
    while (item := reader.get_next()) is not None:
        yield item


class Foreign(Around):
    """A plugin's source, whose failures name the sample."""

    name: ClassVar[str] = "plugin"

    def __init__(self, source: DataSource, graph: Graph) -> None:
        super().__init__(source)
        self._specs = input_specs(graph)

    def __iter__(self) -> Iterator[Feeds]:
        for number, item in enumerate(guarded(self._source, self.label)):
            yield as_feeds(item, self._specs, f"{self.label}: sample {number}")

    @property
    def once(self) -> bool:
        """What the plugin says."""
        return self._source.once

    def fingerprint(self) -> str:
        """Return what the plugin says."""
        with plugin_errors(f"{self.label} has no fingerprint"):
            return self._source.fingerprint()
