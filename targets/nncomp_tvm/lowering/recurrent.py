"""LSTM, GRU and RNN, written out step by step: W x of all steps in one product, R h one product a step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from nncomp.ir import Graph, Op, Value
from nncomp_tvm.lowering.adding import Adding

MAX_STEPS: Final = 512
"""Steps, of all directions together, that are written out at the most."""

_GATES: Final[Mapping[str, int]] = MappingProxyType({"LSTM": 4, "GRU": 3, "RNN": 1})
_ACTIVATIONS: Final = MappingProxyType(
    {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
)
_PLAIN: Final = frozenset({"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"})


def without_recurrence(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """Write out an LSTM, GRU or RNN over a fixed number of steps; None where it has what is not built here.

    The equations are those of ONNX's operators of these names; gates lie in the order iofc, zrh, i.
    """
    shape = op.inputs[0].tensor_type.static_shape if op.inputs[0] and op.inputs[0].tensor_type else None
    directions = 2 if op.attr("direction", "forward") == "bidirectional" else 1
    functions = op.attr("activations") or _ACTIVATIONS[op.kind] * directions
    if shape is None or any(one not in _PLAIN for one in functions) or op.attrs.get("clip") is not None:
        return None
    batch_first = bool(op.attr("layout", 0))
    steps = shape[1] if batch_first else shape[0]
    if not 0 < steps * directions <= MAX_STEPS or op.attr("input_forget", 0):
        return None
    add = Adding(graph)
    assert op.inputs[0] is not None
    data: Value = add("Transpose", op.inputs[0], perm=(1, 0, 2)) if batch_first else op.inputs[0]
    batch = shape[0] if batch_first else shape[1]
    runs = []
    for number in range(directions):
        backwards = number == 1 or op.attr("direction", "forward") == "reverse"
        per = len(functions) // directions
        own = tuple(functions[number * per : (number + 1) * per])
        cell = _Cell(add, op, number, (steps, batch), functions=own, batch_first=batch_first)
        runs.append(cell.run(data, backwards=backwards))
    outputs = add.stacked([add.stacked(run.outputs, 0) for run in runs], 1)  # (steps, directions, batch, hidden)
    last = [add.stacked([run.hidden for run in runs], 0)]
    if op.kind == "LSTM":
        last.append(add.stacked([run.cell for run in runs], 0))
    if batch_first:
        outputs = add("Transpose", outputs, perm=(2, 0, 1, 3))
        last = [add("Transpose", one, perm=(1, 0, 2)) for one in last]
    return (outputs, *last)


@dataclass
class _Run:
    outputs: list[Value]
    hidden: Value
    cell: Any


class _Cell:
    """One direction: weights cut out of the op's, and its equations."""

    def __init__(
        self,
        add: Adding,
        op: Op,
        number: int,
        sizes: tuple[int, int],
        *,
        functions: tuple[str, ...],
        batch_first: bool,
    ) -> None:
        self.add, self.op, self.functions = add, op, functions
        self.steps, batch = sizes
        self.hidden = int(op.attr("hidden_size"))
        self.gates = _GATES[op.kind]
        dtype = op.inputs[0].tensor_type.dtype.numpy()  # type: ignore[union-attr]
        self.weights = add("Transpose", add.at(op.inputs[1], 0, number), perm=(1, 0))  # type: ignore[arg-type]
        self.recurrence = add("Transpose", add.at(op.inputs[2], 0, number), perm=(1, 0))  # type: ignore[arg-type]
        size = self.gates * self.hidden
        bias = op.input(3)
        both = add.at(bias, 0, number) if bias is not None else add.constant(np.zeros(2 * size), dtype)
        self.input_bias, self.hidden_bias = add.part(both, 0, 0, size), add.part(both, 0, size, 2 * size)
        zero = add.constant(np.zeros((batch, self.hidden)), dtype)
        self.lengths = op.input(4)
        axis = 1 if batch_first else 0
        self.first = add.at(op.inputs[5], axis, number) if op.input(5) is not None else zero  # type: ignore[arg-type]
        self.first_cell = add.at(op.inputs[6], axis, number) if op.input(6) is not None else zero  # type: ignore[arg-type]
        self.peepholes = add.at(op.inputs[7], 0, number) if op.input(7) is not None else None  # type: ignore[arg-type]
        self.one, self.zero = add.constant(1, dtype), zero

    def run(self, data: Value, *, backwards: bool) -> _Run:
        """Run over ``data`` (steps, batch, features)."""
        add = self.add
        fed = add("Add", add("MatMul", data, self.weights), self.input_bias)
        hidden, cell = self.first, self.first_cell
        outputs: list[Value] = [hidden] * self.steps
        for step in reversed(range(self.steps)) if backwards else range(self.steps):
            new, new_cell = self._step(add.at(fed, 0, step), hidden, cell)
            if self.lengths is None:
                hidden, cell, outputs[step] = new, new_cell, new
                continue
            inside = add("Unsqueeze", add("Less", add.constant(step, np.int32), self.lengths), add.constant([1]))
            hidden, cell = add("Where", inside, new, hidden), add("Where", inside, new_cell, cell)
            outputs[step] = add("Where", inside, new, self.zero)
        return _Run(outputs, hidden, cell)

    def _step(self, fed: Value, hidden: Value, cell: Value) -> tuple[Value, Value]:
        if self.op.kind == "GRU":
            return self._gru(fed, hidden), cell
        add = self.add
        total = add("Add", add("Add", fed, add("MatMul", hidden, self.recurrence)), self.hidden_bias)
        if self.op.kind == "RNN":
            return add(self.functions[0], total), cell
        f, g, h = self.functions
        into, out, forget, new = (self._gate(total, number) for number in range(4))
        if self.peepholes is not None:
            into, forget = (add("Add", one, add("Mul", self._peephole(k), cell)) for one, k in ((into, 0), (forget, 2)))
        cell = add("Add", add("Mul", add(f, forget), cell), add("Mul", add(f, into), add(g, new)))
        if self.peepholes is not None:
            out = add("Add", out, add("Mul", self._peephole(1), cell))
        return add("Mul", add(f, out), add(h, cell)), cell

    def _gru(self, fed: Value, hidden: Value) -> Value:
        """z, r from both; h~ = g(W x + r * (R h + Rb)) if linear_before_reset, else g(W x + R (r * h) + Rb)."""
        add, size = self.add, self.hidden
        f, g = self.functions
        two, after = (0, 2 * size), (2 * size, 3 * size)
        gates = add("Add", add.part(fed, 1, *two), add("MatMul", hidden, add.part(self.recurrence, 1, *two)))
        gates = add(f, add("Add", gates, add.part(self.hidden_bias, 0, *two)))
        update, reset = add.part(gates, 1, 0, size), add.part(gates, 1, size, 2 * size)
        weight, bias = add.part(self.recurrence, 1, *after), add.part(self.hidden_bias, 0, *after)
        if self.op.attr("linear_before_reset", 0):
            inner = add("Mul", reset, add("Add", add("MatMul", hidden, weight), bias))
        else:
            inner = add("Add", add("MatMul", add("Mul", reset, hidden), weight), bias)
        new = add(g, add("Add", add.part(fed, 1, *after), inner))
        return add("Add", add("Mul", add("Sub", self.one, update), new), add("Mul", update, hidden))  # type: ignore[no-any-return]

    def _gate(self, total: Value, number: int) -> Value:
        return self.add.part(total, 1, number * self.hidden, (number + 1) * self.hidden)

    def _peephole(self, number: int) -> Value:
        assert self.peepholes is not None
        return self.add.part(self.peepholes, 0, number * self.hidden, (number + 1) * self.hidden)
