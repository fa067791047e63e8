"""Ops that compute each element from those at the same place: labels go through, broadcast operands are tied."""

from __future__ import annotations

from nncomp.ops.coupling import Coupling, Unclear


def pointwise(c: Coupling) -> None:
    """Y = f(x0, x1, ...) with broadcasting: equally long axes are tied, of inputs and outputs."""
    operands = [c.axes(slot) for slot in range(len(c.op.inputs)) if c.has(slot)]
    if not operands:
        raise Unclear("it has no inputs")
    axes = c.broadcast(operands, c.shape())
    for slot, value in enumerate(c.op.outputs):
        if value.name:
            c.give(axes, slot)


def unary(c: Coupling) -> None:
    """Y = f(x) at each element; other inputs are parameters (Clip's bounds), and stay."""
    c.give(c.axes(0))


def everywhere(c: Coupling) -> None:
    """Every output has the labels of the first input (Dropout: data and mask)."""
    for slot, value in enumerate(c.op.outputs):
        if value.name:
            c.give(c.axes(0), slot)
