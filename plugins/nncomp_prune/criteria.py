"""Criteria that rank atoms on their own, without looking at what the layers behind could make up for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.statistics import collect, collect_moments, executor_of
from nncomp_prune.fitting import layer_of
from nncomp_prune.schedule import Schedule
from nncomp_prune.tracks import Track

Doubles = npt.NDArray[np.float64]


class Criterion(StrEnum):
    """How atoms are ranked."""

    OBS = "obs"
    """Output error of the layers that read them, refitted, by backward elimination (see elimination)."""
    L1 = "l1"
    """Sum of absolute weights that make them (Li et al., "Pruning filters for efficient ConvNets", ICLR 2017)."""
    L2 = "l2"
    """Euclidean norm of the weights that make them."""
    BN_SCALE = "bn-scale"
    """|gamma| of the batch normalization (Liu et al., "Learning efficient convolutional networks through network
    slimming", ICCV 2017)."""
    MEDIAN = "geometric-median"
    """Distance of the weights that make them to those of all others (He et al., "Filter pruning via geometric median
    for deep convolutional neural networks acceleration", CVPR 2019)."""
    APOZ = "apoz"
    """Share of activations that are not zero (Hu et al., "Network trimming", 2016)."""
    MEAN = "mean"
    """Mean absolute value of the mean activation (Molchanov et al., "Pruning convolutional neural networks for resource
    efficient inference", ICLR 2017)."""
    VARIANCE = "variance"
    """Variance of activations: what is constant, a bias can replace."""


NEEDS_DATA = frozenset({Criterion.OBS, Criterion.APOZ, Criterion.MEAN, Criterion.VARIANCE})


@dataclass
class NonZeros:
    """How many elements of each channel are not zero.

    Attributes:
        axis: Axis of channels.
        counts, total: (C,) of them, and of all.
    """

    axis: int = 1
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    total: int = 0

    def update(self, array: npt.NDArray[Any]) -> None:
        """Add one sample's tensor."""
        axis = self.axis % array.ndim
        others = tuple(place for place in range(array.ndim) if place != axis)
        self.counts = self.counts + np.count_nonzero(array, axis=others)
        self.total += array.size // array.shape[axis]

    def merge(self, other: Self) -> None:
        """Add what ``other`` saw."""
        self.counts = self.counts + other.counts
        self.total += other.total


def scored(
    graph: Graph, tracks: Sequence[Track], criterion: Criterion, ctx: Context, *, samples: int, positions: int
) -> list[Schedule]:
    """Return a schedule for each track: the atoms with the lowest scores leave first.

    What leaving costs is the square of the score, relative to that of the whole track.

    Raises:
        UnsupportedError: bn-scale where there is no batch normalization (NNC-M052).
    """
    scores = _SCORES[criterion]
    found = []
    for track, score in zip(tracks, scores(graph, tracks, ctx, samples, positions), strict=True):
        order = np.argsort(score, kind="stable")
        squares = np.square(score[order])
        errors = np.cumsum(squares) / max(float(squares.sum()), 1e-30)
        found.append(Schedule(track, order[:-1], np.concatenate([[0.0], errors[:-1], [np.inf]])))
    return found


def _by_weights(rank: Callable[[Doubles], Doubles]) -> Any:
    def scores(graph: Graph, tracks: Sequence[Track], ctx: Context, samples: int, positions: int) -> list[Doubles]:
        del samples, positions
        return [rank(_made_by(graph, track, ctx)) for track in tracks]

    return scores


def _made_by(graph: Graph, track: Track, ctx: Context) -> Doubles:
    """Return the weights that make each atom, (A, everything), of all layers that give it."""
    parts = []
    for member in track.dimension.constants:
        array = graph.array(member.value)
        for op in graph.users(member.value) if member.value in graph else ():
            role = ctx.ops.quant(op, graph.opsets)
            is_weight = role.weight is not None and op.input(role.weight) is member.value
            if array is None or not is_weight or role.weight_axis is None:
                continue
            if role.weight_axis(op) % array.ndim == member.axis:
                slices = np.moveaxis(np.asarray(array, np.float64), member.axis, 0)[member.positions]
                parts.append(slices.reshape(len(track), -1))
                break
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(track), 1))


