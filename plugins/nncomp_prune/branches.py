"""Branches: a residual block whose inner dimension is gone for good adds a constant, and is taken out as a whole.

An axis may not become empty, so the axis algebra keeps one atom of each. But a layer that has lost *all* columns gives
its bias alone; where that is added to a stream, the layer and all in front of it that nobody else reads can go. The
bias goes too: the layers behind have biases of their own, and a constant that is added to a stream would be one more
op, in the way of fusing what stands before and behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nncomp.errors import GateError
from nncomp.gate import Gate
from nncomp.ir import Graph, Op, Value
from nncomp.ops import OpTable
from nncomp.ops.accessors import clip_bounds
from nncomp.passes import Effect
from nncomp_prune.fitting import Layer, layer_of
from nncomp_prune.readings import Reading
from nncomp_prune.tracks import Track


def branches(graph: Graph, tracks: Iterable[Track], found: Mapping[str, Reading], ops: OpTable) -> set[Track]:
    """Return the tracks that may vanish: of two that meet in one sum the first, or nothing might be left of it."""
    sums: dict[Op, Track] = {}
    for track in tracks:
        if (add := _sum_of(graph, track, found, ops)) is not None:
            sums.setdefault(add, track)
    return set(sums.values())


def silence(graph: Graph, tracks: Iterable[Track], ops: OpTable) -> list[Value]:
    """Put zeros where branches are added, and remove what only they needed; return the zeros."""
    zeros = []
    for track in tracks:
        for name in track.layers:
            value = _given(layer_of(graph, name, ops))
            zero = graph.add_constant(f"{name}_gone", np.zeros([1] * len(value.shape or ()), np.float32))
            graph.replace_uses(value, zero)
            graph.remove_unused([value])
            zeros.append(zero)
    return zeros


def take_out(graph: Graph, zeros: Sequence[Value], gate: Gate | None = None) -> None:
    """Remove the sums with ``zeros``, and an activation behind one that has been applied in front of it already.

    Raises:
        GateError: the graph computes something else now (NNC-G001).
    """
    if not zeros:
        return
    before = graph.clone()
    for zero in zeros:
        (add,) = graph.users(zero)
        stream = add.input(1 if add.input(0) is zero else 0)
        assert stream is not None
        bounds = None if stream.producer is None else clip_bounds(stream.producer, graph)
        again = [op for op in graph.users(add.output) if bounds is not None and clip_bounds(op, graph) == bounds]
        graph.replace_uses(add.output, stream)
        for op in again:
            graph.replace_uses(op.output, stream)
        graph.remove_unused([add.output, *(op.output for op in again)])
    result = None if gate is None else gate.check(before, graph, Effect.REASSOCIATES)
    if result is not None and not result.passed:
        raise GateError(
            f"without {len(zeros)} branches that give nothing, the network differs at {result.first_divergence}",
            code="NNC-G001",
        )


def _sum_of(graph: Graph, track: Track, found: Mapping[str, Reading], ops: OpTable) -> Op | None:
    """Return the Add that one layer's output goes to, which reads the track and nothing else; None if there is none."""
    if len(track.layers) != 1:
        return None
    (name,) = track.layers
    layer = layer_of(graph, name, ops)
    if layer.bias is None or not np.isin(found[name].atoms, track.dimension.atoms).all():
        return None
    value = _given(layer)
    (add, *_) = graph.users(value) or (None,)
    if add is None or not graph.single_use(value) or not add.is_a("Add"):
        return None
    other = add.input(1 if add.input(0) is value else 0)
    plain = other is not None and graph.constant(other) is None and other.shape == value.shape
    return add if plain else None


def _given(layer: Layer) -> Value:
    """Return what the layer gives with its bias."""
    assert layer.bias is not None
    return layer.op.output if layer.bias.inside else layer.bias.op.output
