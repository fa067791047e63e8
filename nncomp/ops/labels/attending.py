"""Attention ops: heads, or the same channel of each head, are the unit; positions stay.

With grouped queries each head of key and value serves several of query: head i of query goes with head i * G // H.
"""

from __future__ import annotations

import math

import numpy as np

from nncomp.ops.coupling import Axes, Axis, Coupling, Pin, Removal, Unclear
from nncomp.ops.labels.joining import joined
from nncomp.ops.labels.reshaping import reshaped

_POSITIONS = "positions are compared with each other"


def attention(c: Coupling) -> None:
    """ONNX's Attention: query, key, value (batch, heads, positions, head size) or (batch, positions, hidden)."""
    flat = len(c.axes(0)) == 3
    heads = (c.op.attr("q_num_heads", 0), c.op.attr("kv_num_heads", 0), c.op.attr("kv_num_heads", 0))
    q, k, v = (_by_head(c, slot, heads[slot], flat=flat) for slot in range(3))
    _attend(c, q, k, v)
    for slot, past in ((4, k), (5, v)):
        if c.has(slot):
            _tie_cache(c, past, c.axes(slot))
    if c.has(3):
        _tie_mask(c, q, c.axes(3))
    if c.has(6):
        c.tie(q[0], c.axes(6)[0])
    _count_heads(c, q[1], "q_num_heads" if flat else "")
    _count_heads(c, k[1], "kv_num_heads" if flat else "")
    _keep_scale(c, q[3])
    out = (q[0], q[1], q[2], v[3])
    c.give(_merged(c, out) if flat else out)
    for slot, one in ((1, k), (2, v)):
        if slot < len(c.op.outputs) and c.op.outputs[slot].name:
            c.give((one[0], one[1], c.pinned(c.shape(slot)[2], _POSITIONS), one[3]), slot)


def multi_head_attention(c: Coupling) -> None:
    """com.microsoft's: query, key, value (batch, positions, hidden); a bias of all three, one behind the other."""
    if not (c.has(1) and c.has(2)) or any(len(c.axes(slot)) != 3 for slot in range(3)):
        raise Unclear("its operands are packed")
    if any(c.has(slot) for slot in range(6, len(c.op.inputs))):
        raise Unclear("it has a cache")
    heads = c.op.attr("num_heads", 0)
    if c.has(3):
        c.tie(joined(c, [c.axes(slot)[2] for slot in range(3)]), c.axes(3)[0])
    q, k, v = (_by_head(c, slot, heads, flat=True) for slot in range(3))
    _attend(c, q, k, v)
    _count_heads(c, q[1], "num_heads")
    _keep_scale(c, q[3])
    if c.has(5):
        _tie_mask(c, q, c.axes(5))
    c.give(_merged(c, (q[0], q[1], q[2], v[3])))


def group_query_attention(c: Coupling) -> None:
    """com.microsoft's: heads of query go with those of key and value; head sizes stay (they may be rotated)."""
    if not (c.has(1) and c.has(2)):
        raise Unclear("its operands are packed")
    heads = (c.op.attr("num_heads", 0), *(c.op.attr("kv_num_heads", 0),) * 2)
    q, k, v = (_by_head(c, slot, heads[slot], flat=True) for slot in range(3))
    for axis in (q[3], k[3], v[3]):
        c.pin(axis, "head sizes stay")
    _attend(c, q, k, v)
    for slot, past in ((3, k), (4, v)):
        if c.has(slot):
            _tie_cache(c, past, c.axes(slot))
    _count_heads(c, q[1], "num_heads")
    _count_heads(c, k[1], "kv_num_heads")
    c.give(_merged(c, (q[0], q[1], q[2], v[3])))
    for slot, one in ((1, k), (2, v)):
        if slot < len(c.op.outputs) and c.op.outputs[slot].name:
            c.give((one[0], one[1], c.pinned(c.shape(slot)[2], _POSITIONS), one[3]), slot)


