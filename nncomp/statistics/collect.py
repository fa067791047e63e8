"""Run a graph over data and feed what its values hold to accumulators, sample by sample, on several threads.

Memory is O(values x accumulator) plus one sample's values a thread; nothing is kept of a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Final, Generic, Protocol, Self, TypeVar

from nncomp.errors import DataError
from nncomp.ir import Graph
from nncomp.passes import Context, Progress, Silence
from nncomp.runtime import Array, Feeds, Session

S = TypeVar("S")
T = TypeVar("T")

_SHARD: Final = 4
"""Samples of one piece of work: accumulators are made and merged once a shard."""


class Accumulator(Protocol):
    """Something that a tensor streams into."""

    def update(self, array: Array, /) -> None:
        """Add one sample's tensor."""

    def merge(self, other: Self, /) -> None:
        """Add what another one saw. Must be exact: the same result whatever the order."""


A = TypeVar("A", bound=Accumulator)


class Executor(Protocol):
    """Where shards of work run: threads here, Ray or anything else by plugin."""

    def imap_unordered(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """Yield ``work(item)`` for each item, in any order, holding a bounded number of items at a time."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Executor on a bounded pool of threads; ONNX Runtime releases the GIL."""

    count: int = 1

    def imap_unordered(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """See :class:`Executor`; at most two items a thread are in flight."""
        if self.count <= 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(self.count) as pool:
            pending: set[Future[T]] = set()
            try:
                for item in items:
                    pending.add(pool.submit(work, item))
                    if len(pending) >= 2 * self.count:
                        done, pending = wait(pending, return_when=FIRST_COMPLETED)
                        yield from (future.result() for future in done)
                while pending:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            finally:
                for future in pending:
                    future.cancel()


def executor_of(ctx: Context) -> Executor:
    """Return where samples run for a pass: the caller's executor, or as many threads as were asked for."""
    return ctx.executor or Threads(ctx.threads)


@dataclass
class Begun(Generic[A]):
    """A collection that is under way: what it has so far, and of which shards; with that it can be gone on with.

    Attributes:
        found: One accumulator a value.
        shards: Numbers of the shards that are in it.
        samples: How many samples they held.
    """

    found: dict[str, A]
    shards: set[int] = field(default_factory=set)
    samples: int = 0


def collect(
    graph: Graph,
    data: Iterable[Feeds],
    names: Sequence[str],
    make: Callable[[str], A],
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    total: int | None = None,
    begun: Begun[A] | None = None,
    merged: Callable[[], None] = lambda: None,
) -> Mapping[str, A]:
    """Return one accumulator a value, fed with all samples.

    Args:
        graph: A model's own graph.
        data: Feeds, one run each.
        names: Values to watch, tensors or sequences of them; graph inputs may stand here too.
        make: New accumulator for the value of that name.
        executor: Where samples run; default: one thread.
        progress: Told after each sample.
        total: Number of samples, if known.
        begun: What an earlier collection of the same had when it was stopped; grows as this one goes on.
        merged: Called each time that ``begun`` has grown.

    Raises:
        DataError: there is no sample (NNC-D004).
        RuntimeFailure: the graph cannot be run.
    """
    inputs = {value.name: value.default for value in graph.inputs}
    computed = [name for name in names if name not in inputs]
    defaults = {name: tensor.numpy() for name, tensor in inputs.items() if tensor is not None and name in names}
    session = Session(graph, outputs=computed, optimize=True, frugal=True) if computed else None
    begun = begun if begun is not None else Begun({name: make(name) for name in names})
    progress = progress or Silence()

    def run(shard: _Shard) -> tuple[_Shard, dict[str, A]]:
        found = {name: make(name) for name in names}
        for feeds in shard.samples:
            seen = defaults | dict(feeds) | (session.run(feeds) if session is not None else {})
            for name, accumulator in found.items():
                held = seen.pop(name)
                for array in held if isinstance(held, list) else [held]:  # of a sequence each tensor counts
                    accumulator.update(array)
        return shard, found

    shards = (shard for shard in _shards(data) if shard.number not in begun.shards)
    for shard, found in (executor or Threads()).imap_unordered(run, shards):
        for name, accumulator in found.items():
            begun.found[name].merge(accumulator)
        begun.shards.add(shard.number)
        begun.samples += len(shard.samples)
        merged()
        progress.step("calibration", begun.samples, total)
    if begun.samples == 0:
        raise DataError("the calibration data holds no sample", code="NNC-D004")
    return begun.found


@dataclass(frozen=True, slots=True)
class _Shard:
    number: int
    samples: Sequence[Feeds]


def _shards(data: Iterable[Feeds]) -> Iterator[_Shard]:
    samples = iter(data)
    for number in count():
        shard = list(islice(samples, _SHARD))
        if not shard:
            return
        yield _Shard(number, shard)
