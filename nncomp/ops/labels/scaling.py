"""Conversions between floats and integers: scales and zero points are one number, or one a channel, or one a block."""

from __future__ import annotations

from nncomp.ops.coupling import Axes, Coupling, Pin


def scaled(c: Coupling) -> None:
    """Y = x * scale, or x / scale (QuantizeLinear, DequantizeLinear), along ``axis``."""
    x = c.axes(0)
    for slot in (1, 2):
        if c.has(slot):
            _tie(c, x, c.axes(slot))
    c.give(x)


def _tie(c: Coupling, x: Axes, parameter: Axes) -> None:
    if not parameter or (len(parameter) == 1 and isinstance(parameter[0], Pin) and parameter[0].size == 1):
        return
    along = c.op.attr("axis", 1) % len(x)
    if len(parameter) == 1:
        c.tie(x[along], parameter[0])
        return
    for place, (axis, found) in enumerate(zip(x, parameter, strict=True)):
        if place == along:
            c.pin(axis, "scaled in blocks")
            c.pin(found, "scaled in blocks")
        else:
            c.tie(axis, found)
