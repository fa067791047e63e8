"""Constants that bodies read from the graphs around them, and that a pass has put others in the place of."""

from __future__ import annotations

from typing import TypeAlias

from nncomp.ir import Graph, Value

Read: TypeAlias = list[tuple[Graph, list[Value]]]


def constants_read(graph: Graph) -> Read:
    """Return the constants of a model that something reads, graph by graph, outer before inner."""
    return [(part, [value for value in part.constants() if part.users(value)]) for part in graph.graphs()]


def drop_unread(read: Read) -> None:
    """Remove those that nothing reads any more: a body that lets go of a constant leaves it to the graph around it."""
    for part, values in reversed(read):
        part.remove_unused(values)
