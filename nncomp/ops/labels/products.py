"""Products: the contracted axes of both operands are tied, the others go to the result."""

from __future__ import annotations

from nncomp.ops.coupling import Axes, Coupling, Pin, Unclear


def gemm(c: Coupling) -> None:
    """Y = alpha A' B' + beta C: (M, K) x (K, N) + what broadcasts to (M, N)."""
    (m, k) = _matrix(c, 0, transposed=bool(c.op.attr("transA", 0)))
    (k_other, n) = _matrix(c, 1, transposed=bool(c.op.attr("transB", 0)))
    c.tie(k, k_other)
    c.contract(0, 0 if c.op.attr("transA", 0) else 1)
    out: Axes = (m, n)
    if c.has(2):
        out = c.broadcast([(m, n), c.axes(2)], c.shape())
    c.give(out)


def matmul(c: Coupling) -> None:
    """Y = A B as numpy does it: the last axis of A meets the last but one of B; batch axes broadcast."""
    product(c, c.axes(0), c.axes(1))


def product(c: Coupling, a: Axes, b: Axes) -> None:
    """Say what a product of operands with these axes does; see :func:`matmul`."""
    if not a or not b:
        raise Unclear("an operand is a scalar")
    c.tie(a[-1], b[-2] if len(b) > 1 else b[0])
    c.contract(0, len(c.axes(0)) - 1)
    rows, columns = a[-2:-1], b[-1:] if len(b) > 1 else ()
    rank = len(c.shape()) - len(rows) - len(columns)
    _wish_for_heads(c, a[:-2], b[:-2])
    c.give((*c.broadcast([a[:-2], b[:-2]], c.shape()[:rank]), *rows, *columns))


def _wish_for_heads(c: Coupling, a: Axes, b: Axes) -> None:
    """Prefer batch axes that both operands have, the heads of attention, to the channels in each."""
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if not any(isinstance(axis, Pin) and axis.size == 1 for axis in (one, other)):
            c.wish(one)
            c.wish(other)


def _matrix(c: Coupling, slot: int, *, transposed: bool) -> Axes:
    axes = c.axes(slot)
    if len(axes) != 2:
        raise Unclear(f"input {slot} is no matrix")
    return axes[::-1] if transposed else axes
