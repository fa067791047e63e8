"""Answers that a graph keeps are those of the graph as it is: whatever edits and questions take turns."""

from __future__ import annotations

import copy
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.ir import CaptureKey, DataType, Graph, Op, TensorType, Value
from nncomp.testing import graph
from nncomp.verify import verify

BRANCH = """
g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
   h = Relu (x)
   i = Neg (h)
   y = If (c) <then_branch = t () => (p) { p = Add (h, w) }, else_branch = e () => (q) { r = Neg (i) q = Abs (r) }>
}
"""
FLOATS = TensorType(DataType.FLOAT, (2,))


def edit(g: Graph, number: int, draw: Any) -> None:
    """Make one change of a graph that stays valid."""
    values = [value for value in g.values() if value.name and (value.type is None or value.type == FLOATS)]
    value = values[draw(st.integers(0, len(values) - 1))]
    match number:
        case 0:
            g.add_op("Neg", [value])
        case 1:
            g.add_constant("k", np.ones(2, np.float32))
        case 2:
            fresh = g.add_op("Abs", [value]).output
            g.replace_uses(value, fresh, keep=lambda use: use.op is fresh.producer)
        case 3:
            g.rename(value, g.fresh_name("renamed"))
        case 4:
            for op in reversed(g.ops()):
                if all(not g.uses(out) and not g.is_output(out) for out in op.outputs):
                    g.remove(op)
                    break
        case 5:
            g.remove_unused([value])
        case 6:
            g.set_type(value, FLOATS)
        case 7 if g.owner is not None and g.parent is not None:
            outer = [one for one in g.parent.inputs if one.type == FLOATS]
            g.add_op("Neg", [g.capture(outer[0])]) if outer else None
        case 8:
            g.add_op("Sum", [value, value, value])
        case _:
            g.add_input(g.fresh_name("input"), FLOATS)


def check(g: Graph) -> None:
    """Compare what each graph answers with what its edges say."""
    for part in g.graphs():
        nodes = list(part.nx)
        assert part.values() == tuple(node for node in nodes if isinstance(node, Value))
        assert part.constants() == tuple(node for node in nodes if isinstance(node, Value) and node.const is not None)
        order = part.ops()
        assert set(order) == {node for node in nodes if isinstance(node, Op)}
        places = {op: place for place, op in enumerate(order)}
        for op in order:
            read = {(value, slot) for slot, value in enumerate(op.inputs) if value is not None}
            read |= {(out, CaptureKey(key, i)) for key, body in op.bodies.items() for i, out in body.captures.items()}
            assert read == {(value, key) for value, _, key in part.nx.in_edges(op, keys=True)}
            assert all(value.producer is None or places[value.producer] < places[op] for value, _ in read)
            assert [(op, value, slot) for slot, value in enumerate(op.outputs)] == list(
                part.nx.out_edges(op, keys=True)
            )
    verify(g)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_edits_and_questions_may_take_turns(data: st.DataObject) -> None:
    g = graph(BRANCH)
    for _ in range(data.draw(st.integers(1, 12))):
        parts = list(g.graphs())
        part = parts[data.draw(st.integers(0, len(parts) - 1))]
        versions = g.version, part.version
        before = (part.values(), part.ops())
        edit(part, data.draw(st.integers(0, 9)), data.draw)
        if (part.values(), part.ops()) != before:
            assert g.version > versions[0]
            assert part.version > versions[1]
        if data.draw(st.booleans()):
            check(g)
    check(g)
    check(g.clone())


def test_adopting_forgets_what_was_known() -> None:
    g, other = graph(BRANCH), graph("g (bool c, float[2] x) => (float[2] y) { y = Neg (x) }")
    assert len(g.ops()) == 3
    assert len(g.values()) == 6
    g.adopt(other)
    assert [op.kind for op in g.ops()] == ["Neg"]
    assert [value.name for value in g.values()] == ["c", "x", "y"]


def test_the_networkx_view_is_live_and_has_no_attributes() -> None:
    g = graph(BRANCH)
    view = g.nx
    added = g.add_op("Neg", [g.find("x")])
    assert added in view
    assert nx.is_directed_acyclic_graph(view)
    for attributes in (view.nodes[added], view.edges[g.find("x"), added, 0]):
        with pytest.raises(TypeError, match=r"^nodes and edges of a graph have no attributes in networkx$"):
            attributes["color"] = "red"
    free = nx.MultiDiGraph(view)
    free.nodes[added]["color"] = "red"
    assert free.number_of_edges() == view.number_of_edges()
    assert copy.deepcopy(view.nodes[added]) == {}
    assert view.to_undirected().number_of_nodes() == len(view)
