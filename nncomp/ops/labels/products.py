"""Products: the contracted axes of both operands are tied, the others go to the result."""

from __future__ import annotations

from collections.abc import Sequence

from nncomp.ops.coupling import Axes, AxesRule, Coupling, Pin, Unclear


def gemm_of(
    a: int = 0, b: int = 1, bias: int | None = 2, *, zero: int | None = None, by_column: Sequence[int] = ()
) -> AxesRule:
    """Return the rule: Y = alpha A' B' + beta C, (M, K) x (K, N) + what broadcasts to (M, N); slots as named."""

    def rule(c: Coupling) -> None:
        m, k = _matrix(c, a, transposed=bool(c.op.attr("transA", 0)))
        k_other, n = _matrix(c, b, transposed=bool(c.op.attr("transB", 0)))
        c.tie(k, k_other)
        c.contract(a, 0 if c.op.attr("transA", 0) else 1, zero_slot=zero)
        vectors = [c.axes(slot) for slot in (*by_column, *([] if bias is None else [bias])) if c.has(slot)]
        c.give(c.broadcast([(m, n), *vectors], c.shape()))

    return rule


gemm = gemm_of()


def matmul_of(
    a: int = 0, b: int = 1, *, zero: int | None = None, by_column: Sequence[int] = (), whole_rows: bool = False
) -> AxesRule:
    """Return the rule: Y = A B as numpy does it: the last axis of A meets the last but one of B; batch axes broadcast.

    Args:
        a, b: Input slots.
        zero: Slot of A's zero point.
        by_column: Slots of parameters with one number, or one a column of the result.
        whole_rows: A is quantized by its own range, so that nothing may be taken from what is contracted.
    """

    def rule(c: Coupling) -> None:
        left, right = c.axes(a), c.axes(b)
        if c.op.attr("transBatchA", 0) or c.op.attr("transBatchB", 0):
            raise Unclear("its batch axes are transposed")
        left = _swapped(left) if c.op.attr("transA", 0) else left
        right = _swapped(right) if c.op.attr("transB", 0) else right
        if not left or not right:
            raise Unclear("an operand is a scalar")
        if whole_rows:
            c.pin(left[-1], "its range decides how it is quantized")
        c.tie(left[-1], right[-2] if len(right) > 1 else right[0])
        c.contract(a, len(left) - (2 if c.op.attr("transA", 0) and len(left) > 1 else 1), zero_slot=zero)
        rows, columns = left[-2:-1], right[-1:] if len(right) > 1 else ()
        rank = len(c.shape()) - len(rows) - len(columns)
        _wish_for_heads(c, left[:-2], right[:-2])
        out = (*c.broadcast([left[:-2], right[:-2]], c.shape()[:rank]), *rows, *columns)
        vectors = [c.axes(slot) for slot in by_column if c.has(slot)]
        c.give(c.broadcast([out, *vectors], c.shape()) if vectors else out)

    return rule


matmul = matmul_of()


def _wish_for_heads(c: Coupling, a: Axes, b: Axes) -> None:
    """Prefer batch axes that both operands have, the heads of attention, to the channels in each."""
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if not any(isinstance(axis, Pin) and axis.size == 1 for axis in (one, other)):
            c.wish(one)
            c.wish(other)


def _swapped(axes: Axes) -> Axes:
    return (*axes[:-2], axes[-1], axes[-2]) if len(axes) > 1 else axes


def _matrix(c: Coupling, slot: int, *, transposed: bool) -> Axes:
    axes = c.axes(slot)
    if len(axes) != 2:
        raise Unclear(f"input {slot} is no matrix")
    return axes[::-1] if transposed else axes
