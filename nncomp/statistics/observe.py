"""Observe: :func:`~nncomp.statistics.collect.collect` for passes, with a memory.

What was observed once is not observed again: the second compilation of a model with the same data makes no inference.
A collection that is stopped in the middle, by Ctrl-C or by whatever ends a process, is gone on with where it stood.
Both need a cache (``ctx.cache``), data that knows its fingerprint, and accumulators that are dataclasses of plain data;
without one of them everything is simply done each time. Results are bit for bit the same either way.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

import nncomp
from nncomp.cache import Cache, key_of
from nncomp.errors import DataError
from nncomp.runtime import runtime_version
from nncomp.state import NotPlainError, dumps
from nncomp.statistics.collect import A, Begun, collect, executor_of
from nncomp.text import model_digest

if TYPE_CHECKING:
    from nncomp.ir import Graph
    from nncomp.passes import Context

T = TypeVar("T")

_KEEP_EVERY_S: Final = 20.0


def observe(
    graph: Graph, ctx: Context, names: Sequence[str], make: Callable[[str], A], *, samples: int | None = None
) -> Mapping[str, A]:
    """Return one accumulator a value, fed with the calibration data.

    Args:
        graph: A model's own graph.
        ctx: Gives data, threads, progress and cache.
        names: Values to watch; graph inputs may stand here too.
        make: New accumulator for the value of that name; equal ones each time.
        samples: How many runs at the most; None for all.

    Raises:
        DataError: there is no data (NNC-D006), or no sample in it (NNC-D004).
        RuntimeFailure: the graph cannot be run.
    """
    data = ctx.data
    if data is None:
        raise DataError(
            "this needs calibration data", code="NNC-D006", hint="give --data with a folder of images or an .npz"
        )
    begun = Begun({name: make(name) for name in names})
    memory = _memory(graph, ctx, begun.found, samples)
    if not memory.recall(begun, ctx):
        try:
            collect(
                graph,
                data if samples is None else islice(iter(data), samples),
                names,
                make,
                executor=executor_of(ctx),
                progress=ctx.progress,
                total=data.size if samples is None else samples,
                begun=begun,
                merged=lambda: memory.keep_sometimes(begun),
            )
        except BaseException:
            memory.keep(begun)
            raise
        memory.finish(begun, [(warning.code, warning.message) for warning in data.warnings])
    ctx.data_warnings.extend(memory.warnings)
    return begun.found


def remembered(ctx: Context, compute: Callable[[], T], *parts: Any) -> T:
    """Return ``compute()``, or what it returned when it was called with the same parts and calibration data before.

    Args:
        ctx: Gives data and cache.
        compute: Returns plain data (:mod:`nncomp.state`), and depends on nothing but its code, ``parts`` and the data.
        parts: Plain data; for graphs their digests (:func:`nncomp.text.model_digest`).
    """
    data = ctx.data.fingerprint() if ctx.cache is not None and ctx.data is not None else ""
    code = _code_of(compute.__module__)
    if ctx.cache is None or not data or not code:
        return compute()
    key = key_of("remembered", *_versions(), code, data, getattr(ctx.data, "batch", 1), *parts)
    found: T | None = ctx.cache.get(key)
    if found is None:
        found = compute()
        ctx.cache.put(key, found)
    return found


class _Memory:
    """What the cache has of one collection; with an empty key nothing is kept."""

    def __init__(self, cache: Cache | None, key: str) -> None:
        self._cache = cache if key else None
        self._key, self._partial = key, key_of(key, "partial")
        self._kept_at = time.monotonic()
        self.warnings: list[tuple[str, str]] = []

    def recall(self, begun: Begun[Any], ctx: Context) -> bool:
        """Fill ``begun`` with all that is known; True when that is everything."""
        if self._cache is None:
            return False
        whole = self._cache.get(self._key)
        kept = whole or self._cache.get(self._partial)
        if kept is None:
            return False
        for accumulator, state in zip(begun.found.values(), kept["found"], strict=True):
            _restore(accumulator, state)
        begun.shards, begun.samples = set(kept["shards"]), kept["samples"]
        self.warnings = kept["warnings"]
        if whole is not None:
            ctx.progress.step("calibration", begun.samples, begun.samples)
        return whole is not None

    def keep(self, begun: Begun[Any], *, key: str = "") -> None:
        """Keep what there is so far."""
        if self._cache is None or not begun.shards:
            return
        found = [_state(accumulator) for accumulator in begun.found.values()]
        kept = {
            "found": found, "shards": sorted(begun.shards), "samples": begun.samples, "warnings": self.warnings,
        }  # fmt: skip
        try:
            self._cache.put(key or self._partial, kept)
        except NotPlainError:  # what was seen made it something that cannot be kept
            self._cache = None
        self._kept_at = time.monotonic()

    def keep_sometimes(self, begun: Begun[Any]) -> None:
        """Keep what there is so far, if that was not done lately."""
        if time.monotonic() - self._kept_at > _KEEP_EVERY_S:
            self.keep(begun)

    def finish(self, begun: Begun[Any], warnings: Sequence[tuple[str, str]]) -> None:
        """Keep the result and forget the steps to it."""
        self.warnings = list(warnings)
        self.keep(begun, key=self._key)
        if self._cache is not None:
            self._cache.discard(self._partial)


def _memory(graph: Graph, ctx: Context, fresh: Mapping[str, Any], samples: int | None) -> _Memory:
    """Return the memory of one collection, keyed by all that its result depends on."""
    if ctx.cache is None or ctx.data is None:
        return _Memory(None, "")
    data = ctx.data.fingerprint()
    watched = [[name, _described(accumulator)] for name, accumulator in fresh.items()]
    if not data or not all(described for _, described in watched):
        return _Memory(None, "")
    runs = [data, samples, getattr(ctx.data, "batch", 1)]
    return _Memory(ctx.cache, key_of("observed", _versions(), model_digest(graph), runs, watched))


def _versions() -> list[str]:
    """Return what results depend on besides code, model and data."""
    return [nncomp.__version__, np.__version__, runtime_version(), platform.machine()]


def _described(fresh: Any) -> list[str]:
    """Return what a new accumulator is: its type, the code of that, its state; [] when it cannot be kept."""
    if not is_dataclass(fresh):
        return []
    kind = type(fresh)
    homes = dict.fromkeys([*(base.__module__ for base in inspect.getmro(kind)), collect.__module__])
    code = [_code_of(module) for module in homes]
    try:
        state = hashlib.sha256(dumps(_state(fresh))).hexdigest()
    except NotPlainError:
        return []
    return [f"{kind.__module__}.{kind.__qualname__}", *code, state] if all(code) else []


@cache
def _code_of(module: str) -> str:
    """Return the digest of a module's source, so that an entry never outlives the code that made it."""
    if module == "builtins":
        return "builtins"
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _state(accumulator: Any) -> dict[str, Any]:
    """Return an accumulator's fields, those of dataclasses in it likewise."""
    values = {one.name: getattr(accumulator, one.name) for one in fields(accumulator)}
    return {name: _state(value) if is_dataclass(value) else value for name, value in values.items()}


def _restore(accumulator: Any, state: Mapping[str, Any]) -> None:
    """Give an accumulator the fields that :func:`_state` returned."""
    for name, value in state.items():
        inner = getattr(accumulator, name)
        if is_dataclass(inner):
            _restore(inner, value)
        else:
            setattr(accumulator, name, value)
