"""Control flow whose course is known before the run, written out; a branch that is chosen at the run is a selection."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import networkx as nx
import numpy as np

from nncomp.ir import Graph, Op, TensorType, Value
from nncomp_tvm.lowering.adding import Adding
from nncomp_tvm.lowering.calls import NotLoweredError

MAX_STEPS: Final = 256
"""Iterations that are written out at the most."""

MAX_PINNED: Final = 64
"""Elements of an input that may be taken from the calibration data as they are there."""


def inlined(graph: Graph, body: Graph, inputs: Sequence[Value]) -> tuple[Value, ...]:
    """Copy a body into the graph around it, reading ``inputs``; return what its outputs became."""
    given = {**body.captures, **dict(zip(body.inputs, inputs, strict=True))}
    copied = graph.insert_copy(body, given)
    return tuple(copied[value] for value in body.outputs)


def without_branches(graph: Graph, op: Op) -> tuple[Value, ...]:
    """If(c) = then or else where c is known; else Where(c, then, else), where both give the same sizes.

    Both branches are computed then: neither has side effects in ONNX.

    Raises:
        NotLoweredError: the condition decides on sizes.
    """
    chosen = graph.array(op.inputs[0])
    if chosen is not None:
        return inlined(graph, op.bodies["then_branch" if bool(chosen.ravel()[0]) else "else_branch"], ())
    pairs = list(zip(op.bodies["then_branch"].outputs, op.bodies["else_branch"].outputs, strict=True))
    for one, other in pairs:
        alike = isinstance(one.type, TensorType) and isinstance(other.type, TensorType)
        if not alike or one.type != other.type or one.tensor_type is None or one.tensor_type.static_shape is None:
            raise NotLoweredError(_undecided(graph, op, one, other))
    add = Adding(graph)
    condition = add("Reshape", op.inputs[0], add.constant([], np.int64))
    yes, no = (inlined(graph, op.bodies[name], ()) for name in ("then_branch", "else_branch"))
    return tuple(add("Where", condition, a, b) for a, b in zip(yes, no, strict=True))


def _undecided(graph: Graph, op: Op, one: Value, other: Value) -> str:
    """Return why branches cannot be selected from, and which inputs' numbers, taken from data, would decide."""
    what = "sizes that only the run knows" if one.type == other.type else "different sizes"
    above = {op.inputs[0], *nx.ancestors(graph.nx, op.inputs[0])}
    asked = [value for value in graph.inputs if value in above and value.default is None]
    why = f"its branches give {what}, {one.type} and {other.type}"
    if not asked or not all(_is_small(value) for value in asked):
        return why
    return f"{why}; it asks for {' and '.join(repr(value.name) for value in asked)}, which --data would fix"


def _is_small(value: Value) -> bool:
    sizes = None if value.tensor_type is None else value.tensor_type.static_shape
    return sizes is not None and prod(sizes) <= MAX_PINNED


def unroll_loop(graph: Graph, op: Op) -> tuple[Value, ...]:
    """Write out a Loop whose number of iterations has a known bound; where a condition ends it, state stays as it is.

    Raises:
        NotLoweredError: there is no bound, it is too high, or as many results are stacked as the condition lets pass.
    """
    body, add = op.bodies["body"], Adding(graph)
    count, start = graph.array(op.input(0)), graph.array(op.input(1))
    going = body.outputs[0]
    kept = going is body.inputs[1] or (
        going.producer is not None and going.producer.is_a("Identity") and going.producer.inputs[0] is body.inputs[1]
    )
    always = body.array(going)
    first = op.input(1) if start is None else None
    computed = first is not None or not (kept or always is not None)
    if count is None:
        raise NotLoweredError("the number of its iterations is not known before the run")
    steps = int(count.ravel()[0]) if start is None or bool(start.ravel()[0]) else 0
    if always is not None and not bool(always.ravel()[0]):
        steps = min(steps, 1)
    if steps > MAX_STEPS:
        raise NotLoweredError(f"it may take {steps} iterations; no more than {MAX_STEPS} are written out")
    state: list[Value] = [value for value in op.inputs[2:] if value is not None]
    scanned: list[list[Value]] = [[] for _ in body.outputs[1 + len(state) :]]
    if scanned and (computed or steps == 0):
        raise NotLoweredError("how many results it stacks is not known before the run")
    scalar = add.constant([], np.int64)
    condition = add.constant(True, np.bool_) if first is None else add("Reshape", first, scalar)
    for step in range(steps):
        results = inlined(graph, body, [add.constant(step), condition, *state])
        new = list(results[1 : 1 + len(state)])
        if computed:
            state = [add("Where", condition, one, old) for one, old in zip(new, state, strict=True)]
            condition = add("And", condition, add("Reshape", results[0], scalar))
        else:
            state = new
        for items, item in zip(scanned, results[1 + len(state) :], strict=True):
            items.append(item)
    return tuple([add("Identity", one) for one in state] + [add.stacked(items, 0) for items in scanned])


def unroll_scan(graph: Graph, op: Op) -> tuple[Value, ...]:
    """Write out a Scan over a fixed number of elements.

    Raises:
        NotLoweredError: their number is not known, or too high; or it is that of opset 8, with a batch axis.
    """
    if graph.opsets.get("", 1) < 9:
        raise NotLoweredError("that of opset 8 is not built")
    body, add = op.bodies["body"], Adding(graph)
    scans = int(op.attr("num_scan_inputs"))
    inputs = [value for value in op.inputs if value is not None]
    state, fed = inputs[: len(inputs) - scans], inputs[len(inputs) - scans :]
    outs = len(body.outputs) - len(state)
    axes = op.attr("scan_input_axes") or (0,) * scans
    backwards = op.attr("scan_input_directions") or (0,) * scans
    out_axes = op.attr("scan_output_axes") or (0,) * outs
    out_backwards = op.attr("scan_output_directions") or (0,) * outs
    shape = fed[0].tensor_type.static_shape if fed[0].tensor_type is not None else None
    if shape is None or not shape[axes[0]]:
        raise NotLoweredError("the number of its steps is not known before the run")
    steps = shape[axes[0]]
    if steps > MAX_STEPS:
        raise NotLoweredError(f"it takes {steps} steps; no more than {MAX_STEPS} are written out")
    scanned: list[list[Value]] = [[] for _ in range(outs)]
    for step in range(steps):
        items = [
            add.at(value, axis, steps - 1 - step if back else step)
            for value, axis, back in zip(fed, axes, backwards, strict=True)
        ]
        results = inlined(graph, body, [*state, *items])
        state = list(results[: len(state)])
        for found, item in zip(scanned, results[len(state) :], strict=True):
            found.append(item)
    stacked = [
        add.stacked(found[::-1] if back else found, axis)
        for found, axis, back in zip(scanned, out_axes, out_backwards, strict=True)
    ]
    return tuple([add("Identity", one) for one in state] + stacked)
