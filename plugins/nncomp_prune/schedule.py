"""The schedule: in which order the atoms of each track leave, and what it costs, by output error.

Errors of a layer are measured where they are made, at the layers that read a track, and then priced where they matter:
each track is cut in half, with the layers that read it refitted, and what that does to the model's outputs on some
samples says how much a unit of its local error counts. Where all of it may go, that is measured as well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.runtime import Feeds, Session
from nncomp.statistics import Moments, collect_moments, executor_of
from nncomp_prune.elimination import Elimination, Problem
from nncomp_prune.fitting import Fit, fit, held_out_error, layer_of, put, ridges
from nncomp_prune.tracks import Track

if TYPE_CHECKING:
    from nncomp.data import DataSource

Doubles = npt.NDArray[np.float64]

MOMENTS_BYTES: Final = 1 << 29
"""What the moments of the layers of one run may take; more layers need more runs."""

_TINY: Final = 1e-30

_LEAST_STEP: Final = 4
"""At the most one sample of so many is kept from least squares to measure output errors on."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How one track would be pruned.

    Attributes:
        track: The track.
        order: Its atoms, in the order in which they leave; one stays, except where all may leave.
        errors: (A + 1,) what the first n cost, ascending; infinite for more than may leave.
    """

    track: Track
    order: npt.NDArray[np.intp]
    errors: Doubles


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far a changed graph's outputs are from the original's: squared error over variance, added over outputs."""

    feeds: Sequence[Feeds]
    expected: Mapping[str, Doubles]

    @classmethod
    def of(cls, graph: Graph, feeds: Sequence[Feeds]) -> OutputError:
        """Run the original."""
        return cls(feeds, _outputs(graph, feeds))

    def measure(self, graph: Graph) -> float:
        """Run a changed graph."""
        total = 0.0
        for name, found in _outputs(graph, self.feeds).items():
            expected = self.expected[name]
            if found.shape != expected.shape:  # how much there is depends on the data: nothing of it can be right
                total += 1.0
                continue
            spread = float(np.square(expected - expected.mean()).sum())
            error = float(np.square(found - expected).sum())
            total += error / max(spread, _TINY) if np.isfinite(error) else np.inf
        return total


