"""Ops that read shapes or make tensors of them. Arithmetic on shapes goes on with the sizes from before the removal."""

from __future__ import annotations

import numpy as np

from nncomp.ops.coupling import Coupling, Removal, Unclear


def shape(c: Coupling) -> None:
    """Give the sizes of the axes. They stay what they were: each op that takes sizes has its own rewritten."""
    x = c.axes(0)
    start, end = c.op.attr("start", 0), c.op.attr("end", len(x))
    taken = list(range(len(x)))[start:end]

    def edit(removal: Removal) -> None:
        before = {number: axis.size for number, place in enumerate(taken) for axis in [x[place]]}
        changed = [number for number, place in enumerate(taken) if removal.kept(x[place]) is not None]
        sizes = {number: before[number] for number in changed}
        numbers = {number: size for number, size in sizes.items() if isinstance(size, int)}
        if not numbers:
            return
        everything = [size for size in before.values() if isinstance(size, int)]
        if len(everything) == len(taken):
            removal.replace_output(np.array(everything, np.int64))
        else:
            removal.patch_output(numbers)

    c.on_removal(edit)


def size(c: Coupling) -> None:
    """Give the number of elements, which stays what it was."""
    x = c.axes(0)
    sizes = [axis.size for axis in x]
    known = [one for one in sizes if isinstance(one, int)]
    if len(known) < len(sizes):
        raise Unclear("it counts elements")

    def edit(removal: Removal) -> None:
        if any(removal.kept(axis) is not None for axis in x):
            removal.replace_output(np.array(int(np.prod(known, dtype=np.int64)), np.int64))

    c.on_removal(edit)


def filled(c: Coupling) -> None:
    """Make a tensor of one number; each of its elements can be left out."""
    axes = c.born(c.shape())
    c.give(axes)
    c.sizes_operand(0, axes)
