"""What passes must know of bodies: the constants that they read from outside, and that skipping an op skips them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from nncomp.ir import Graph, Op, Value

Read: TypeAlias = list[tuple[Graph, list[Value]]]


def constants_read(graph: Graph) -> Read:
    """Return the constants of a model that something reads, graph by graph, outer before inner."""
    return [(part, [value for value in part.constants() if part.users(value)]) for part in graph.graphs()]


def with_bodies(ops: Iterable[Op]) -> set[Op]:
    """Return ``ops`` and all that is in their bodies."""
    found = set(ops)
    return found | {inner for op in found for body in op.bodies.values() for _, inner in body.walk()}


def drop_unread(read: Read) -> None:
    """Remove those that nothing reads any more: a body that lets go of a constant leaves it to the graph around it."""
    for part, values in reversed(read):
        part.remove_unused(values)
