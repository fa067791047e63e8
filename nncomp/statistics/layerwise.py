"""Second moments of a model's layers: of one graph in a single run, or layer by layer while the graph is changed.

:func:`collect_moments` runs a graph once. :class:`LayerWalk` is for work that goes through a network in order, where
what a layer reads depends on what became of those in front: x comes from the changed graph, y is what the layer of the
same name gave in the original (the asymmetric form of He et al., "Channel pruning for accelerating very deep neural
networks", ICCV 2017). Each op of both graphs runs once a sample, however many layers there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from nncomp.errors import DataError, UsageError
from nncomp.ir import Graph, Op, Value
from nncomp.ops import MatrixView, OpTable, builtin_table
from nncomp.ops.bias import layer_bias
from nncomp.passes import Context, Progress, Silence
from nncomp.runtime import Feeds, Session
from nncomp.statistics.activations import Activations
from nncomp.statistics.collect import Executor, Threads, executor_of
from nncomp.statistics.moments import Moments, MomentSums
from nncomp.statistics.rows import Rows, RowStore
from nncomp.statistics.staged import Stage, StagedRun

Array = npt.NDArray[Any]
_Rows: TypeAlias = list[tuple[Array, Array, Array | None]]  # x, y and what is added to y, of each sample in a batch
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
    found = [_layer(graph, name, ops or builtin_table()) for name in layers]
    inputs = {value.name for value in graph.inputs}
    names = list(dict.fromkeys(name for layer in found for name in (layer.data, layer.output) if name not in inputs))
    session = Session(graph, outputs=names, optimize=True, frugal=True)
    sums = {layer.output: layer.sums() for layer in found}

    def run(item: tuple[int, Feeds]) -> list[_Rows]:
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
            _layer(original, name, self._ops)
            _layer(changed, name, self._ops)
        self.stages = _levels(changed, layers)
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
            layers = [_layer(self._changed, name, self._ops) for name in names]
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
        self, before: StagedRun, given: Stage, after: StagedRun, read: Stage, layers: Sequence[_Layer]
    ) -> Callable[[_Item], tuple[dict[str, Any], dict[str, Any], list[_Rows]]]:
        """Return what one sample needs of a stage: the values of both graphs, and the rows of the layers."""

        def work(item: _Item) -> tuple[dict[str, Any], dict[str, Any], list[_Rows]]:
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


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer by the names of what it reads and gives, and how its weight is a matrix."""

    output: str
    data: str
    view: MatrixView

    def sums(self) -> MomentSums:
        return MomentSums(self.view.groups, self.view.outputs, self.view.columns)

    def rows(
        self, x: Array, y: Array, first: int, batch: int, limit: int | None, *, other: Array | None = None
    ) -> _Rows:
        """Return the rows of each sample of a batch, as they would be if each came alone.

        Args:
            x, y: What the layer reads and gives.
            first: Number of the first sample.
            batch: Number of samples; data that cannot be split in so many parts counts as one.
            limit: Positions of each that count.
            other: What is added to y, of its shape.
        """
        parts = batch if x.ndim > 1 and x.shape[0] % batch == 0 and y.shape[0] % batch == 0 else 1
        pairs = zip(np.split(x, parts), np.split(y, parts), strict=True) if parts > 1 else [(x, y)]
        added = [None] * parts if other is None else np.split(other, parts)
        rows: _Rows = []
        for number, (one, out) in enumerate(pairs):
            chosen = spread(self.view.positions(one.shape), limit, first + number)
            third = added[number]
            more = None if third is None else self.view.rows(third, chosen)
            rows.append((self.view.unfold(one, chosen), self.view.rows(out, chosen), more))
        return rows


def spread(count: int, limit: int | None, offset: int = 0) -> npt.NDArray[np.intp] | None:
    """Return about ``limit`` of ``count`` positions, evenly spread; None for all.

    The step has no factor in common with ``count``, so rows and columns of a map are met alike; ``offset``, the number
    of the sample, moves the first one.
    """
    if limit is None or count <= limit:
        return None
    step = -(-count // limit)
    while math.gcd(step, count) > 1:
        step += 1
    return np.arange(offset % min(step, count), count, step, dtype=np.intp)


def _layer(graph: Graph, name: str, ops: OpTable) -> _Layer:
    op = _producer(graph, name)
    view = ops.matrix(op, graph)
    data = None if view is None else op.input(view.data)
    if view is None or data is None:
        raise UsageError(f"{op.label!r} is no layer with a constant weight, so it has no moments")
    return _Layer(name, data.name, view)


def _add(sums: dict[str, MomentSums], layers: Sequence[_Layer], rows: Sequence[_Rows]) -> None:
    for layer, parts in zip(layers, rows, strict=True):
        for x, y, _ in parts:
            sums[layer.output].add(x, y)


def _data_name(graph: Graph, name: str, ops: OpTable) -> str:
    return _layer(graph, name, ops).data


def _producer(graph: Graph, name: str) -> Op:
    producer = graph.find(name).producer if graph.has_name(name) else None
    if producer is None:
        raise UsageError(f"no layer of the graph gives {name!r}")
    return producer


def residual_aims(graph: Graph, layers: Sequence[str], ops: OpTable | None = None) -> dict[str, tuple[str, str]]:
    """Return (sum, other) for each layer whose output is added to a computed tensor; see :class:`LayerWalk`.

    A bias may be added in between. Of two layers that meet in one sum, the one with more layers in front makes up for
    both.
    """
    table, depth = ops or builtin_table(), _depths(graph, layers)
    found: dict[str, tuple[str, str]] = {}
    for name in layers:
        value = graph.find(name)
        op = _producer(graph, name)
        view = table.matrix(op, graph)
        bias = None if view is None else layer_bias(graph, op, view)
        if bias is not None and not bias.inside:
            value = bias.op.output
        users = graph.users(value)
        if not graph.single_use(value) or not users[0].is_a("Add"):
            continue
        other = users[0].input(1 if users[0].input(0) is value else 0)
        if other is None or graph.constant(other) is not None or other.shape is None or other.shape != value.shape:
            continue
        if depth[other] < depth[value]:
            found[name] = (users[0].output.name, other.name)
    return found


def _depths(graph: Graph, layers: Sequence[str]) -> dict[Value, int]:
    """Return for each value how many layers lie one behind the other in front of it, its own included."""
    wanted = set(layers)
    depth: dict[Value, int] = {value: 0 for value in graph.values() if value.producer is None}
    for op in graph.ops():
        level = max((depth[cast(Value, value)] for value, _ in graph.edges_into(op)), default=0)
        for value in op.outputs:
            depth[value] = level + (value.name in wanted)
    return depth


def _levels(graph: Graph, layers: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Group layers by how many of them lie one behind the other in front; each group in the order of the graph."""
    wanted, levels = set(layers), dict[int, list[str]]()
    for value, depth in _depths(graph, layers).items():
        if value.name in wanted:
            levels.setdefault(depth, []).append(value.name)
    return tuple(tuple(names) for _, names in sorted(levels.items()))


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
