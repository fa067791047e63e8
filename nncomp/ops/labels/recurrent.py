"""Recurrent layers: one hidden unit is a row of every gate, a column of the recurrent weights, and a place in states.

x: (positions, batch, in);  w: (directions, gates * hidden, in);  r: (directions, gates * hidden, hidden);
b: (directions, 2 * gates * hidden);  states: (directions, batch, hidden);  peepholes: (directions, 3 * hidden).
"""

from __future__ import annotations

import numpy as np

from nncomp.ops.coupling import Atoms, Axes, AxesRule, Axis, Coupling, Pin, Removal


def recurrent(gates: int) -> AxesRule:
    """Return the rule of a layer with so many gates; units of both directions at one place go together."""

    def rule(c: Coupling) -> None:
        x, w, r = c.axes(0), c.axes(1), c.axes(2)
        for axis in (x[0], w[0], r[0]):
            c.pin(axis, "positions and directions are walked in order")
        c.tie(x[2], w[2])
        c.contract(0, 2, share=_length(w[2]))
        hidden = r[2]
        c.contract(2, 2, share=_length(hidden))
        _repeated(c, hidden, w[1], gates)
        _repeated(c, hidden, r[1], gates)
        if c.has(3):
            _repeated(c, hidden, c.axes(3)[1], 2 * gates)
            c.pin(c.axes(3)[0], "directions are walked in order")
        if c.has(4):
            c.axes(4)
            c.pin(c.axes(4)[0], "the length of each sample")
        for slot in (5, 6):
            if c.has(slot):
                c.tie(hidden, c.axes(slot)[2])
                for axis in c.axes(slot)[:2]:
                    c.pin(axis, "positions and directions are walked in order")
        if c.has(7):
            _repeated(c, hidden, c.axes(7)[1], 3)
            c.pin(c.axes(7)[0], "directions are walked in order")
        c.pin(x[1], "positions and directions are walked in order")
        _give(c, hidden)
        _set_hidden_size(c, hidden)

    return rule


def _length(axis: Axis) -> int:
    return axis.size if isinstance(axis.size, int) else 1


def _give(c: Coupling, hidden: Axis) -> None:
    for slot, value in enumerate(c.op.outputs):
        if value.name:
            others: Axes = tuple(c.pinned(size, "walked in order") for size in c.shape(slot)[:-1])
            c.give((*others, hidden), slot)


def _set_hidden_size(c: Coupling, hidden: Axis) -> None:
    def edit(removal: Removal) -> None:
        if removal.kept(hidden) is not None:
            removal.set_attrs(hidden_size=int(removal.size(hidden) or 0))

    c.on_removal(edit)


def _repeated(c: Coupling, hidden: Axis, rows: Axis, times: int) -> None:
    """Tie each of ``times`` blocks of ``rows`` to the hidden units."""
    if isinstance(hidden, Pin):
        c.tie(hidden, rows)
        return
    blocks: Atoms = np.tile(hidden, times)
    c.tie(blocks, rows)
