"""Ops that take some elements, repeat them, or add some: Slice, Split, Gather, Tile, Expand, Pad and their kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ops.accessors import squeeze_axes
from nncomp.ops.coupling import Atoms, Axis, Coupling, Pin, Removal, Unclear
from nncomp.ops.labels.joining import joined
from nncomp.ops.labels.reshaping import reshaped

_COMPUTED: Final = "which elements are taken is computed"
_STEP: Final = "sliced with a step that does not divide its length"
_DATA: Final = "which elements are taken depends on the data"


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
        given = _ints(data)
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


def squeeze(c: Coupling) -> None:
    """Drop axes of one element."""
    x, gone = c.axes(0), squeeze_axes(c.op, c.graph)
    if gone is None:
        raise Unclear("which axes are dropped is not known")
    c.give([axis for place, axis in enumerate(x) if place not in gone])


def unsqueeze(c: Coupling) -> None:
    """Add axes of one element."""
    x, new = list(c.axes(0)), squeeze_axes(c.op, c.graph)
    if new is None:
        raise Unclear("which axes are added is not known")
    rank = len(x) + len(new)
    c.give([c.pinned(1, "a single element") if place in new else x.pop(0) for place in range(rank)])


def trilu(c: Coupling) -> None:
    """Keep a triangle of the last two axes, which stay."""
    x = c.axes(0)
    for axis in x[-2:]:
        c.pin(axis, "a triangle is cut from this axis")
    c.give(x)


def center_crop_pad(c: Coupling) -> None:
    """Cut or pad some axes to a size around their middle; they stay."""
    _resized(c, "cut or padded around its middle")


def reverse_sequence(c: Coupling) -> None:
    """Reverse each sample's beginning along the time axis, which stays."""
    x = c.axes(0)
    time, batch = c.op.attr("time_axis", 0), c.op.attr("batch_axis", 1)
    c.pin(x[time], "reversed up to each sample's length")
    c.tie(x[batch], c.axes(1)[0])
    c.give(x)


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


def depth_to_space(c: Coupling) -> None:
    """Move blocks of channels to space: (N, b, b, C, H, W), or (N, C, b, b, H, W), permuted."""
    x, shape = c.axes(0), c.shape()
    block, size = c.op.attr("blocksize"), shape[1]
    if not isinstance(size, int):
        raise Unclear("the number of channels is not known")
    _stay(c, x[2:])
    last = c.op.attr("mode", "DCR") == "DCR"
    deep, channels = ((block, block, size), 2) if last else ((size, block, block), 0)
    c.give((x[0], _blocks(c, x[1], deep, channels), *(c.pinned(one, "made of blocks") for one in shape[2:])))


def space_to_depth(c: Coupling) -> None:
    """Move blocks of space to channels: (b, b, C), permuted."""
    x, shape = c.axes(0), c.shape()
    block, size = c.op.attr("blocksize"), x[1].size
    _stay(c, x[2:])
    if isinstance(x[1], Pin) or not isinstance(size, int):
        channels: Axis = c.pinned(shape[1], "made of channels that stay")
    else:
        channels = np.tile(x[1], block * block)
    c.give((x[0], channels, *(c.pinned(one, "made of blocks") for one in shape[2:])))


def _blocks(c: Coupling, axis: Axis, deep: tuple[int, int, int], channels: int) -> Axis:
    if isinstance(axis, Pin):
        return c.pinned(deep[channels], axis.reason)
    rows = np.moveaxis(axis.reshape(deep), channels, 0).reshape(deep[channels], -1)
    heads = np.ascontiguousarray(rows[:, 0])
    c.tie(np.repeat(heads, rows.shape[1]), rows.reshape(-1))
    return heads


def _stay(c: Coupling, axes: Sequence[Axis]) -> None:
    for axis in axes:
        c.pin(axis, "taken apart in blocks")


def _ints(array: npt.NDArray[Any] | None) -> list[int]:
    return [] if array is None else [int(number) for number in array.reshape(-1)]
