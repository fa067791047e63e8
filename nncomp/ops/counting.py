"""Cost rules that several op families share, and what they count with.

A rule gives (multiply-accumulates, other scalar operations), or None when a shape that it needs is not static. Padding
is counted as if it were data, and a bias as one addition an output element.
"""

from __future__ import annotations

from typing import TypeAlias

from nncomp.ir import Op, Value
from nncomp.ops.semantics import CostRule

Counted: TypeAlias = tuple[int, int] | None

SOFTMAX_STEPS = 5
"""Scalar operations an element: maximum, subtract, exp, sum, divide."""

NORMALIZE_STEPS = 7
"""Scalar operations an element: sum, subtract, square, sum, divide by the deviation, scale, shift."""

RMS_STEPS = 4
"""Scalar operations an element: square, sum, divide by the root, scale."""


def size(value: Value | None) -> int | None:
    """Return the number of elements; None when it is not known, or there is no value."""
    return None if value is None or value.tensor_type is None else value.tensor_type.size


def shape(value: Value | None) -> tuple[int, ...] | None:
    """Return the static shape; None when it is not known, or there is no value."""
    return None if value is None or value.tensor_type is None else value.tensor_type.static_shape


def free(op: Op) -> Counted:
    """Count nothing: the op only moves values, or its bodies are counted on their own."""
    return 0, 0


def unpriced(op: Op) -> Counted:
    """Say that the cost depends on the data, or that nobody has written it down."""
    return None


def per_output(times: int) -> CostRule:
    """Return a rule: ``times`` scalar operations an element of the first output."""

    def count(op: Op) -> Counted:
        elements = size(op.output)
        return None if elements is None else (0, times * elements)

    return count


def per_input(times: int = 1) -> CostRule:
    """Return a rule: ``times`` scalar operations an element of the first input."""

    def count(op: Op) -> Counted:
        elements = size(op.input(0))
        return None if elements is None else (0, times * elements)

    return count
