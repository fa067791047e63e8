"""Ops whose data say which elements are taken, written or compared: Gather, Scatter, TopK and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from nncomp.ops.coupling import Axis, Coupling, Pin, Removal, Unclear
from nncomp.ops.labels.reshaping import reshaped

_DATA: Final = "which elements are taken depends on the data"


def gather(c: Coupling) -> None:
    """Take elements of one axis at given places, which are rewritten; with computed ones the axis stays."""
    x = c.axes(0)
    along = c.op.attr("axis", 0) % len(x)
    axis, indices = x[along], c.array(1)
    if isinstance(axis, Pin) or indices is None:
        c.pin(axis, _DATA, f"input 0 axis {along}")
        places = c.axes(1)
        c.give((*x[:along], *places, *x[along + 1 :]))
        return
    where = np.where(indices < 0, indices + axis.size, indices).astype(np.int64)
    taken: tuple[Axis, ...] = ()
    if indices.ndim:
        flat = axis[where.reshape(-1)]
        taken = reshaped(c, (flat,), indices.shape) if indices.ndim > 1 else (flat,)
    else:
        c.pin(axis[where.reshape(-1)], "the only element taken")
    free = axis

    def edit(removal: Removal) -> None:
        kept = removal.kept(free)
        if kept is None:
            return
        new = where
        for place, one in enumerate(taken):
            flags = removal.kept(one)
            if flags is not None:
                new = np.compress(flags, new, axis=place)
        removal.set_constant(1, np.asarray((np.cumsum(kept) - 1)[new], indices.dtype))

    c.on_removal(edit)
    c.give((*x[:along], *taken, *x[along + 1 :]))


def gather_elements(c: Coupling) -> None:
    """Take one element of an axis for each place of the indices; other axes go with those of the indices."""
    x, places = c.axes(0), c.axes(1)
    c.give(_along(c, x, [places], c.op.attr("axis", 0) % len(x), out=places))


def scatter_elements(c: Coupling) -> None:
    """Write updates along one axis; other axes go with those of indices and updates."""
    x, places, updates = c.axes(0), c.axes(1), c.axes(2)
    along = c.op.attr("axis", 0) % len(x)
    _along(c, x, [places, updates], along, out=x)
    c.give(x)


def _along(
    c: Coupling, x: Sequence[Axis], others: Sequence[Sequence[Axis]], along: int, *, out: Sequence[Axis]
) -> tuple[Axis, ...]:
    for place, axis in enumerate(x):
        met = [other[place] for other in others]
        if place == along or any(one.size != axis.size for one in met):
            for one in (axis, *met):
                c.pin(one, _DATA)
            continue
        for one in met:
            c.tie(axis, one)
    return tuple(out)


def gather_nd(c: Coupling) -> None:
    """Take slices at places that the last axis of the indices names; the axes behind go through."""
    x, places = c.axes(0), c.axes(1)
    batch, depth = c.op.attr("batch_dims", 0), places[-1].size
    if not isinstance(depth, int):
        raise Unclear("how many axes are indexed is not known")
    for place in range(batch):
        c.tie(x[place], places[place])
    for axis in (*x[batch : batch + depth], places[-1]):
        c.pin(axis, _DATA)
    c.give((*places[:-1], *x[batch + depth :]))


def scatter_nd(c: Coupling) -> None:
    """Write slices at places that the last axis of the indices names; the axes behind go with those of the updates."""
    x, places, updates = c.axes(0), c.axes(1), c.axes(2)
    depth = places[-1].size
    if not isinstance(depth, int):
        raise Unclear("how many axes are indexed is not known")
    for axis in (*x[:depth], *places, *updates[: len(places) - 1]):
        c.pin(axis, _DATA)
    for axis, update in zip(x[depth:], updates[len(places) - 1 :], strict=True):
        c.tie(axis, update)
    c.give(x)


def tensor_scatter(c: Coupling) -> None:
    """Write an update into a cache along one axis; the others go together."""
    x, update = c.axes(0), c.axes(1)
    along = c.op.attr("axis", -2) % len(x)
    if c.has(2):
        c.pin(x[0], "each of them has its own place to write at")
    _along(c, x, [update], along, out=x)
    c.give(x)


def top_k(c: Coupling) -> None:
    """Compare along one axis; the others go through, to values and indices."""
    x = c.axes(0)
    along = c.op.attr("axis", -1) % len(x)
    c.pin(x[along], "its elements are compared")
    for slot, value in enumerate(c.op.outputs):
        if value.name:
            size = c.shape(slot)[along]
            c.give((*x[:along], c.pinned(size, "its elements are compared"), *x[along + 1 :]), slot)


def compress(c: Coupling) -> None:
    """Take the elements of one axis for which a condition holds."""
    x = c.axes(0)
    if c.op.attr("axis") is None:
        raise Unclear(_DATA)
    along = c.op.attr("axis") % len(x)
    c.pin(x[along], _DATA)
    c.give((*x[:along], c.pinned(c.shape()[along], _DATA), *x[along + 1 :]))


def one_hot(c: Coupling) -> None:
    """Add an axis of classes; those of the indices go through."""
    x, rank = c.axes(0), len(c.shape())
    along = c.op.attr("axis", -1) % rank
    c.give((*x[:along], c.pinned(c.shape()[along], "an axis of classes"), *x[along:]))


def trilu(c: Coupling) -> None:
    """Keep a triangle of the last two axes, which stay."""
    x = c.axes(0)
    for axis in x[-2:]:
        c.pin(axis, "a triangle is cut from this axis")
    c.give(x)


def reverse_sequence(c: Coupling) -> None:
    """Reverse each sample's beginning along the time axis, which stays."""
    x = c.axes(0)
    time, batch = c.op.attr("time_axis", 0), c.op.attr("batch_axis", 1)
    c.pin(x[time], "reversed up to each sample's length")
    c.tie(x[batch], c.axes(1)[0])
    c.give(x)
