"""Compensation: go through the layers in order and let each make up for what is missing in front of it.

The target of a layer is what it gave in the original model, its input what the pruned model feeds it with by then, and
the layer is refitted by least squares: errors are absorbed where they arise, and those that are left are absorbed by
the layers behind (He et al., "Channel pruning for accelerating very deep neural networks", ICCV 2017, section 3.2).
Atoms are left out by zeros in the columns of the layers that read them, so the graph keeps its shapes until the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.statistics import LayerWalk, Moments
from nncomp_prune.elimination import Elimination, Problem
from nncomp_prune.fitting import HOLD_OUT, Fit, Layer, fit, layer_of, put, ridge_of
from nncomp_prune.rectified import bounds_behind, rectified
from nncomp_prune.tracks import Track

Atoms = npt.NDArray[np.intp]

_ROWS: Final = 1 << 27
"""Bytes of rows that a stage may keep, to be fitted behind activations; beyond that, plain least squares does."""

_CLOSE: Final = 1e-9
"""Squared error, relative to the energy of its output, below which a layer has nothing to make up for."""


def compensate(
    original: Graph,
    changed: Graph,
    layers: Sequence[str],
    chosen: dict[Track, Atoms],
    ctx: Context,
    *,
    samples: int,
    positions: int,
    ridge: float,
    choose_again: bool,
) -> None:
    """Leave ``chosen`` atoms out of ``changed``, and refit all its layers in order.

    Args:
        original: As it was.
        changed: A copy of it.
        layers: Names of the layers to refit; those that read a chosen atom are among them.
        chosen: The atoms of each track that leave; updated where they are chosen again.
        ctx: Gives data, threads and op semantics.
        samples, positions, ridge: As for the schedules.
        choose_again: Choose as many atoms anew by what the changed graph feeds the one layer that reads them.
    """
    readers: dict[str, list[Track]] = {}
    for track in chosen:
        for name in track.layers:
            readers.setdefault(name, []).append(track)
    walk = LayerWalk.of_pass(
        original, changed, layers, ctx, samples=samples, positions=positions, hold_out=HOLD_OUT, keep=_ROWS
    )
    for stage in walk:
        for name, moments in stage.items():
            layer, tracks = layer_of(changed, name, ctx.ops), readers.get(name, [])
            if not tracks and _unchanged(moments, layer, whole=name in walk.aims):
                continue
            strength = ridge_of(moments, walk.held_out[name], layer, ridge=ridge)
            everything = moments + walk.held_out[name]
            found = fit(everything, layer, ridge=strength)
            for track in tracks:
                again = choose_again and len(track.layers) == 1
                found, chosen[track] = _without(found, name, track, chosen[track], again=again)
            weight, means = found.weight, None
            total = walk.aims[name][0] if name in walk.aims else None
            bounds = bounds_behind(original, layer_of(original, name, ctx.ops), total)
            if name in walk.rows and bounds is not None:
                weight, means = rectified(found, walk.rows[name], everything, layer, bounds, ridge=strength)
            put(changed, layer, weight, everything, whole=name in walk.aims, means=means)


def leave_out(graph: Graph, chosen: Mapping[Track, Atoms], ctx: Context) -> None:
    """Put zeros where layers read ``chosen`` atoms, and leave all else as it is."""
    names = dict.fromkeys(name for track in chosen for name in track.layers)
    for name in filter(graph.has_name, names):
        layer = layer_of(graph, name, ctx.ops)
        weight = layer.weight.copy()
        for track, atoms in chosen.items():
            for (reader, group), columns in track.columns.items():
                if reader == name:
                    gone = columns[atoms].reshape(-1)
                    weight[group][:, gone[gone >= 0]] = 0.0
        put(graph, layer, weight, None)


def _without(found: Fit, name: str, track: Track, atoms: Atoms, *, again: bool) -> tuple[Fit, Atoms]:
    weight, inverse = found.weight.copy(), found.inverse.copy()
    groups = [(group, columns) for (reader, group), columns in track.columns.items() if reader == name]
    problems = [Problem(weight[group], inverse[group], columns) for group, columns in groups]
    elimination = Elimination(problems, len(track))
    if again:
        elimination.run(len(atoms))
    else:
        elimination.leave(atoms)
    for (group, _), problem in zip(groups, problems, strict=True):
        weight[group], inverse[group] = problem.weight, problem.inverse
    return Fit(weight, inverse, found.energy), np.array(elimination.order, np.intp)


def _unchanged(moments: Moments, layer: Layer, *, whole: bool) -> bool:
    """True when the layer, as it is, still gives what it should; ``whole`` as for :func:`~nncomp_prune.fitting.put`."""
    counts = layer.bias is not None and (layer.bias.inside or whole)
    error = moments.squared_error(layer.weight, layer.bias.values if layer.bias is not None and counts else None)
    return bool(error.sum() <= _CLOSE * moments.centered().yy.sum())


def refit_biases(
    original: Graph, changed: Graph, layers: Sequence[str], ctx: Context, *, samples: int, positions: int
) -> None:
    """Let the bias of each layer take up the mean of what it misses, in order; weights stay as they are."""
    for stage in (walk := LayerWalk.of_pass(original, changed, layers, ctx, samples=samples, positions=positions)):
        for name, moments in stage.items():
            layer = layer_of(changed, name, ctx.ops)
            if not _unchanged(moments, layer, whole=name in walk.aims):
                put(changed, layer, layer.weight, moments, whole=name in walk.aims)
