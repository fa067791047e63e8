"""Reductions: those to which a zero adds nothing contract their axes, the others keep them whole."""

from __future__ import annotations

from nncomp.ops.accessors import reduce_axes
from nncomp.ops.coupling import Axis, Coupling, Unclear


def summed(c: Coupling) -> None:
    """Contract: sums, sums of squares and of absolute values, and what is made of them; an absent term is a zero."""
    for place in _axes(c):
        c.contract(0, place)
    _drop(c)


def compared(c: Coupling) -> None:
    """Means, extremes and products depend on each element: reduced axes stay."""
    x = c.axes(0)
    for place in _axes(c):
        c.pin(x[place], "reduced by what depends on each element", f"input 0 axis {place}")
    _drop(c)


def running_sum(c: Coupling) -> None:
    """Sums of all elements up to each one: an absent term is a zero."""
    x, axis = c.axes(0), c.array(1)
    if axis is None:
        raise Unclear("the axis is computed")
    c.contract(0, int(axis.reshape(-1)[0]) % len(x))
    c.give(x)


def running_product(c: Coupling) -> None:
    """Products of all elements up to each one: the axis stays."""
    x, axis = c.axes(0), c.array(1)
    if axis is None:
        raise Unclear("the axis is computed")
    c.pin(x[int(axis.reshape(-1)[0])], "each product depends on the elements before")
    c.give(x)


def _axes(c: Coupling) -> tuple[int, ...]:
    axes = reduce_axes(c.op, c.graph)
    if axes is None:
        raise Unclear("the reduced axes are computed")
    return axes


def _drop(c: Coupling) -> None:
    x, axes = c.axes(0), _axes(c)
    out: list[Axis] = []
    for place, axis in enumerate(x):
        if place not in axes:
            out.append(axis)
        elif c.op.attr("keepdims", 1):
            out.append(c.pinned(1, "reduced"))
    c.give(out)
