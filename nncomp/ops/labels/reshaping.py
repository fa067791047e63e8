"""Reshapes: input and output axes are aligned in runs of equal product, and in each run one axis stays free.

In a run, the free input axis's labels are broadcast over the others and laid out as the output is; then the output axis
is found along which they stay distinct. Which axes these are is a choice: the finest is taken first, others are tried
when it turns out to be pinned, or when attention asks for whole heads. Squeeze, Unsqueeze and the moves between depth
and space are reshapes that need none of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nncomp.ir import Dim
from nncomp.ops.accessors import squeeze_axes
from nncomp.ops.coupling import Atoms, Axes, Axis, ChoiceKey, Coupling, Pin, Unclear

_MERGED = "merged with another free axis"
_SPLIT = "split so that another axis is free"
_UNALIGNED = "reshaped together with an axis of unknown size"


def reshape(c: Coupling) -> None:
    """Y = x in another shape; the target at slot 1 is rewritten."""
    if not c.has(1):
        raise Unclear("its target is an attribute, as before opset 5")
    c.give(reshaped(c, c.axes(0), c.shape()))
    c.sizes_operand(1, c.given[0])


def reinterpreted(c: Coupling) -> None:
    """Y = x in another shape that an attribute says (Flatten)."""
    c.give(reshaped(c, c.axes(0), c.shape()))


def reshaped(c: Coupling, axes: Axes, shape: Sequence[Dim], place: str = "") -> Axes:
    """Return the labels of ``axes`` laid out as ``shape``; pins and ties what must be."""
    sizes = tuple(axis.size for axis in axes)
    out: list[Axis | None] = [None] * len(shape)
    for run in aligned(sizes, shape):
        for o, axis in zip(run.outputs, _run(c, axes, shape, run, place), strict=True):
            out[o] = axis
    return tuple(axis if axis is not None else c.pinned(shape[o], "a computed size") for o, axis in enumerate(out))


@dataclass(frozen=True, slots=True)
class Run:
    """Input and output axes, each in a row, that hold the same elements; ``known`` when their product is a number."""

    inputs: range
    outputs: range
    known: bool


def aligned(before: Sequence[Dim], after: Sequence[Dim]) -> list[Run]:
    """Return the runs of equal product, finest first from the end, then from the beginning; the rest is one run."""
    back, i_end, o_end = _runs(before[::-1], after[::-1])
    i_end, o_end = len(before) - i_end, len(after) - o_end
    runs = [
        Run(range(len(before) - r.inputs.stop, len(before) - r.inputs.start),
            range(len(after) - r.outputs.stop, len(after) - r.outputs.start), r.known)
        for r in back
    ]  # fmt: skip
    front, i_start, o_start = _runs(before[:i_end], after[:o_end])
    runs = front + runs[::-1]
    if i_start < i_end or o_start < o_end:
        runs.append(Run(range(i_start, i_end), range(o_start, o_end), known=False))
    return runs


def _runs(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[list[Run], int, int]:
    """Return runs from the beginning on, and how many axes of both they cover."""
    runs: list[Run] = []
    i = o = 0
    while i < len(before) and o < len(after):
        one, other = before[i], after[o]
        if one == other and one is not None:  # a size, or a symbol, which means the same wherever it stands
            runs.append(Run(range(i, i + 1), range(o, o + 1), isinstance(one, int)))
            i, o = i + 1, o + 1
            continue
        run = _product_run(before, after, i, o)
        if run is None:
            break
        runs.append(run)
        i, o = run.inputs.stop, run.outputs.stop
    if runs and i < len(before) and o == len(after) and all(size == 1 for size in before[i:]):
        i = len(before)
    if runs and o < len(after) and i == len(before) and all(size == 1 for size in after[o:]):
        o = len(after)
    return runs, i, o


def _product_run(before: Sequence[Dim], after: Sequence[Dim], i: int, o: int) -> Run | None:
    i_stop, o_stop = i, o
    left = right = 1
    while True:
        take_left = left <= right if i_stop > i else True
        if take_left and i_stop < len(before):
            size = before[i_stop]
            if not isinstance(size, int):
                return None
            left, i_stop = left * size, i_stop + 1
        elif o_stop < len(after):
            size = after[o_stop]
            if not isinstance(size, int):
                return None
            right, o_stop = right * size, o_stop + 1
        else:
            return None
        if left == right and i_stop > i and o_stop > o and left > 0:
            return Run(range(i, i_stop), range(o, o_stop), known=True)
        if left > right and o_stop >= len(after):
            return None


def _run(c: Coupling, axes: Axes, shape: Sequence[Dim], run: Run, place: str) -> list[Axis]:
    inputs = [axes[i] for i in run.inputs]
    free = [i for i, axis in enumerate(inputs) if isinstance(axis, np.ndarray)]
    if len(inputs) == len(run.outputs) == 1 and (run.known or isinstance(inputs[0], Pin)):
        return [inputs[0]]
    option = next((axis.option for axis in inputs if isinstance(axis, Pin) and axis.option is not None), None)
    copied = {i for i in free if c.is_copied(inputs[i])}
    if not run.known and inputs and len(run.outputs):
        inner = _innermost(c, inputs[-1], shape[run.outputs[-1]])
        if inner is not None:
            for axis in inputs[:-1]:
                c.pin(axis, _UNALIGNED)
            return [*(c.pinned(shape[o], _UNALIGNED) for o in run.outputs[:-1]), inner]
    if not run.known or not free or (option is not None and len(copied) == len(free)):
        reason = _MERGED if run.known else _UNALIGNED
        for axis in inputs:
            c.pin(axis, reason)
        return [c.pinned(shape[o], reason, option if shape[o] != 1 else None) for o in run.outputs]
    sizes = [int(axis.size or 0) for axis in inputs]
    target = [int(shape[o] or 0) for o in run.outputs]
    candidates = {one.name: one for one in _candidates(inputs, free, sizes, target, copied)}
    key = f"{place}{run.outputs.start}"
    if not candidates:
        for axis in inputs:
            c.pin(axis, "no axis of the new shape keeps its elements apart")
        return [c.pinned(size, "no axis of the new shape keeps its elements apart") for size in target]
    taken = candidates[c.choose(key, {name: candidate.labels for name, candidate in candidates.items()})]
    for i in free:
        if i != taken.source:
            c.pin(inputs[i], _MERGED)
    if taken.ties is not None:
        c.tie(*taken.ties)
    options = {candidate.result: name for name, candidate in reversed(candidates.items())}
    return [
        taken.labels
        if o == taken.result
        else c.pinned(
            size, _SPLIT if size > 1 else "a single element",
            (ChoiceKey(c.op, key), options[o]) if o in options and o != taken.result else None,
        )
        for o, size in enumerate(target)
    ]  # fmt: skip


def _innermost(c: Coupling, axis: Axis, size: Dim) -> Axis | None:
    """Return the labels of the last output axis, when the last input axis is a multiple of it or the other way round.

    Whatever stands before, of sizes that are not known: elements lie row by row, so that place i of the longer one is
    place i modulo the length of the shorter one.
    """
    if isinstance(axis, Pin) or not isinstance(size, int) or size < 2:
        return None
    if axis.size % size == 0:
        rows = axis.reshape(-1, size)
        c.tie(np.tile(rows[0], len(rows)), axis)
        return np.ascontiguousarray(rows[0])
    return np.tile(axis, size // axis.size) if size % axis.size == 0 else None


@dataclass(frozen=True, slots=True)
class _Candidate:
    source: int
    result: int
    labels: Atoms
    ties: tuple[Atoms, Atoms] | None
    apart: int

    @property
    def name(self) -> str:
        return f"{self.source} to {self.result}"


def _candidates(
    inputs: Sequence[Axis], free: Sequence[int], sizes: list[int], target: list[int], copied: set[int]
) -> list[_Candidate]:
    """Return (input axis, output axis) pairs that leave at least two atoms apart: no copies, then the finest, first."""
    found = []
    for i in free:
        atoms = inputs[i]
        assert isinstance(atoms, np.ndarray)
        spread = atoms.reshape([-1 if place == i else 1 for place in range(len(sizes))])
        laid = np.broadcast_to(spread, sizes).reshape(target)
        for o, size in enumerate(target):
            if size < 2:
                continue
            rows = np.moveaxis(laid, o, 0).reshape(size, -1)
            apart = _apart(rows)
            if apart > 1:
                heads = np.ascontiguousarray(rows[:, 0])
                ties = None if rows.shape[1] == 1 else _ties(heads, rows)
                found.append(_Candidate(i, o, heads, ties, apart))
    return sorted(found, key=lambda one: (one.source in copied, -one.apart))


def _ties(heads: Atoms, rows: Atoms) -> tuple[Atoms, Atoms]:
    left = np.broadcast_to(heads[:, None], rows.shape).reshape(-1)
    right = rows.reshape(-1)
    different = left != right
    return left[different], right[different]


def _apart(rows: Atoms) -> int:
    """Return how many parts the rows fall into when rows that share an atom are one."""
    names, codes = np.unique(rows, return_inverse=True)
    codes = codes.reshape(rows.shape)
    if rows.shape[1] * rows.shape[0] == names.size:
        return len(rows)
    from nncomp.ops.components import components

    count = rows.shape[0]
    parts = components(
        count + names.size,
        np.broadcast_to(np.arange(count)[:, None], rows.shape).reshape(-1),
        codes.reshape(-1) + count,
    )
    return len(np.unique(parts[:count]))


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
