"""Ops that read between elements: axes that keep their size go through, the others stay."""

from __future__ import annotations

from typing import Final

import numpy as np

from nncomp.ops.coupling import Axis, Coupling, Pin, Unclear

_BETWEEN: Final = "it reads between the elements of this axis"


def resize(c: Coupling) -> None:
    """Interpolate axes whose size changes; the sizes operand of the others is rewritten."""
    x, shape = c.axes(0), c.shape()
    crops = c.op.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    out: list[Axis] = []
    for axis, size in zip(x, shape, strict=True):
        if isinstance(axis, Pin) or axis.size != size or crops:
            c.pin(axis, _BETWEEN)
            out.append(c.pinned(size, _BETWEEN))
        else:
            out.append(axis)
    c.give(out)
    if c.op.kind == "Resize" and c.has(3):
        named = c.op.attr("axes")
        c.sizes_operand(3, out if named is None else [out[axis] for axis in named])


def grid_sample(c: Coupling) -> None:
    """Read (N, C, ...) where a grid (N, ..., k) says; channels go through."""
    x, grid = c.axes(0), c.axes(1)
    _pin(c, (*x[2:], grid[-1]))
    c.tie(x[0], grid[0])
    c.give((x[0], x[1], *grid[1:-1]))


def regions(c: Coupling) -> None:
    """Read regions of (N, C, H, W); channels go through."""
    x, shape = c.axes(0), c.shape()
    _pin(c, (x[0], *x[2:]))
    c.give((c.pinned(shape[0], "regions"), x[1], *(c.pinned(size, "regions") for size in shape[2:])))


def columns_to_image(c: Coupling) -> None:
    """Add up blocks: (N, C * block, L) to (N, C, ...); a channel's elements of a block go together."""
    x, shape = c.axes(0), c.shape()
    block = c.array(2)
    if block is None:
        raise Unclear("the size of a block is computed")
    _pin(c, x[2:])
    channels = x[1]
    if isinstance(channels, Pin):
        c.give((x[0], c.pinned(shape[1], channels.reason), *(c.pinned(size, _BETWEEN) for size in shape[2:])))
        return
    rows = channels.reshape(-1, int(np.prod(block)))
    heads = np.ascontiguousarray(rows[:, 0])
    c.tie(np.repeat(heads, rows.shape[1]), channels)
    c.give((x[0], heads, *(c.pinned(size, _BETWEEN) for size in shape[2:])))


def unpool(c: Coupling) -> None:
    """Put elements back where MaxPool found them, counted over all channels: they stay."""
    del c
    raise Unclear("its indices count positions over all channels")


def _pin(c: Coupling, axes: tuple[Axis, ...]) -> None:
    for axis in axes:
        c.pin(axis, _BETWEEN)
