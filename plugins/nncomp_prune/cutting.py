"""Cutting: what has been chosen on one graph is found on another with the same names, whose axes are analysed anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from nncomp.axes import AxisAnalysis, analyse, remove
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.ops import OpTable
from nncomp_prune.branches import silence, take_out
from nncomp_prune.tracks import Track

Atoms = npt.NDArray[np.intp]


def vanished(chosen: Mapping[Track, Atoms]) -> list[Track]:
    """Return the tracks of which nothing is left."""
    return [track for track, atoms in chosen.items() if len(atoms) == len(track)]


def gone_with_others(graph: Graph, tracks: Iterable[Track]) -> dict[Track, Atoms]:
    """Return all atoms of the tracks that nothing in ``graph`` reads any more, since a branch behind them has left."""
    return {track: np.arange(len(track)) for track in tracks if not any(map(graph.has_name, track.layers))}


def located(
    before: AxisAnalysis,
    graph: Graph,
    chosen: Mapping[Track, Atoms],
    ops: OpTable,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> tuple[AxisAnalysis, npt.NDArray[np.int64]]:
    """Return the axes of ``graph``, in which some constants are new, and what the atoms of ``chosen`` are called there.

    Tracks that have vanished are gone already.
    """
    infer_types(graph, ops)
    after = analyse(graph, ops, input_shapes=input_shapes)
    names = np.zeros(before.count + 1, np.int64)
    for value, axes in before.labels.items():
        if value.producer is None:
            continue
        others = after.labels.get(graph.find(value.name)) if graph.has_name(value.name) else None
        for old, new in zip(axes, others or (), strict=False):
            if old is not None and new is not None:
                names[old] = new
    whole = vanished(chosen)
    parts = [names[track.dimension.atoms[atoms]] for track, atoms in chosen.items() if track not in whole]
    found = np.concatenate([np.zeros(0, np.int64), *parts])
    assert found.all(), "an atom of the analysis is lost"
    return after, np.asarray(found)


def cut(analysis: AxisAnalysis, graph: Graph, chosen: Mapping[Track, Atoms], ops: OpTable) -> Graph:
    """Return a copy of ``graph`` without ``chosen``; nothing makes up for it, and nothing is checked."""
    trial = graph.clone()
    take_out(trial, silence(trial, vanished(chosen), ops))
    remove(*located(analysis, trial, {**chosen, **gone_with_others(trial, chosen)}, ops))
    return trial
