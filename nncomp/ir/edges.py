"""Edges: who reads and who computes what, in the very dicts of a networkx MultiDiGraph, of which they are the inside.

networkx itself is imported when somebody asks for its view: it takes half a second, and most commands never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from nncomp.ir.nodes import CaptureKey, Op, Value

if TYPE_CHECKING:
    import networkx as nx

Node: TypeAlias = Value | Op
EdgeKey: TypeAlias = int | CaptureKey
Neighbours: TypeAlias = dict[Node, dict[Node, dict[EdgeKey, dict[str, Any]]]]


class Edges:
    """Nodes and keyed edges, each O(1) to add and to remove; nodes and neighbours keep the order they came in.

    Attributes:
        nodes: all nodes, with networkx's place for attributes, which stays empty.
        succ, pred: behind and in front of each node; an edge's dict by key is one object in both.
    """

    __slots__ = ("nodes", "pred", "succ")

    def __init__(self) -> None:
        self.nodes: dict[Node, dict[str, Any]] = {}
        self.succ: Neighbours = {}
        self.pred: Neighbours = {}

    def add(self, node: Node) -> None:
        """Add a node that is not there yet."""
        self.nodes[node] = {}
        self.succ[node] = {}
        self.pred[node] = {}

    def remove(self, node: Node) -> None:
        """Remove a node with all its edges."""
        del self.nodes[node]
        for end in self.succ.pop(node):
            self.pred[end].pop(node, None)
        for start in self.pred.pop(node):
            self.succ[start].pop(node, None)

    def link(self, start: Node, end: Node, key: EdgeKey) -> None:
        """Draw an edge between nodes that are there."""
        keys = self.succ[start].get(end)
        if keys is None:
            self.succ[start][end] = self.pred[end][start] = keys = {}
        keys[key] = {}

    def unlink(self, start: Node, end: Node, key: EdgeKey) -> None:
        """Remove an edge."""
        keys = self.succ[start][end]
        del keys[key]
        if not keys:
            del self.succ[start][end], self.pred[end][start]

    def view(self) -> nx.MultiDiGraph[Node]:
        """Return a networkx graph that refuses to be changed; it shows each later change of these edges."""
        import networkx as nx

        view: Any = nx.MultiDiGraph()
        view._node, view._adj, view._pred = self.nodes, self.succ, self.pred
        frozen: nx.MultiDiGraph[Node] = nx.freeze(view)
        return frozen
