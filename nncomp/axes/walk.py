"""One walk over a graph and its bodies: labels are born at constants, go through ops, and are pinned at the borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from nncomp.axes.numbers import Numbers, follow
from nncomp.axes.preparing import refine
from nncomp.ir import Dim, Graph, Op, Value
from nncomp.ops import OpTable
from nncomp.ops.coupling import Axes, Coupling, Ledger, Pin, Unclear


class Walk:
    """Labels of all values of a graph, and what rules said on the way.

    Attributes:
        labels: Axes by value; values of unknown rank, and what is no tensor, have none.
        owners: The graph that each labelled value stands in.
        ops: Every op with its graph, in the order walked.
        unknown: Ops without a rule.
        numbers: What is known of tensors computed from shapes.
    """

    def __init__(self, graph: Graph, table: OpTable, ledger: Ledger) -> None:
        self.graph = graph
        self.table = table
        self.ledger = ledger
        self.labels: dict[Value, Axes] = {}
        self.owners: dict[Value, Graph] = {}
        self.ops: list[tuple[Graph, Op]] = []
        self.unknown: list[Op] = []
        self.numbers: dict[Value, Numbers] = {}

    def run(self) -> None:
        """Walk."""
        for value in self.graph.inputs:
            self._set(self.graph, value, _pinned(value, "a graph input"))
        self._body(self.graph)
        for value in self.graph.outputs:
            self._pin(value, Pin("a graph output"))

    def _body(self, graph: Graph) -> None:
        for value in graph.constants():
            self._set(graph, value, self.ledger.born(value.shape or (), "a constant with one element there"))
        for op in graph.ops():
            self.ops.append((graph, op))
            self._op(graph, op)

    def _op(self, graph: Graph, op: Op) -> None:
        if op.is_a("Constant"):
            data = graph.constant(op.output)
            if data is not None:
                self._set(graph, op.output, self.ledger.born(data.shape, "a constant with one element there"))
            return
        refine(graph, op, self.numbers)
        row = self.table.row(op, graph.opsets)
        coupling = Coupling(graph, op, self.labels, self.ledger, self._known)
        reason = ""
        if op.bodies:
            self._bodies(graph, op)
            return
        if row is None or row.axes is None:
            self.unknown.append(op)
            reason = f"nothing is known about the axes of {op.kind}"
        else:
            try:
                row.axes(coupling)
                self._check(op, coupling)
            except Unclear as error:
                reason = str(error)
        if reason:
            self._barrier(graph, op, reason)
            return
        for slot, value in enumerate(op.inputs):
            if value is not None and slot not in coupling.read:
                self._pin(value, Pin("it is read as a parameter", None, op, f"input {slot}", minor=True))
        for slot, output in enumerate(op.outputs):
            axes = coupling.given.get(slot)
            self._set(graph, output, _pinned(output, "not followed", op) if axes is None else axes)
        known = follow(graph, op, self.numbers)
        if known is not None:
            self.numbers[op.outputs[0]] = known

    def _known(self, value: Value) -> npt.NDArray[Any] | None:
        """Return the numbers that a value computed from shapes is known to hold."""
        found = self.numbers.get(value)
        return found.data if found is not None and found.complete else None

    def _bodies(self, graph: Graph, op: Op) -> None:
        """Walk the bodies of an op with the labels of what they capture.

        An If gives what both of its branches give; what a Loop carries keeps its labels. All else that goes in or out
        of a body stays.
        """
        inner = self._carried(op)
        outer = [op.inputs[slot] for slot in inner]
        for slot, operand in enumerate(op.inputs):
            if operand is not None and slot not in inner:
                self._pin(operand, Pin(f"an input of {op.kind}", None, op, f"input {slot}"))
        for body in op.bodies.values():
            for stand_in, captured in body.captures.items():
                if captured in self.labels:
                    self._set(body, stand_in, self.labels[captured])
            for place, value in enumerate(body.inputs):
                given = outer[place - 2] if 0 <= place - 2 < len(outer) else None
                self._set(
                    body, value, self.labels[given] if given is not None and given in self.labels
                    else _pinned(value, f"an input of a body of {op.kind}", op),
                )  # fmt: skip
            self._body(body)
            for value in () if op.kind in ("If", "Loop") else body.outputs:
                self._pin(value, Pin(f"an output of a body of {op.kind}", None, op))
        for place, value in enumerate(op.outputs):
            self._set(graph, value, self._joined(op, place, value, outer))

    def _carried(self, op: Op) -> tuple[int, ...]:
        """Return the input slots of a Loop that carry values whose sizes never change."""
        if op.kind != "Loop":
            return ()
        (body,) = op.bodies.values()
        slots = range(2, len(op.inputs))
        steady = [
            {None if v is None else v.shape for v in (op.inputs[slot], body.inputs[slot], body.outputs[slot - 1])}
            for slot in slots
        ]
        known = all(len(shapes) == 1 and _is_static(next(iter(shapes))) for shapes in steady)
        return tuple(slots) if known and len(body.inputs) == len(op.inputs) else ()

    def _joined(self, op: Op, place: int, value: Value, outer: Sequence[Value | None]) -> Axes | None:
        """Return the labels of an output: those that its sources in the bodies have in common."""
        ends = [body.outputs[place + (op.kind == "Loop")] for body in op.bodies.values() if op.kind in ("If", "Loop")]
        found = [self.labels.get(end) for end in ends]
        if op.kind == "Loop" and place < len(outer):
            carried = outer[place]
            found.append(None if carried is None else self.labels.get(carried))
        first = found[0] if found else None
        steady = op.kind == "If" or place < len(outer)
        if first is None or not steady or not all(axes is not None and _alike(first, axes) for axes in found):
            for end in ends:
                self._pin(end, Pin(f"an output of a body of {op.kind}", None, op))
            return _pinned(value, f"an output of {op.kind}", op)
        for axes in found[1:]:
            for one, other in zip(first, axes or (), strict=True):
                self.ledger.tie(one, other)
        return tuple(
            next((axes[axis] for axes in found if axes is not None and isinstance(axes[axis], Pin)), first[axis])
            for axis in range(len(first))
        )

    def _check(self, op: Op, coupling: Coupling) -> None:
        for slot, axes in coupling.given.items():
            shape = op.outputs[slot].shape
            if shape is not None and (len(shape) != len(axes) or not all(map(_fits, shape, axes))):
                raise Unclear(f"what is known of output {slot} contradicts its shape")

    def _barrier(self, graph: Graph, op: Op, reason: str) -> None:
        for slot, value in enumerate(op.inputs):
            if value is not None:
                self._pin(value, Pin(reason, None, op, f"input {slot}"))
        for output in op.outputs:
            self._set(graph, output, _pinned(output, reason, op))

    def _pin(self, value: Value, why: Pin) -> None:
        for place, axis in enumerate(self.labels.get(value, ())):
            words = f"{why.place} axis {place}".strip() if why.op is not None else f"{value.name} axis {place}"
            self.ledger.pin(axis, Pin(why.reason, axis.size, why.op, words, minor=why.minor))

    def _set(self, graph: Graph, value: Value, axes: Axes | None) -> None:
        if axes is not None and value.name:
            self.labels[value] = axes
            self.owners[value] = graph


def _pinned(value: Value, reason: str, op: Op | None = None) -> Axes | None:
    shape: Sequence[Dim] | None = value.shape
    place = "" if op is not None else value.name
    return None if shape is None else tuple(Pin(reason, size, op, place) for size in shape)


def _is_static(shape: Sequence[Dim] | None) -> bool:
    return shape is not None and all(isinstance(size, int) for size in shape)


def _alike(one: Axes, other: Axes) -> bool:
    return len(one) == len(other) and all(a.size == b.size for a, b in zip(one, other, strict=True))


def _fits(size: Dim, axis: object) -> bool:
    length = getattr(axis, "size", None)
    return not isinstance(size, int) or not isinstance(length, int) or size == length
