"""Ops that repeat elements or put new ones at the ends: Tile, Expand, Pad and CenterCropPad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nncomp.ops.coupling import Atoms, Axis, Coupling, Pin, Removal
from nncomp.ops.labels.joining import joined


def tile(c: Coupling) -> None:
    """Repeat axes; one of a single element is copied, and the number of copies rewritten."""
    x, shape, repeats = c.axes(0), c.shape(), c.array(1)
    if repeats is None or repeats.size != len(x):
        for axis in x:
            c.pin(axis, "how often it is repeated is computed")
        c.give([c.pinned(size, "how often it is repeated is computed") for size in shape])
        return
    out: list[Axis] = []
    for place, (axis, times) in enumerate(zip(x, repeats.tolist(), strict=True)):
        if not isinstance(axis, Pin):
            out.append(np.tile(axis, times))
        elif axis.size == 1 and times > 1:
            made = c.copies(times)
            _patch_size(c, 1, place, made)
            out.append(made)
        else:
            out.append(axis if times == 1 else c.pinned(shape[place], axis.reason))
    c.give(out)


def _patch_size(c: Coupling, slot: int, place: int, axis: Axis) -> None:
    def edit(removal: Removal) -> None:
        if removal.kept(axis) is not None:
            removal.patch(slot, {place: int(removal.size(axis) or 0)}, c.array(slot))

    c.on_removal(edit)


def expand(c: Coupling) -> None:
    """Broadcast to a shape, which is rewritten; an axis of a single element is copied."""
    x, shape = c.axes(0), c.shape()
    target = c.op.input(1)
    out: list[Axis] = []
    for place, size in enumerate(shape, start=-len(shape)):
        axis = x[place] if len(x) >= -place else None
        if axis is None or (isinstance(axis, Pin) and axis.size == 1):
            out.append(axis if axis is not None and size == 1 else c.copies(size))
        else:
            out.append(axis)
    c.give(out)
    length = target.shape[0] if target is not None and target.shape else None
    if not isinstance(length, int):
        for axis in out:
            c.pin(axis, "broadcast to a shape of unknown rank")
        return
    c.sizes_operand(1, out[len(out) - length :] if length < len(out) else out)


def pad(c: Coupling) -> None:
    """Put new elements at the ends of axes, or cut some off; the numbers are rewritten.

    Elements that mirror or repeat others follow them, so their axes stay.
    """
    x, shape = c.axes(0), c.shape()
    amounts = _pads(c, len(x))
    out: list[Axis] = []
    constant = c.op.attr("mode", "constant") == "constant"
    for place, axis in enumerate(x):
        before, after = (None, None) if amounts is None else amounts[place]
        if before == after == 0:
            out.append(axis)
        elif isinstance(axis, Pin) or before is None or after is None or not constant:
            c.pin(axis, "how it is padded is computed" if before is None else "padded with copies of its elements")
            out.append(c.pinned(shape[place], "padded"))
        else:
            out.append(_padded(c, axis, place, before, after))
    c.give(out)


def _padded(c: Coupling, axis: Atoms, place: int, before: int, after: int) -> Axis:
    front, back = c.fresh(max(before, 0)), c.fresh(max(after, 0))
    inner = axis[max(-before, 0) : axis.size - max(-after, 0)]
    out = joined(c, [one for one in (front, inner, back) if one.size])
    rank = len(c.axes(0))
    cut_front, cut_back = axis[: max(-before, 0)], axis[axis.size - max(-after, 0) :]

    def edit(removal: Removal) -> None:
        new = {
            place: int(removal.size(front) or 0) - int(removal.size(cut_front) or 0),
            place + rank: int(removal.size(back) or 0) - int(removal.size(cut_back) or 0),
        }
        if new != {place: before, place + rank: after}:
            _set_pads(c, removal, place, new)

    c.on_removal(edit)
    return out


def _pads(c: Coupling, rank: int) -> list[tuple[int, int]] | None:
    """Return (before, after) of each axis; None when computed."""
    given = c.op.attr("pads") or c.op.attr("paddings")
    places: Sequence[int] = range(rank)
    if given is None:
        data = c.array(1)
        if data is None:
            return None
        given = data.reshape(-1).tolist()
        if c.has(3):
            named = c.array(3)
            if named is None:
                return None
            places = [int(axis) % rank for axis in named.reshape(-1)]
    half = len(given) // 2
    found = [(0, 0)] * rank
    for number, place in enumerate(places):
        found[place] = (int(given[number]), int(given[number + half]))
    return found


def _set_pads(c: Coupling, removal: Removal, place: int, new: Mapping[int, int]) -> None:
    rank = len(c.axes(0))
    for name in ("pads", "paddings"):
        given = c.op.attr(name)
        if given is not None:
            removal.set_attrs(**{name: tuple(new.get(number, size) for number, size in enumerate(given))})
            return
    named = c.array(3) if c.has(3) else None
    order = list(range(rank)) if named is None else [int(axis) % rank for axis in named.reshape(-1)]
    numbers = {
        order.index(place): new[place],
        order.index(place) + len(order): new[place + rank],
    }
    removal.patch(1, numbers, c.array(1))


def center_crop_pad(c: Coupling) -> None:
    """Cut or pad some axes to a size around their middle; they stay."""
    _resized(c, "cut or padded around its middle")


def _resized(c: Coupling, reason: str) -> None:
    """Let axes that keep their size through, and pin the others."""
    x, shape = c.axes(0), c.shape()
    out: list[Axis] = []
    for axis, size in zip(x, shape, strict=True):
        if isinstance(axis, Pin) or axis.size != size:
            c.pin(axis, reason)
            out.append(c.pinned(size, reason))
        else:
            out.append(axis)
    c.give(out)
