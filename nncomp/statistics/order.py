"""In which order layers stand: how many lie in front of a value, and which meet in one sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from nncomp.ir import Graph, Value
from nncomp.ops import OpTable, builtin_table
from nncomp.ops.bias import layer_bias
from nncomp.statistics.layers import producer_of


def residual_aims(graph: Graph, layers: Sequence[str], ops: OpTable | None = None) -> dict[str, tuple[str, str]]:
    """Return (sum, other) for each layer whose output is added to a computed tensor; see :class:`LayerWalk`.

    A bias may be added in between. Of two layers that meet in one sum, the one with more layers in front makes up for
    both.
    """
    table, depth = ops or builtin_table(), _depths(graph, layers)
    found: dict[str, tuple[str, str]] = {}
    for name in layers:
        value = graph.find(name)
        op = producer_of(graph, name)
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


def levels(graph: Graph, layers: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Group layers by how many of them lie one behind the other in front; each group in the order of the graph."""
    wanted, levels = set(layers), dict[int, list[str]]()
    for value, depth in _depths(graph, layers).items():
        if value.name in wanted:
            levels.setdefault(depth, []).append(value.name)
    return tuple(tuple(names) for _, names in sorted(levels.items()))
