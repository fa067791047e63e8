"""Convolutions, pools and what normalizes by channel: data (N, C, spatial...), channels are axis 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nncomp.ir import Dim
from nncomp.ops.accessors import is_training_batchnorm
from nncomp.ops.coupling import Atoms, Axes, AxesRule, Axis, Coupling, Pin, Removal, Unclear

_WINDOW = "its window slides over this axis"


def convolution_of(
    x: int = 0,
    w: int = 1,
    bias: int | None = 2,
    *,
    zero: int | None = None,
    by_output: Sequence[int] = (),
    added: int | None = None,
) -> AxesRule:
    """Return the rule: x.C ~ w.I, contracted; y.C = w.O ~ bias; spatial axes stay.

    Weights are (O, I / group, kernel...).

    Args:
        x, w, bias: Input slots.
        zero: Slot of the data's zero point.
        by_output: Slots of parameters with one number, or one an output channel.
        added: Slot of what is added to the result.
    """

    def rule(c: Coupling) -> None:
        data, weight = c.axes(x), c.axes(w)
        _pin_window(c, data[2:])
        _pin_window(c, weight[2:])
        group = c.op.attr("group", 1)
        if group == 1:
            c.tie(data[1], weight[1])
            c.contract(x, 1, zero_slot=zero)
        elif _grouped(c, data[1], weight[1], weight[0], group):
            c.contract(x, 1, zero_slot=zero)
        for slot in (*by_output, *([] if bias is None else [bias])):
            if c.has(slot):
                _tie_vector(c, weight[0], c.axes(slot))
        out = (data[0], weight[0], *_window(c, c.shape()[2:]))
        if added is not None and c.has(added):
            out = c.broadcast([out, c.axes(added)], c.shape())
        c.give(out)

    return rule


convolution = convolution_of()


def transposed_convolution(c: Coupling) -> None:
    """x.C ~ w.I, contracted; y.C = w.O ~ bias. Weights (I, O / group, kernel...)."""
    x, w = c.axes(0), c.axes(1)
    _pin_window(c, x[2:])
    _pin_window(c, w[2:])
    group, size = c.op.attr("group", 1), c.shape()[1]
    c.tie(x[1], w[0])
    if group == 1:
        c.contract(0, 1)
        out = w[1]
    elif not isinstance(size, int):
        raise Unclear("the number of output channels is not known")
    else:
        out = c.fresh(size)
        if _grouped(c, w[0], None, out, group, per_group=w[1]):
            c.contract(0, 1)
    if c.has(2):
        c.tie(out, c.axes(2)[0])
    c.give((x[0], out, *_window(c, c.shape()[2:])))


def pool(c: Coupling) -> None:
    """Windows over spatial axes; batch and channels go through (MaxPool's indices, too, but they count positions)."""
    x = c.axes(0)
    _pin_window(c, x[2:])
    if len(c.op.outputs) > 1 and c.op.outputs[1].name:
        raise Unclear("its second output counts positions over all channels")
    c.give((*x[:2], *_window(c, c.shape()[2:])))


def batch_normalization(c: Coupling) -> None:
    """Y = (x - mean) / sqrt(var + eps) * scale + bias by channel."""
    if is_training_batchnorm(c.op):
        raise Unclear("it computes statistics in training mode")
    channelwise(c)


def channelwise(c: Coupling) -> None:
    """Parameters with one number a channel; each (sample, channel) is on its own (InstanceNormalization)."""
    x = c.axes(0)
    if len(x) < 2:
        raise Unclear("its data has no channels")
    for slot in range(1, len(c.op.inputs)):
        if c.has(slot):
            _tie_vector(c, x[1], c.axes(slot))
    c.give(x)


def instance_normalization(c: Coupling) -> None:
    """Statistics of each channel over its spatial axes."""
    _pin(c, c.axes(0)[2:], "statistics are taken over this axis")
    channelwise(c)


def _grouped(c: Coupling, x: Axis, i: Axis | None, o: Axis, group: int, *, per_group: Axis | None = None) -> bool:
    """Let channels of all groups at one local place, or whole groups, live and die together.

    Args:
        c: The op.
        x: Input channels, all groups.
        i: The weight's axis of input channels within a group, None when it has all (ConvTranspose).
        o: Output channels, all groups.
        group: Number of groups.
        per_group: The weight's axis of output channels within a group, when that is how they are stored.

    Returns:
        Whether input channels are contracted without their group: False when whole groups go.
    """
    if isinstance(x, Pin) or isinstance(o, Pin) or x.size % group or o.size % group:
        for axis in (x, i, o, per_group):
            if axis is not None:
                c.pin(axis, "grouped with channels that stay")
        return False
    inputs, outputs = x.reshape(group, -1), o.reshape(group, -1)
    whole = group
    local = inputs.shape[1] + outputs.shape[1] if min(inputs.shape[1], outputs.shape[1]) > 1 else 0
    order = ["group", "local"] if whole >= local else ["local", "group"]
    chosen = c.choose("group", dict.fromkeys(order, x)) if local else "group"
    if chosen == "group":
        for axis in (i, per_group):
            if axis is not None:
                c.pin(axis, "whole groups are removed")
        heads = inputs[:, :1]
        _tie_rows(c, heads, inputs)
        _tie_rows(c, heads, outputs)
        _count_groups(c, heads.reshape(-1))
        return False
    _tie_rows(c, inputs[:1].T, inputs.T)
    _tie_rows(c, outputs[:1].T, outputs.T)
    if i is not None:
        c.tie(inputs[0], i)
    if per_group is not None:
        c.tie(outputs[0], per_group)
    return True


def _count_groups(c: Coupling, heads: Atoms) -> None:
    def edit(removal: Removal) -> None:
        kept = removal.kept(heads)
        if kept is not None:
            removal.set_attrs(group=int(kept.sum()))

    c.on_removal(edit)


def _tie_rows(c: Coupling, heads: Atoms, rows: Atoms) -> None:
    """Tie each row's atoms to the head of the row: heads (R, 1), rows (R, K)."""
    c.tie(np.ascontiguousarray(np.broadcast_to(heads, rows.shape)).reshape(-1), rows.reshape(-1))


def _tie_vector(c: Coupling, channels: Axis, axes: Axes) -> None:
    """Tie a vector with one number a channel; one with a single number, or none, belongs to all."""
    if axes and not (isinstance(axes[0], Pin) and axes[0].size == 1):
        c.tie(channels, axes[0])


def _pin_window(c: Coupling, axes: Sequence[Axis]) -> None:
    for axis in axes:
        c.pin(axis, _WINDOW, minor=True)


def _pin(c: Coupling, axes: Sequence[Axis], reason: str) -> None:
    for axis in axes:
        c.pin(axis, reason)


def _window(c: Coupling, shape: Sequence[Dim]) -> Axes:
    return tuple(c.pinned(size, _WINDOW) for size in shape)


def causal_convolution(c: Coupling) -> None:
    """Convolve each channel of (N, C, L) alone, with what came before at slot 3; y, and what comes next, likewise."""
    x = c.axes(0)
    _pin_window(c, x[2:])
    for slot, place in ((1, 0), (2, 0), (3, 1)):
        if c.has(slot):
            c.tie(x[1], c.axes(slot)[place])
            _pin_window(c, c.axes(slot)[2:])
    for slot, value in enumerate(c.op.outputs):
        if value.name:
            c.give((x[0], x[1], *_window(c, c.shape(slot)[2:])), slot)