def packed_attention(c: Coupling) -> None:
    """com.microsoft's Attention: it makes query, key and value itself; weights (in, 3 * hidden), whole heads go."""
    x, w, heads = c.axes(0), c.axes(1), c.op.attr("num_heads", 0)
    if c.op.attr("qkv_hidden_sizes") or any(c.has(slot) for slot in range(4, len(c.op.inputs))):
        raise Unclear("query, key and value have sizes of their own, or a cache")
    width = w[1].size
    if not isinstance(width, int) or not heads or width % (3 * heads) or c.op.attr("do_rotary", 0):
        raise Unclear("it has no heads that could be told apart")
    for axis in x[:2]:
        c.pin(axis, _POSITIONS)
    c.tie(x[2], w[0])
    c.contract(0, 2)
    if c.has(2):
        c.tie(w[1], c.axes(2)[0])
    depth = width // 3 // heads
    if isinstance(w[1], Pin) or heads < 2:
        c.pin(w[1], "a single head")
        c.give((x[0], x[1], c.pinned(width // 3, "a single head")))
        return
    rows = np.moveaxis(w[1].reshape(3, heads, depth), 1, 0).reshape(heads, -1)
    units = np.ascontiguousarray(rows[:, 0])
    c.tie(np.repeat(units, rows.shape[1]), rows.reshape(-1))
    _count_heads(c, units, "num_heads")
    c.give((x[0], x[1], np.repeat(units, depth)))


def rotary_embedding(c: Coupling) -> None:
    """Rotate pairs of channels within each head: (batch, heads, positions, head size) or (batch, positions, hidden)."""
    x = c.axes(0)
    if len(x) == 4:
        c.pin(x[3], "pairs of channels are rotated")
        c.give(x)
        return
    heads = c.op.attr("num_heads", 0)
    if not heads:
        c.pin(x[2], "pairs of channels are rotated")
        c.give(x)
        return
    batch, units, positions, depth = _by_head(c, 0, heads, flat=True)
    c.pin(depth, "pairs of channels are rotated")
    _count_heads(c, units, "num_heads")
    c.give(_merged(c, (batch, units, positions, depth)))


def _by_head(c: Coupling, slot: int, heads: int, *, flat: bool) -> Axes:
    """Return the axes (batch, heads, positions, head size) of an operand."""
    axes = c.axes(slot)
    if not flat:
        return axes
    width = axes[2].size
    if not isinstance(width, int) or not heads or width % heads:
        raise Unclear("it has no heads that could be told apart")
    units, depth = reshaped(c, (axes[2],), (heads, width // heads), place=f"{slot}/")
    c.wish(units)
    return axes[0], units, axes[1], depth


def _merged(c: Coupling, axes: Axes) -> Axes:
    """Return (batch, positions, hidden) for (batch, heads, positions, head size)."""
    width = c.shape()[2]
    return (axes[0], axes[2], reshaped(c, (axes[1], axes[3]), (width,), place="out/")[0])


def _attend(c: Coupling, q: Axes, k: Axes, v: Axes) -> None:
    for axes in (q, k, v):
        c.pin(axes[2], _POSITIONS)
    c.tie(q[0], k[0])
    c.tie(q[0], v[0])
    c.tie(q[3], k[3])
    c.tie(k[1], v[1])
    if isinstance(q[1], np.ndarray) and isinstance(k[1], np.ndarray) and q[1].size % k[1].size == 0:
        c.tie(q[1], np.repeat(k[1], q[1].size // k[1].size))
    else:
        c.pin(q[1], "heads of key and value stay")
        c.pin(k[1], "heads of query stay")
        c.pin(v[1], "heads of query stay")
    if isinstance(q[3], np.ndarray):
        _contract_depth(c)


def _contract_depth(c: Coupling) -> None:
    """Query times key sums over the head size: on flat operands over all channels of a head that goes, too."""
    c.contract(0, len(c.axes(0)) - 1)


def _tie_cache(c: Coupling, one: Axes, cache: Axes) -> None:
    c.tie(one[0], cache[0])
    c.tie(one[1], cache[1])
    c.pin(cache[2], _POSITIONS)
    c.tie(one[3], cache[3])


def _tie_mask(c: Coupling, q: Axes, mask: Axes) -> None:
    for place, axis in enumerate(mask, start=4 - len(mask)):
        if isinstance(axis, Pin) and axis.size == 1:
            continue
        if place < 2:
            c.tie(axis, q[place])
        else:
            c.pin(axis, _POSITIONS)


def _count_heads(c: Coupling, heads: Axis, attribute: str) -> None:
    def edit(removal: Removal) -> None:
        if attribute and removal.kept(heads) is not None:
            removal.set_attrs(**{attribute: int(removal.size(heads) or 0)})

    c.on_removal(edit)


def _keep_scale(c: Coupling, depth: Axis) -> None:
    """Write out the scale, which by default follows the head size."""
    if isinstance(depth, Pin):
        return

    def edit(removal: Removal) -> None:
        if removal.kept(depth) is not None and not c.op.attr("scale", 0.0):
            removal.set_attrs(scale=1 / math.sqrt(depth.size))

    c.on_removal(edit)