def divided(data: DataSource, samples: int, number: int) -> tuple[list[Feeds], Iterator[Feeds]]:
    """Return about ``number`` of the first ``samples`` feeds, evenly spread, and the others.

    Where few samples meet many columns, least squares fits what it has seen whatever is left out: only samples that it
    has not seen tell.
    """
    known = samples if data.size is None else min(samples, data.size)
    step = max(known // number, _LEAST_STEP) if number else known + 1
    if known < 2 * _LEAST_STEP:  # too few to do without any
        return list(islice(iter(data), samples)), islice(iter(data), samples)
    held = [feeds for place, feeds in enumerate(islice(iter(data), samples)) if place % step == step - 1]
    others = (feeds for place, feeds in enumerate(islice(iter(data), samples)) if place % step != step - 1)
    return held, others


def batches(tracks: Sequence[Track], sizes: Mapping[str, int]) -> list[list[Track]]:
    """Divide tracks into runs whose layers' moments fit into :data:`MOMENTS_BYTES`; one that does not has its own."""
    found: list[list[Track]] = []
    layers: set[str] = set()
    for track in tracks:
        more = layers | set(track.layers)
        if not found or sum(sizes[layer] for layer in more) > MOMENTS_BYTES:
            found.append([])
            more = set(track.layers)
        found[-1].append(track)
        layers = more
    return found


def schedules(
    graph: Graph,
    tracks: Sequence[Track],
    ctx: Context,
    *,
    whole: Collection[Track],
    samples: int,
    positions: int,
    ridge: float,
    sensitivity: int,
) -> list[Schedule]:
    """Return a schedule for each track, by backward elimination from the moments of calibration data.

    Args:
        graph: The graph as it is.
        tracks: What may be pruned.
        ctx: Gives data, threads and op semantics.
        whole: Tracks of which all atoms may leave.
        samples: Feeds to read at the most.
        positions: Output positions that count, a sample.
        ridge: The least; each track has that which does best on the samples that output errors are measured on.
        sensitivity: Feeds to measure output errors on; 0 takes a unit of each layer's relative error for the same.
    """
    assert ctx.data is not None
    columns = {name: layer_of(graph, name, ctx.ops).view for track in tracks for name in track.layers}
    sizes = {name: 8 * view.groups * view.columns * (view.columns + view.outputs) for name, view in columns.items()}
    held = divided(ctx.data, samples, sensitivity)[0]
    output = OutputError.of(graph, held) if sensitivity else None
    found: list[Schedule] = []
    for run in batches(tracks, sizes):
        names = list(dict.fromkeys(name for track in run for name in track.layers))
        others = divided(ctx.data, samples, sensitivity)[1]
        seen, unseen = (
            collect_moments(
                graph,
                names,
                feeds,
                ops=ctx.ops,
                positions=positions,
                executor=executor_of(ctx),
                progress=progress,
                total=ctx.data.size,
            )
            if feeds
            else {}
            for feeds, progress in ((others, ctx.progress), (held, None))
        )
        for track in run:
            strength = _ridge(graph, track, seen, unseen, ctx, ridge=ridge) if unseen else ridge
            elimination = Elimination(problems_of(track, _fits(graph, track, seen, ctx, strength)), len(track))
            price = (
                None if output is None else partial(_price, output=output, graph=graph, track=track, seen=seen, ctx=ctx)
            )
            found.append(_schedule(track, elimination, price, whole=track in whole))
            ctx.progress.step("curves", len(found), len(tracks))
    return found


def _schedule(
    track: Track, elimination: Elimination, price: Callable[[Elimination], float] | None, *, whole: bool
) -> Schedule:
    """Let all atoms leave, or all but one, and price what it costs at the half and, when all may leave, at the end."""
    half, last = len(track) // 2, len(track) if whole else len(track) - 1
    elimination.run(half)
    prices = [1.0 if price is None else price(elimination)]
    elimination.run(last)
    prices.append(price(elimination) if price is not None and whole else prices[0])
    costs = np.array([0.0, *np.maximum.accumulate(elimination.costs)])
    errors = np.full(len(track) + 1, np.inf)
    errors[: last + 1] = np.maximum.accumulate(costs * np.interp(np.arange(last + 1), [half, last], prices))
    return Schedule(track, np.array(elimination.order, np.intp), errors)


def _price(
    elimination: Elimination,
    *,
    output: OutputError,
    graph: Graph,
    track: Track,
    seen: Mapping[str, Moments],
    ctx: Context,
) -> float:
    """Return the output error without the atoms that have left, for each unit of what they cost their layers."""
    return output.measure(_changed(graph, track, elimination, seen, ctx)) / max(elimination.costs[-1], _TINY)


def _fits(graph: Graph, track: Track, seen: Mapping[str, Moments], ctx: Context, ridge: float) -> dict[str, Fit]:
    return {name: fit(seen[name], layer_of(graph, name, ctx.ops), ridge=ridge) for name in track.layers}


def _ridge(
    graph: Graph,
    track: Track,
    seen: Mapping[str, Moments],
    unseen: Mapping[str, Moments],
    ctx: Context,
    *,
    ridge: float,
) -> float:
    """Return the ridge that does best on ``unseen`` rows when the cheapest half of the atoms leaves at once."""
    half: npt.NDArray[np.intp] | None = None
    wrong: list[float] = []
    for strength in ridges(ridge):
        fits = _fits(graph, track, seen, ctx, strength)
        elimination = Elimination(problems_of(track, fits), len(track))
        if half is None:
            half = elimination.cheapest(len(track) // 2)
        elimination.leave(half)
        weights = _weights(graph, track, elimination, ctx)
        errors = [
            held_out_error(seen[name], unseen[name], layer_of(graph, name, ctx.ops), weight)
            / max(fits[name].energy, _TINY)
            for name, weight in weights.items()
        ]
        wrong.append(sum(errors))
    return ridges(ridge)[int(np.argmin(wrong))]


def problems_of(track: Track, fits: Mapping[str, Fit]) -> list[Problem]:
    """Return what a track's atoms are eliminated from; errors count relative to what a layer gives in all."""
    return [
        Problem(
            fits[layer].weight[group].copy(),
            fits[layer].inverse[group].copy(),
            columns,
            1.0 / max(fits[layer].energy, _TINY),
        )
        for (layer, group), columns in track.columns.items()
        if layer in fits
    ]


def _weights(graph: Graph, track: Track, elimination: Elimination, ctx: Context) -> dict[str, Doubles]:
    """Return the refitted weights, (G, O, K), of the layers that read a track."""
    found = {name: layer_of(graph, name, ctx.ops).weight.copy() for name in track.layers}
    for (name, group), problem in zip(track.columns, elimination.problems, strict=True):
        found[name][group] = problem.weight
    return found


def _changed(graph: Graph, track: Track, elimination: Elimination, seen: Mapping[str, Moments], ctx: Context) -> Graph:
    """Return the graph without the atoms that have left, with the layers that read them refitted."""
    changed = graph.clone()
    for name, weight in _weights(graph, track, elimination, ctx).items():
        put(changed, layer_of(changed, name, ctx.ops), weight, seen[name])
    return changed


def _outputs(graph: Graph, feeds: Sequence[Feeds]) -> dict[str, Doubles]:
    session = Session(graph, optimize=True)
    found: dict[str, list[Any]] = {}
    for one in feeds:
        for name, array in session.run(one).items():
            if isinstance(array, np.ndarray) and array.dtype.kind == "f":
                found.setdefault(name, []).append(np.asarray(array, np.float64).reshape(-1))
    return {name: np.concatenate(parts) for name, parts in found.items()}
