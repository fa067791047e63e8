"""Ops that compute each element from those at the same place: labels go through, broadcast operands are tied."""

from __future__ import annotations

from nncomp.ops.coupling import AxesRule, Coupling, Unclear


def pointwise(c: Coupling) -> None:
    """Y = f(x0, x1, ...) with broadcasting: equally long axes are tied, of inputs and outputs."""
    operands = [c.axes(slot) for slot in range(len(c.op.inputs)) if c.has(slot)]
    if not operands:
        raise Unclear("it has no inputs")
    axes = c.broadcast(operands, c.shape())
    for slot, value in enumerate(c.op.outputs):
        if value.name:
            c.give(axes, slot)


def pointwise_of(*data: int) -> AxesRule:
    """Return :func:`pointwise` for the inputs ``data``; all others are parameters, and stay."""

    def rule(c: Coupling) -> None:
        c.give(c.broadcast([c.axes(slot) for slot in data], c.shape()))

    return rule


def unary(c: Coupling) -> None:
    """Y = f(x) at each element; other inputs are parameters (Clip's bounds), and stay."""
    c.give(c.axes(0))


def typed_like(c: Coupling) -> None:
    """Y = x in the element type of the second input, which is not read."""
    c.ignore(1)
    c.give(c.axes(0))


def everywhere(c: Coupling) -> None:
    """Every output has the labels of the first input (Dropout: data and mask)."""
    for slot, value in enumerate(c.op.outputs):
        if value.name:
            c.give(c.axes(0), slot)
