"""Second moments of a model's layers: of one graph in a single run, or layer by layer while the graph is changed.

:func:`collect_moments` runs a graph once. :class:`LayerWalk` is for work that goes through a network in order, where
what a layer reads depends on what became of those in front: x comes from the changed graph, y is what the layer of the
same name gave in the original (the asymmetric form of He et al., "Channel pruning for accelerating very deep neural
networks", ICCV 2017). Each op of both graphs runs once a sample, however many layers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

from nncomp.errors import DataError
from nncomp.ir import Graph
from nncomp.ops import OpTable, builtin_table
from nncomp.passes import Context, Progress, Silence
from nncomp.runtime import Feeds, Session
from nncomp.statistics.activations import Activations
from nncomp.statistics.collect import Executor, Threads, executor_of
from nncomp.statistics.layers import Layer, SampleRows, layer_of
from nncomp.statistics.moments import Moments, MomentSums
from nncomp.statistics.order import levels, residual_aims
from nncomp.statistics.rows import Rows, RowStore
from nncomp.statistics.staged import Stage, StagedRun

_Item: TypeAlias = tuple[int, int, int, Feeds]

POSITIONS: Final = 64
"""Output positions of each sample that count, by default; neighbouring ones say nearly the same."""

MEMORY: Final = 1 << 28
"""Bytes of activations that a :class:`LayerWalk` holds in memory, by default."""

_WINDOW: Final = 16
"""Samples that run before their rows are added, in order."""


def collect_moments(
    graph: Graph,
    layers: Sequence[str],
    data: Iterable[Feeds],
    *,
    ops: OpTable | None = None,
    positions: int | None = POSITIONS,
    executor: Executor | None = None,
    progress: Progress | None = None,
    total: int | None = None,
) -> dict[str, Moments]:
    """Return the moments of layers: x is what they read, y what they give.

    The bits depend on the samples and their order only, not on batches or threads.

    Args:
        graph: A model's own graph.
        layers: Names of the layers' outputs; each layer has a matrix view (:meth:`nncomp.ops.OpTable.matrix`).
        data: Feeds, each of one sample or a batch.
        ops: Op semantics; the built-in ones by default.
        positions: Output positions that count, a sample; None for all. They are spread evenly and change with the
            sample.
        executor: Where samples run; default: one thread.
        progress: Told after each sample.
        total: Number of samples, if known.

    Raises:
        UsageError: a name is not the output of such a layer.
        DataError: there is no sample (NNC-D004).
        RuntimeFailure: the graph cannot be run.
    """
    found = [layer_of(graph, name, ops or builtin_table()) for name in layers]
    inputs = {value.name for value in graph.inputs}
    names = list(dict.fromkeys(name for layer in found for name in (layer.data, layer.output) if name not in inputs))
    session = Session(graph, outputs=names, optimize=True, frugal=True)
    sums = {layer.output: layer.sums() for layer in found}

    def run(item: tuple[int, Feeds]) -> list[SampleRows]:
        first, feeds = item
        values = _defaults(graph) | dict(feeds) | session.run(feeds)
        return [
            layer.rows(values[layer.data], values[layer.output], first, _batch(feeds), positions) for layer in found
        ]

    for rows in _in_order(executor, run, _counted(data, progress, total)):
        _add(sums, found, rows)
    return {name: one.moments() for name, one in sums.items()}


class LayerWalk:
    """Visit layers from the inputs on, with the moments of each, while the changed graph is being changed.

    Iterating gives, stage by stage, a dict from layer to :class:`Moments`: of all layers that depend on the same number
    of other ones. x is of the changed graph as it is by then, y of the original. When the next stage is asked for, the
    changed graph is read again: what its layers of this stage, and whatever follows them, have become is what the next
    ones see. What lies in front must stay.

    Where a layer's output is added to something else that has changed as well, ``aims`` lets the layer make up for
    that, too: (sum, other) has it aim at what ``sum`` was in the original less what ``other`` is in the changed graph.

    With ``hold_out`` n, every n-th of the feeds counts in :attr:`held_out` instead, the moments of the same stage's
    layers: what was fitted to the others can be tried on them.

    With ``keep``, the rows that the moments are of are in :attr:`rows` as well, where those of a stage take no more
    bytes than that.

    Activations of all samples are held at the cut, ``memory`` bytes of them in memory and the rest in temporary files.

    Args:
        original: A model's own graph; not changed.
        changed: Its copy, with the same layers under the same names; their data may have other channels, their output
            must have those of the original.
        layers: Names of the layers' outputs, in both graphs.
        data: Feeds, each of one sample or a batch; iterated once.
        aims: (sum, other) by layer; ``other`` must depend on layers of stages before only. See
            :func:`residual_aims`.
        samples: Feeds to read at the most.
        hold_out: 0 for none.
        keep: Bytes of rows; 0 for none.
        ops, positions, executor, progress: As for :func:`collect_moments`.
        memory: Bytes.

    Raises:
        UsageError: a name is not the output of a layer with a matrix view.
        DataError: while iterating: there is no sample (NNC-D004).
        RuntimeFailure: while iterating: a graph cannot be run.
        ResourceError: while iterating: the disk is full (NNC-E001).
    """

    def __init__(
        self,
        original: Graph,
        changed: Graph,
        layers: Sequence[str],
        data: Iterable[Feeds],
        *,
        aims: Mapping[str, tuple[str, str]] | None = None,
        samples: int | None = None,
        hold_out: int = 0,
        keep: int = 0,
        ops: OpTable | None = None,
        positions: int | None = POSITIONS,
        memory: int = MEMORY,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._original, self._changed, self._data, self._samples = original, changed, data, samples
        self._ops, self._positions, self._memory = ops or builtin_table(), positions, memory
        self._executor, self._progress = executor, progress or Silence()
        self.aims = dict(aims or {})
        for name in layers:
            layer_of(original, name, self._ops)
            layer_of(changed, name, self._ops)
        self.stages = levels(changed, layers)
        self.held_out: dict[str, Moments] = {}
        """Of the layers of the last stage given."""
        self._hold_out = hold_out
        self.rows: dict[str, Rows] = {}
        """Of the layers of the last stage given, those held out included."""
        self._keep = keep

    @classmethod
    def of_pass(
        cls,
        original: Graph,
        changed: Graph,
        layers: Sequence[str],
        ctx: Context,
        *,
        samples: int,
        positions: int,
        hold_out: int = 0,
        keep: int = 0,
    ) -> LayerWalk:
        """Return the walk of a pass: its calibration data, where its samples run; sums are what layers aim at.

        Raises:
            DataError: there is no calibration data (NNC-D004).
        """
        if ctx.data is None:
            raise DataError("there is no calibration data", code="NNC-D004", hint="give --data")
        return cls(
            original,
            changed,
            layers,
            ctx.data,
            aims=residual_aims(original, layers, ctx.ops),
            samples=samples,
            hold_out=hold_out,
            keep=keep,
            ops=ctx.ops,
            positions=positions,
            executor=executor_of(ctx),
            progress=ctx.progress,
        )

    def __len__(self) -> int:
        """Return the number of stages."""
        return len(self.stages)

    def __iter__(self) -> Iterator[dict[str, Moments]]:
        store = Activations(self._memory)
        before, after = StagedRun(self._original, store, "original "), StagedRun(self._changed, store, "changed ")
        batches: list[int] = []
        for number, names in enumerate(self.stages):
            layers = [layer_of(self._changed, name, self._ops) for name in names]
            later = [name for stage in self.stages[number + 1 :] for name in stage]
            given = before.plan(self._given(names), self._given(later))
            read = after.plan(self._read(names), self._read(later))
            sums, held = ({layer.output: layer.sums() for layer in layers} for _ in range(2))
            items = self._items(batches, fed=bool(number == 0 or given.fed or read.fed))
            store_of_rows = RowStore(self._keep)
            done = _in_order(self._executor, self._worker(before, given, after, read, layers), items)
            for count, (y, x, rows) in enumerate(done):
                before.keep(given, y)
                after.keep(read, x)
                kept = self._hold_out and count % self._hold_out == self._hold_out - 1
                _add(held if kept else sums, layers, rows)
                for layer, parts in zip(layers, rows, strict=True):
                    store_of_rows.add(layer.output, parts)
            if not batches:
                raise DataError("the calibration data holds no sample", code="NNC-D004")
            before.finish(given, self._given(later))
            after.finish(read, self._read(later))
            self.rows = store_of_rows.rows()
            self._progress.step("layers", number + 1, len(self.stages))
            self.held_out = {name: one.moments() for name, one in held.items()} if self._hold_out else {}
            yield {name: one.moments() for name, one in sums.items()}

    def _worker(
        self, before: StagedRun, given: Stage, after: StagedRun, read: Stage, layers: Sequence[Layer]
    ) -> Callable[[_Item], tuple[dict[str, Any], dict[str, Any], list[SampleRows]]]:
        """Return what one sample needs of a stage: the values of both graphs, and the rows of the layers."""

        def work(item: _Item) -> tuple[dict[str, Any], dict[str, Any], list[SampleRows]]:
            index, first, batch, feeds = item
            y, x = before.compute(given, index, feeds), after.compute(read, index, feeds)
            aims = [self.aims.get(one.output) for one in layers]
            outputs = [
                y[one.output] if aim is None else y[aim[0]] - x[aim[1]] for one, aim in zip(layers, aims, strict=True)
            ]
            rows = [
                one.rows(
                    x[one.data], output, first, batch, self._positions, other=x[aim[1]] if aim and self._keep else None
                )
                for one, output, aim in zip(layers, outputs, aims, strict=True)
            ]
            return y, x, rows

        return work

    def _given(self, layers: Sequence[str]) -> list[str]:
        """Return what the original must give for ``layers``."""
        return list(dict.fromkeys(self.aims[name][0] if name in self.aims else name for name in layers))

    def _read(self, layers: Sequence[str]) -> list[str]:
        """Return what the changed graph must give for ``layers``."""
        data = [_data_name(self._changed, name, self._ops) for name in layers]
        return list(dict.fromkeys((*data, *(self.aims[name][1] for name in layers if name in self.aims))))

    def _items(self, batches: list[int], *, fed: bool) -> Iterator[_Item]:
        """Yield (number of the feeds, number of their first sample, samples in them, feeds); count at first."""
        if not fed:
            first = 0
            for index, batch in enumerate(batches):
                yield index, first, batch, {}
                first += batch
            return
        counting, first = not batches, 0
        for index, feeds in enumerate(islice(iter(self._data), self._samples)):
            batch = _batch(feeds)
            if counting:
                batches.append(batch)
            yield index, first, batch, feeds
            first += batch


def _add(sums: dict[str, MomentSums], layers: Sequence[Layer], rows: Sequence[SampleRows]) -> None:
    for layer, parts in zip(layers, rows, strict=True):
        for x, y, _ in parts:
            sums[layer.output].add(x, y)


def _data_name(graph: Graph, name: str, ops: OpTable) -> str:
    return layer_of(graph, name, ops).data


def _batch(feeds: Feeds) -> int:
    """Return how many samples feeds hold: the first axis, where all inputs that have one agree."""
    sizes = {array.shape[0] for array in feeds.values() if array.ndim}
    return sizes.pop() if len(sizes) == 1 and 0 not in sizes else 1


def _defaults(graph: Graph) -> dict[str, Any]:
    return {value.name: value.default.numpy() for value in graph.inputs if value.default is not None}


def _counted(data: Iterable[Feeds], progress: Progress | None, total: int | None) -> Iterator[tuple[int, Feeds]]:
    """Yield feeds with the number of their first sample.

    Raises:
        DataError: there is none (NNC-D004).
    """
    first = count = 0
    for feeds in data:
        yield first, feeds
        first, count = first + _batch(feeds), count + 1
        (progress or Silence()).step("moments", count, total)
    if count == 0:
        raise DataError("the calibration data holds no sample", code="NNC-D004")


def _in_order(executor: Executor | None, work: Any, items: Iterable[Any]) -> Iterator[Any]:
    """Yield ``work(item)`` in the order of the items, a window of them at a time."""
    executor, stream = executor or Threads(), iter(items)
    while window := list(enumerate(islice(stream, _WINDOW))):
        done = dict(executor.imap_unordered(lambda item: (item[0], work(item[1])), window))
        yield from (done.pop(number) for number, _ in window)
