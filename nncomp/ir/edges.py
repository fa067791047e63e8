"""Edges: who reads and who computes what, in the very dicts of a networkx MultiDiGraph, of which they are the inside.

networkx itself is imported when somebody asks for its view: it takes half a second, and most commands never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from nncomp.ir.nodes import CaptureKey, Op, Value

if TYPE_CHECKING:
    import networkx as nx

Node: TypeAlias = Value | Op
EdgeKey: TypeAlias = int | CaptureKey
Neighbours: TypeAlias = dict[Node, dict[Node, dict[EdgeKey, dict[str, Any]]]]


class _NoAttributes(dict[str, Any]):
    """Where networkx looks for attributes of nodes and edges; one for all, as there are none."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("nodes and edges of a graph have no attributes in networkx")

    __setitem__ = setdefault = update = _refuse

    def __deepcopy__(self, _: object) -> dict[str, Any]:
        return {}


_NONE: Final = _NoAttributes()


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
        self.nodes[node] = _NONE
        self.succ[node] = {}
        self.pred[node] = {}

    def attach(self, op: Op) -> None:
        """Add an op, and draw the edges of its inputs and outputs, which are there.

        Raises:
            KeyError: of a value that is not.
        """
        succ, pred = self.succ, self.pred
        self.nodes[op] = _NONE
        behind: dict[Node, dict[EdgeKey, dict[str, Any]]] = {}
        before: dict[Node, dict[EdgeKey, dict[str, Any]]] = {}
        succ[op], pred[op] = behind, before
        for slot, value in enumerate(op.inputs):
            if value is not None:
                keys = before.get(value)
                if keys is None:
                    succ[value][op] = before[value] = keys = {}
                keys[slot] = _NONE
        for slot, value in enumerate(op.outputs):
            behind[value] = pred[value][op] = {slot: _NONE}

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
        keys[key] = _NONE

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
