"""Normalizations and softmaxes: an axis over which statistics are taken stays; removing part of it changes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nncomp.ops.accessors import softmax_axis
from nncomp.ops.coupling import Axis, Coupling, Pin, Removal, Unclear

_STATISTICS = "statistics are taken over this axis"


def softmax(c: Coupling) -> None:
    """Exponentials by their sum along an axis (before opset 13: along all from ``axis`` on)."""
    x = c.axes(0)
    along = softmax_axis(c.op, c.graph.opsets)
    first = c.op.attr("axis", 1) % len(x)
    _pin(c, x[first:] if along is None else [x[along]], _STATISTICS)
    c.give(x)


def layer_normalization(c: Coupling) -> None:
    """Statistics over all axes from ``axis`` on; scale and bias have those axes.

    When approximations are allowed these axes go through, as one pruned network would be trained anew.
    """
    x = c.axes(0)
    first = c.op.attr("axis", -1) % len(x)
    if not c.approximate:
        _pin(c, x[first:], _STATISTICS)
    _tie_parameters(c, x[first:], range(1, len(c.op.inputs)))
    c.give(x)
    for slot, value in enumerate(c.op.outputs[1:], start=1):
        if value.name:
            c.give((*x[:first], *(c.pinned(1, "a statistic") for _ in x[first:])), slot)


def skip_layer_normalization(c: Coupling) -> None:
    """Normalize input + skip over the last axis, to which all other operands belong."""
    x, skip = c.axes(0), c.axes(1)
    out = c.broadcast([x, skip], c.shape())
    if not c.approximate:
        _pin(c, out[-1:], _STATISTICS)
    _tie_parameters(c, out[-1:], range(2, len(c.op.inputs)))
    for slot in (0, 3):
        if slot < len(c.op.outputs) and c.op.outputs[slot].name:
            c.give(out, slot)


def over_axes(c: Coupling) -> None:
    """Statistics over the axes that an attribute names (MeanVarianceNormalization, LpNormalization, LRN)."""
    x = c.axes(0)
    if c.op.kind == "MeanVarianceNormalization":
        axes = c.op.attr("axes") or (0, 2, 3)
    else:
        axes = (1,) if c.op.kind == "LRN" else (c.op.attr("axis", -1),)
    _pin(c, [x[axis] for axis in axes], _STATISTICS)
    c.give(x)


def group_normalization(c: Coupling) -> None:
    """Statistics of each group of channels: whole groups can be removed, and ``num_groups`` follows.

    Scale and bias have one number a group before opset 21, one a channel since.
    """
    x, groups = c.axes(0), c.op.attr("num_groups", 1)
    _by_group(c, 1, groups, "num_groups")
    _pin(c, x[2:], _STATISTICS)
    c.give(x)


def microsoft_group_norm(c: Coupling) -> None:
    """Normalize like :func:`group_normalization`, with channels last unless ``channels_last`` is 0."""
    x, last = c.axes(0), bool(c.op.attr("channels_last", 1))
    _by_group(c, len(x) - 1 if last else 1, c.op.attr("groups", 1), "groups")
    _pin(c, x[1:-1] if last else x[2:], _STATISTICS)
    c.give(x)


def _by_group(c: Coupling, channels: int, groups: int, attribute: str) -> None:
    axis = c.axes(0)[channels]
    parameters = [c.axes(slot)[0] for slot in (1, 2) if c.has(slot)]
    if isinstance(axis, Pin) or groups < 2 or axis.size % groups:
        _pin(c, (axis, *parameters), _STATISTICS)
        return
    rows = axis.reshape(groups, -1)
    heads = np.ascontiguousarray(rows[:, 0])
    c.tie(np.repeat(heads, rows.shape[1]), axis)
    for one in parameters:
        c.tie(heads if one.size == groups and rows.shape[1] > 1 else axis, one)

    def edit(removal: Removal) -> None:
        if removal.kept(heads) is not None:
            removal.set_attrs(**{attribute: int(removal.size(heads) or 0)})

    c.on_removal(edit)


def _tie_parameters(c: Coupling, axes: Iterable[Axis], slots: Iterable[int]) -> None:
    normalized = tuple(axes)
    for slot in slots:
        if c.has(slot):
            found = c.axes(slot)
            if len(found) > len(normalized):
                raise Unclear(f"input {slot} has more axes than what is normalized")
            for place in range(-len(found), 0):
                if not (isinstance(found[place], Pin) and found[place].size == 1):
                    c.tie(normalized[place], found[place])


def _pin(c: Coupling, axes: Iterable[Axis], reason: str) -> None:
    for axis in axes:
        c.pin(axis, reason)
