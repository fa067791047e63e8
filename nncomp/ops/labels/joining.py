"""Ops that put labels side by side, take some of them, or repeat them."""

from __future__ import annotations

import numpy as np

from nncomp.ops.coupling import Atoms, AxesRule, Axis, Coupling, Pin, Unclear


def concat_of(first: int = 0, step: int = 1) -> AxesRule:
    """Return the rule: labels one behind the other along one axis, of every ``step``-th input; the others are tied."""

    def rule(c: Coupling) -> None:
        operands = [c.axes(slot) for slot in range(first, len(c.op.inputs), step) if c.has(slot)]
        rank = len(operands[0])
        along = c.op.attr("axis", 0) % rank
        out: list[Axis] = list(operands[0])
        for axes in operands[1:]:
            for place in range(rank):
                if place != along:
                    c.tie(out[place], axes[place])
                    out[place] = axes[place] if isinstance(axes[place], Pin) else out[place]
        out[along] = joined(c, [axes[along] for axes in operands])
        c.give(out)

    return rule


concat = concat_of()


def joined(c: Coupling, parts: list[Axis]) -> Axis:
    """Return axes one behind the other; pinned parts get atoms of their own, or pin it all when a size is unknown."""
    if all(isinstance(part, Pin) for part in parts):
        sizes = [part.size for part in parts]
        known = [size for size in sizes if isinstance(size, int)]
        return c.pinned(sum(known) if len(known) == len(sizes) else None, "joined from parts that stay")
    atoms: list[Atoms] = []
    for part in parts:
        if isinstance(part, Pin):
            if not isinstance(part.size, int):
                for other in parts:
                    c.pin(other, "joined with a part of unknown size")
                return c.pinned(None, "joined with a part of unknown size")
            one = c.fresh(part.size)
            c.tie(one, part)
            atoms.append(one)
        else:
            atoms.append(part)
    return np.concatenate(atoms)


def transpose(c: Coupling) -> None:
    """Axes in another order."""
    from nncomp.ops.accessors import perm

    x = c.axes(0)
    order = perm(c.op, len(x))
    if sorted(order) != list(range(len(x))):
        raise Unclear("its permutation does not fit its input")
    c.give([x[place] for place in order])
