"""Slice and Split: elements between bounds, which are rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ops.coupling import Atoms, Axis, Coupling, Pin, Removal

_COMPUTED: Final = "which elements are taken is computed"


_STEP: Final = "sliced with a step that does not divide its length"


def slice_(c: Coupling) -> None:
    """Take start:end:step of some axes; bounds are rewritten."""
    out: list[Axis] = list(c.axes(0))
    shape = c.shape()
    bounds = _slice_bounds(c)
    if bounds is None:
        for place, axis in enumerate(out):
            size = shape[place]
            if isinstance(axis, Pin) or size != axis.size:  # as long as before: it is taken whole
                c.pin(axis, _COMPUTED)
                out[place] = c.pinned(size, _COMPUTED)
            else:
                c.pin(axis, _COMPUTED)
        c.give(out)
        return
    for number, (place, start, end, step) in enumerate(bounds):
        axis = out[place % len(out)]
        if isinstance(axis, Pin):
            out[place % len(out)] = c.pinned(shape[place % len(out)], axis.reason, axis.option)
            continue
        out[place % len(out)] = _sliced(c, axis, number, slice(start, end, step))
    c.give(out)


def _sliced(c: Coupling, axis: Atoms, number: int, part: slice) -> Axis:
    places = np.arange(axis.size)[part]
    step = part.step
    if abs(step) > 1:
        if axis.size % abs(step):
            c.pin(axis, _STEP)
            return c.pinned(places.size, _STEP)
        rows = axis.reshape(-1, abs(step))
        c.tie(np.repeat(rows[:, 0], rows.shape[1]), rows.reshape(-1))

    def edit(removal: Removal) -> None:
        kept = removal.kept(axis)
        if kept is None:
            return
        moved = (np.cumsum(kept) - 1)[places[kept[places]]]
        if not moved.size:
            return
        first, last = int(moved[0]), int(moved[-1])
        end = last + (1 if step > 0 else -1)
        _set_bounds(c, removal, number, first, end if end >= 0 else -(2**31))

    c.on_removal(edit)
    return axis[places]


def _slice_bounds(c: Coupling) -> list[tuple[int, int, int, int]] | None:
    """Return (axis, start, end, step) of each sliced axis; None when a number is computed."""
    if c.op.attr("starts") is not None:
        starts, ends, steps = c.op.attr("starts"), c.op.attr("ends"), None
        axes = c.op.attr("axes") or range(len(starts))
    else:
        arrays = [c.array(slot) for slot in range(1, 5)]
        given = [c.has(slot) for slot in range(1, 5)]
        if any(has and array is None for has, array in zip(given, arrays, strict=True)):
            return None
        starts, ends = _ints(arrays[0]), _ints(arrays[1])
        axes = range(len(starts)) if arrays[2] is None else _ints(arrays[2])
        steps = None if arrays[3] is None else _ints(arrays[3])
    return list(zip(axes, starts, ends, steps or [1] * len(starts), strict=True))


def _set_bounds(c: Coupling, removal: Removal, number: int, start: int, end: int) -> None:
    if c.op.attr("starts") is not None:
        starts, ends = list(c.op.attr("starts")), list(c.op.attr("ends"))
        starts[number], ends[number] = start, end
        removal.set_attrs(starts=tuple(starts), ends=tuple(ends))
        return
    removal.patch(1, {number: start}, c.array(1))
    removal.patch(2, {number: end}, c.array(2))


def split(c: Coupling) -> None:
    """Cut an axis into parts; their sizes are written out."""
    x = c.axes(0)
    along = c.op.attr("axis", 0) % len(x)
    sizes = [c.shape(slot)[along] for slot in range(len(c.op.outputs))]
    axis = x[along]
    parts: list[Axis]
    if isinstance(axis, Pin) or not all(isinstance(size, int) for size in sizes):
        c.pin(axis, "split into parts of unknown size")
        parts = [c.pinned(size, "split from an axis that stays") for size in sizes]
    else:
        ends = np.cumsum(np.asarray(sizes, np.int64))
        parts = list(np.split(axis, ends[:-1]))
        _split_sizes(c, axis, parts)
    for slot, part in enumerate(parts):
        c.give((*x[:along], part, *x[along + 1 :]), slot)


def _split_sizes(c: Coupling, axis: Axis, parts: Sequence[Axis]) -> None:
    attribute = c.graph.opsets.get("", 1) < 13

    def edit(removal: Removal) -> None:
        if removal.kept(axis) is None:
            return
        sizes = [int(removal.size(part) or 0) for part in parts]
        if attribute:
            removal.set_attrs(split=tuple(sizes))
        else:
            removal.set_attrs(num_outputs=None)
            removal.set_constant(1, np.array(sizes, np.int64))

    c.on_removal(edit)


def _ints(array: npt.NDArray[Any] | None) -> list[int]:
    return [] if array is None else [int(number) for number in array.reshape(-1)]
