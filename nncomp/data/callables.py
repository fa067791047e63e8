"""Data that a Python program hands over as an object, and ``module:function``, which makes one."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import ClassVar, Final

from nncomp.data.feeds import FeedSource, Reader, ReaderSource, digest_of, guarded, plugin_errors
from nncomp.data.inputs import input_specs, only_input
from nncomp.data.preprocess import Preprocess
from nncomp.data.source import DataSource, Numbered
from nncomp.data.stacking import ArraySource
from nncomp.errors import DataError, NncompWarning, PluginError
from nncomp.ir import Graph
from nncomp.runtime import Feeds

FUNCTION: Final = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


class FunctionSource(DataSource):
    """What a function returns: anything that :func:`from_object` takes. It is called once an iteration.

    The module is imported, and so run, when this is made: only ever for a name that the user typed.

    Args:
        spec: ``module:function``.
        graph: The model.
        preprocess: For stacked uint8 images.
        limit: How many feeds the fingerprint is made of; the function may give them without end.
        folder: Where modules are looked for, too, after those that are installed.

    Raises:
        PluginError: the module cannot be imported or has no such function (NNC-P010).
    """

    name: ClassVar[str] = "function"

    def __init__(
        self,
        spec: str,
        graph: Graph,
        *,
        preprocess: Preprocess | None = None,
        limit: int | None = None,
        folder: Path | None = None,
    ) -> None:
        self._spec, self._graph, self._preprocess, self._folder = spec, graph, preprocess, folder
        self._limit = limit
        self._made: DataSource | None = None
        self._function = imported(spec, self.label, folder)

    def __iter__(self) -> Iterator[Feeds]:
        for _, feeds in self.numbered():
            yield feeds

    def numbered(self) -> Iterator[Numbered]:
        """Yield feeds with the numbers that the returned source has for them."""
        yield from guarded(self._called().numbered(), self.label)

    @property
    def label(self) -> str:
        """What messages call this data."""
        return f"data {self._spec!r}"

    @property
    def warnings(self) -> Sequence[NncompWarning]:
        """What the source that was returned last warns of."""
        return () if self._made is None else self._made.warnings

    def fingerprint(self) -> str:
        """Return a digest of what the function gives, which runs it."""
        return self._called().fingerprint() or digest_of(islice(self, self._limit))

    def _called(self) -> DataSource:
        with plugin_errors(f"{self.label} failed before the first sample"), _found_in(self._folder):
            made = self._function()
        self._made = from_object(made, self._graph, label=self.label, preprocess=self._preprocess)
        return self._made


def imported(spec: str, label: str, folder: Path | None) -> Callable[..., object]:
    """Import the function that ``module:function`` names; only ever for a name that the user typed.

    Args:
        spec: The name.
        label: What messages call it.
        folder: Where modules are looked for, too, after those that are installed.

    Raises:
        PluginError: the module cannot be imported or has no such function (NNC-P010).
    """
    module, _, path = spec.partition(":")
    with plugin_errors(f"{label} cannot be imported"), _found_in(folder):
        target: object = importlib.import_module(module)
    for name in path.split("."):
        if not hasattr(target, name):
            raise PluginError(f"{label}: module {module!r} has no {path!r}", code="NNC-P010")
        target = getattr(target, name)
    if not callable(target):
        raise PluginError(f"{label}: expected a function, got {type(target).__name__}", code="NNC-P010")
    return target


def from_object(data: object, graph: Graph, *, label: str = "data", preprocess: Preprocess | None = None) -> DataSource:
    """Return the source for a source, a reader, a mapping of stacked arrays, one such array, or an iterable of feeds.

    Raises:
        DataError: it is none of these (NNC-D001), or does not fit the model (NNC-D003).
    """
    if isinstance(data, DataSource):
        return data
    if isinstance(data, Reader):
        return ReaderSource(data, graph, label=label)
    if isinstance(data, Mapping):
        return ArraySource(data, graph, preprocess=preprocess, label=label)
    if hasattr(data, "__array__") or hasattr(data, "__dlpack__"):
        spec = only_input(input_specs(graph))
        if spec is None:
            raise DataError(f"{label} is one array, but the model has several inputs", hint="give a mapping by input")
        return ArraySource({spec.name: data}, graph, preprocess=preprocess, label=label)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        return FeedSource(data, graph, label=label)
    raise DataError(
        f"{label}: expected arrays by input name or an iterable of them, got {type(data).__name__}", code="NNC-D001"
    )


@contextmanager
def _found_in(folder: Path | None) -> Iterator[None]:
    """Let imports look into ``folder``, last of all."""
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    sys.path.append(entry)
    try:
        yield
    finally:
        sys.path.remove(entry)
