"""A rule for Range operands that become constant: what ONNX Runtime takes when it runs, it may refuse when it loads."""

from __future__ import annotations

from typing import Final

from nncomp.ir import Value
from nncomp.rewrite import Match, Rule, const, op, rule


@rule(op("Range", const("start"), const("limit"), const("delta")))
def make_range_operands_scalars(m: Match) -> Value:
    """Range([a], [b], [c]) = Range(a, b, c).

    The operator asks for scalars. Run time takes vectors of one element too; the check at load, which sees constants
    only, does not: a graph must not become unloadable because an operand turns out to be constant.
    """
    arrays = [m.array(name) for name in ("start", "limit", "delta")]
    if not any(array.ndim for array in arrays):
        raise m.reject("its operands are scalars")
    if any(array.size != 1 for array in arrays):
        raise m.reject("an operand has several elements")
    operands = [
        m.constant(name, array.reshape(())) if array.ndim else m[name]
        for name, array in zip(("start", "limit", "delta"), arrays, strict=True)
    ]
    return m.add("Range", operands)


RANGES: Final[tuple[tuple[Rule, ...], ...]] = (make_range_operands_scalars,)
