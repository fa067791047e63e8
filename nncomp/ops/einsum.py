"""Einsum: what an equation costs, and which of its axes are output channels."""

from __future__ import annotations

import math
import re

from nncomp.ir import Op
from nncomp.ops.counting import Counted, shape
from nncomp.ops.roles import barrier
from nncomp.ops.semantics import QuantRole, Role


def einsum_terms(op: Op) -> tuple[tuple[str, ...], str]:
    """Return the terms of the operands and of the result, without spaces; a result left out is spelt out.

    An omitted result is ``...``, if any operand has it, and the letters that occur once, in order (ONNX, as numpy).
    """
    equation = str(op.attr("equation", "")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        right = ("..." if "..." in left else "") + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    return tuple(left.split(",")), right


def einsum_cost(op: Op) -> Counted:
    """Count the nest of loops over all letters, once for each product in it (no cheaper order is looked for)."""
    terms, _ = einsum_terms(op)
    sizes: dict[str, int] = {}
    for term, value in zip(terms, op.inputs, strict=False):
        dims = shape(value)
        if dims is None:
            return None
        for label, dim in _labelled(term, dims):
            sizes[label] = max(sizes.get(label, 1), dim)
    loops = math.prod(sizes.values())
    return (0, loops) if len(terms) == 1 else ((len(terms) - 1) * loops, 0)


def einsum_role(op: Op) -> QuantRole:
    """Treat a product of two operands as MatMul is treated; one scale for a weight without a plain output axis."""
    terms, result = einsum_terms(op)
    if len(terms) != 2 or len(op.inputs) != 2:
        return barrier("einsum of other than two operands")
    axis = _weight_axis(terms, result)
    return QuantRole(
        Role.COMPUTE, data=(0, 1), weight=1, weight_axis=None if axis is None else lambda op: _from_left(op, axis)
    )


def _weight_axis(terms: tuple[str, ...], result: str) -> int | None:
    """Return the last axis of the second operand that goes to the result and is not the first operand's."""
    places = re.findall(r"\.\.\.|\w", terms[1])
    found = [
        place for place, label in enumerate(places) if label != "..." and label in result and label not in terms[0]
    ]
    if not found or len(set(places)) != len(places):
        return None
    behind_dots = "..." in places[: found[-1]]
    return found[-1] - len(places) if behind_dots else found[-1]


def _from_left(op: Op, axis: int) -> int:
    value = op.input(1)
    return axis if axis >= 0 or value is None or value.shape is None else axis + len(value.shape)


def _labelled(term: str, dims: tuple[int, ...]) -> list[tuple[str, int]]:
    """Pair dims with letters; what ``...`` stands for is labelled by its distance from the end, as it broadcasts."""
    before, dots, after = term.partition("...")
    hidden = len(dims) - len(before) - len(after) if dots else 0
    labels = [*before, *(f"...{hidden - i}" for i in range(hidden)), *after]
    return list(zip(labels, dims, strict=False))
