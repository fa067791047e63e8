"""Branches: a residual block whose inner dimension is gone for good adds a constant, and is taken out as a whole.

An axis may not become empty, so the axis algebra keeps one atom of each. But a layer that has lost *all* columns gives
its bias alone; where that is added to a stream, the layer and all in front of it that nobody else reads can go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from nncomp.errors import GateError
from nncomp.gate import Gate
from nncomp.ir import Graph, Value
from nncomp.ops import OpTable
from nncomp.passes import Effect
from nncomp_prune.fitting import Layer, layer_of
from nncomp_prune.readings import Reading
from nncomp_prune.tracks import Track


def is_branch(graph: Graph, track: Track, found: Mapping[str, Reading], ops: OpTable) -> bool:
    """True when one layer reads the track and nothing else, and its output is only added to a tensor of its shape."""
    if len(track.layers) != 1:
        return False
    (name,) = track.layers
    layer = layer_of(graph, name, ops)
    if layer.bias is None or not np.isin(found[name].atoms, track.dimension.atoms).all():
        return False
    value = _given(layer)
    users = graph.users(value)
    if not graph.single_use(value) or not users[0].is_a("Add"):
        return False
    other = users[0].input(1 if users[0].input(0) is value else 0)
    return other is not None and graph.constant(other) is None and other.shape == value.shape


def take_out(graph: Graph, tracks: Iterable[Track], ops: OpTable, gate: Gate) -> int:
    """Replace the layers that read ``tracks``, whose weights are zero, by what they still give: their biases.

    Returns:
        How many branches there were.

    Raises:
        GateError: the graph computes something else now (NNC-G001).
    """
    names = [name for track in tracks for name in track.layers]
    if not names:
        return 0
    before = graph.clone()
    for name in names:
        layer = layer_of(graph, name, ops)
        assert layer.bias is not None and not layer.weight.any()
        value = _given(layer)
        rank = len(value.shape or ())
        shape = [1, -1, *(1,) * (rank - 2)] if layer.view.kernel > 1 or len(layer.view.shape) > 2 else [-1]
        constant = layer.bias.values.reshape(shape).astype(np.float32)
        graph.replace_uses(value, graph.add_constant(f"{name}_left", constant))
        graph.remove_unused([value])
    result = gate.check(before, graph, Effect.REASSOCIATES)
    if not result.passed:
        raise GateError(
            f"without {len(names)} branches that give constants, the network differs at {result.first_divergence}",
            code="NNC-G001",
        )
    return len(names)


def _given(layer: Layer) -> Value:
    """Return what the layer gives with its bias."""
    assert layer.bias is not None
    return layer.op.output if layer.bias.inside else layer.bias.op.output