def _distances(weights: Doubles) -> Doubles:
    squares = np.square(weights).sum(axis=1)
    between = squares[:, None] + squares[None, :] - 2.0 * weights @ weights.T
    return np.asarray(np.sqrt(np.maximum(between, 0.0)).sum(axis=1))


def _scales(graph: Graph, tracks: Sequence[Track], ctx: Context, samples: int, positions: int) -> list[Doubles]:
    del ctx, samples, positions
    found = []
    for track in tracks:
        gammas = [
            np.abs(np.asarray(graph.array(member.value), np.float64))[member.positions].sum(axis=1)
            for member in track.dimension.constants
            if member.value in graph
            for op in graph.users(member.value)
            if op.is_a("BatchNormalization") and op.input(1) is member.value
        ]
        if not gammas:
            raise UnsupportedError(
                f"prune-structured: no batch normalization scales the channels of {track.name!r}",
                code="NNC-M052",
                hint="prune before 'fuse', or by another criterion",
            )
        found.append(np.asarray(sum(gammas)))
    return found


def _moments(graph: Graph, tracks: Sequence[Track], ctx: Context, samples: int, positions: int) -> list[Any]:
    """Return for each track the mean of x and of x^2 of the columns of each layer that reads it."""
    assert ctx.data is not None
    names = list(dict.fromkeys(name for track in tracks for name in track.layers))
    data = islice(iter(ctx.data), samples)
    found = collect_moments(graph, names, data, ops=ctx.ops, positions=positions, executor=executor_of(ctx))
    return [
        [
            (
                found[name].x[group] / max(found[name].count, 1),
                np.diagonal(found[name].xx[group]) / max(found[name].count, 1),
                columns,
            )
            for (name, group), columns in track.columns.items()
        ]
        for track in tracks
    ]


def _means(graph: Graph, tracks: Sequence[Track], ctx: Context, samples: int, positions: int) -> list[Doubles]:
    return [
        _added([(np.abs(mean), columns) for mean, _, columns in parts])
        for parts in _moments(graph, tracks, ctx, samples, positions)
    ]


def _deviations(graph: Graph, tracks: Sequence[Track], ctx: Context, samples: int, positions: int) -> list[Doubles]:
    return [
        np.sqrt(_added([(np.maximum(square - mean * mean, 0.0), columns) for mean, square, columns in parts]))
        for parts in _moments(graph, tracks, ctx, samples, positions)
    ]


def _added(parts: Sequence[tuple[Doubles, npt.NDArray[np.intp]]]) -> Doubles:
    """Add up what each atom's columns have; -1 stands for no column."""
    return np.asarray(sum(np.where(columns >= 0, values[columns], 0.0).sum(axis=1) for values, columns in parts))


def _active(graph: Graph, tracks: Sequence[Track], ctx: Context, samples: int, positions: int) -> list[Doubles]:
    del positions
    assert ctx.data is not None
    layers = {name: layer_of(graph, name, ctx.ops) for track in tracks for name in track.layers}
    data = {name: layer.op.inputs[layer.view.data] for name, layer in layers.items()}
    axes = {
        value.name: 1 if layers[name].view.kernel > 1 or len(layers[name].view.shape) > 2 else -1
        for name, value in data.items()
        if value is not None
    }
    seen: Mapping[str, NonZeros] = collect(
        graph,
        islice(iter(ctx.data), samples),
        list(axes),
        lambda name: NonZeros(axes[name]),
        executor=executor_of(ctx),
    )
    found = []
    for track in tracks:
        total = np.zeros(len(track))
        for (name, group), columns in track.columns.items():
            value, view = data[name], layers[name].view
            assert value is not None
            share = seen[value.name].counts / max(seen[value.name].total, 1)
            whole = np.repeat(share, view.kernel).reshape(-1, view.columns)
            total += _added([(whole[min(group, len(whole) - 1)], columns)])
        found.append(total)
    return found


_SCORES: Mapping[Criterion, Any] = {
    Criterion.L1: _by_weights(lambda weights: np.abs(weights).sum(axis=1)),
    Criterion.L2: _by_weights(lambda weights: np.sqrt(np.square(weights).sum(axis=1))),
    Criterion.MEDIAN: _by_weights(_distances),
    Criterion.BN_SCALE: _scales,
    Criterion.APOZ: _active,
    Criterion.MEAN: _means,
    Criterion.VARIANCE: _deviations,
}
