"""Values inside bodies, made outputs of the model: how what an If, Loop or Scan computes is watched.

Each watched value becomes an output of the model that is a sequence of tensors, one each time that the value was
computed in a run: none when the other branch was taken, one an iteration of a Loop. The sequence is handed inwards body
by body, and comes back longer:

    If      the body captures it and inserts the value; the other body hands it back as it was
    Loop    one more carried value
    Scan    carries tensors only: the value becomes a scan output, all iterations stacked, which is watched instead
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np

from nncomp.ir import DataType, Graph, SequenceType, TensorType, Value

_FLOATS = SequenceType(TensorType(DataType.FLOAT, None))


def watchable(body: Graph) -> bool:
    """Tell whether the values of a body can be watched: an If, Loop or Scan in a graph for which the same holds.

    What an If or Loop inside a Scan computes cannot.
    """
    inner = ""
    while body.owner is not None and body.parent is not None:
        kind = body.owner.kind if not body.owner.domain else ""
        if kind not in ("If", "Loop", "Scan") or (kind == "Scan" and inner in ("If", "Loop")):
            return False
        inner, body = kind, body.parent
    return True


def exposed(graph: Graph, values: Iterable[tuple[Graph, Value]]) -> tuple[Graph, dict[Value, str]]:
    """Return a copy of a model whose outputs tell what ``values`` of its bodies are, and the names of these outputs.

    Opset 13 or later. ``values`` of the model's own graph need no output: they keep their names.

    Args:
        graph: A model's own graph.
        values: float32 values, each with the graph or (:func:`watchable`) body that it is in.
    """
    twin, mapping = graph.clone_with_map()
    names: dict[Value, str] = {}
    twins: dict[Graph, Graph] = dict(zip(graph.graphs(), twin.graphs(), strict=True))
    outputs = list(twin.outputs)
    for part, value in values:
        inner = cast(Value, mapping[value])
        if part is graph:
            names[value] = inner.name
            continue
        body, inner = _outside_scans(twins[part], inner)
        if body is not twin:
            inner = _sequence(_path(body), inner)
        outputs.append(inner)
        names[value] = inner.name
    twin.set_outputs(outputs)
    return twin, names


def _outside_scans(body: Graph, value: Value) -> tuple[Graph, Value]:
    """Return the graph around all Scans that ``body`` is right inside of, and the stacked values there."""
    while body.owner is not None and body.parent is not None and body.owner.is_a("Scan"):
        parent, owner = body.parent, body.owner
        body.set_outputs([*body.outputs, _carrier(body, value)])
        stacked = parent.insert_output(owner, len(owner.outputs), f"{value.name}_stacked")
        body, value = parent, stacked
    return body, value


def _path(body: Graph) -> list[Graph]:
    """Return the bodies that lead to ``body``, outermost first."""
    path = []
    while body.parent is not None:
        path.append(body)
        body = body.parent
    return path[::-1]


def _sequence(path: list[Graph], value: Value) -> Value:
    """Return the sequence of what ``value``, in the last body of ``path``, was; a value of the model's own graph."""
    root = path[0].parent
    assert root is not None
    empty = root.add_op("SequenceEmpty", [], [(f"{value.name}_none", _FLOATS)], attrs={"dtype": DataType.FLOAT.value})
    return _handed_through(path, empty.output, value)


def _handed_through(path: list[Graph], state: Value, value: Value) -> Value:
    """Return ``state``, a value of the graph around ``path[0]``, with all that ``value`` was inserted behind."""
    body, rest = path[0], path[1:]
    parent, owner = body.parent, body.owner
    assert parent is not None and owner is not None
    if owner.is_a("Loop"):
        inside = body.add_input(body.fresh_name(f"{value.name}_before"), _FLOATS)
        parent.set_input(owner, max(len(owner.inputs), 2), state)
        carried = len(body.inputs) - 3  # iteration number, condition, and this one
    else:
        inside = body.capture(state)
        carried = len(owner.outputs)
    result = _handed_through(rest, inside, value) if rest else _inserted(body, inside, value)
    for other in owner.bodies.values():
        outputs = list(other.outputs)
        handed = result if other is body else _unchanged(other, other.capture(state))
        outputs.insert(carried + 1 if owner.is_a("Loop") else carried, handed)
        other.set_outputs(outputs)
    return parent.insert_output(owner, carried, f"{value.name}_seen", _FLOATS)


def _inserted(graph: Graph, sequence: Value, value: Value) -> Value:
    return graph.add_op("SequenceInsert", [sequence, value], [(f"{value.name}_seen", _FLOATS)]).output


def _unchanged(graph: Graph, sequence: Value) -> Value:
    """Return a sequence as an op's output, which a body's output must be; Identity takes sequences from opset 14 on."""
    nothing = graph.add_constant("nothing", np.zeros(0, np.float32))
    longer = _inserted(graph, sequence, nothing)
    return graph.add_op("SequenceErase", [longer], [(f"{sequence.name}_kept", _FLOATS)]).output


def _carrier(body: Graph, value: Value) -> Value:
    """Return ``value`` as an op's output that is no output of the body yet."""
    return body.add_op("Identity", [value], [(f"{value.name}_seen", value.type)]).output
