"""Rules that make one op of two that only rearrange."""

from __future__ import annotations

from typing import Final

from nncomp.ir import Value
from nncomp.rewrite import Match, Rule, any_value, op, optional, rule
from nncomp_cleanup.forwarding import forwarded, integers, keep_rounding


@rule(op("Transpose", op("Transpose", any_value("x"), bind="first")))
def compose_transposes(m: Match) -> Value:
    """Transpose(Transpose(x, p), q) = Transpose(x, r), with r[i] = p[q[i]]; x itself when that is the identity."""
    first, second = m.op("first").attr("perm"), m.root.attr("perm")
    if first is None or second is None:
        raise m.reject("one of them reverses the axes without saying how many there are")
    keep_rounding(m, m["x"])
    order = [first[axis] for axis in second]
    if order == sorted(order):
        return forwarded(m, m["x"])
    return m.add("Transpose", [m["x"]], attrs={"perm": order})


@rule(
    op(
        "Reshape",
        op("Reshape|Flatten|Squeeze|Unsqueeze", any_value("x"), optional(any_value("first"))),
        any_value("shape"),
    )
)
def compose_reshapes(m: Match) -> Value:
    """Reshape(Reshape(x, s), t) = Reshape(x, t), when t copies no dimension of what is between."""
    target = integers(m, "shape", "")
    if target is None:
        raise m.reject("its shape is computed")
    if 0 in target and not m.root.attr("allowzero", 0):
        raise m.reject("its shape copies a dimension of what is between")
    keep_rounding(m, m["x"])
    return m.add("Reshape", [m["x"], m["shape"]], attrs={"allowzero": m.root.attr("allowzero")})


COMPOSED: Final[tuple[tuple[Rule, ...], ...]] = (compose_transposes, compose_reshapes)
