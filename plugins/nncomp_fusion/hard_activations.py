"""HardSigmoid and HardSwish, in all the ways in which exporters spell them."""

from __future__ import annotations

from typing import Final

import numpy as np

from nncomp import Value
from nncomp.ops import clip_bounds
from nncomp.rewrite import Match, OpPattern, Pattern, Rule, any_value, const, op, rule
from nncomp_fusion.requirements import number, opset, require_float, require_opset, require_private, require_scalars

_ALPHA, _BETA = 1 / 6, 0.5
_HARD_SWISH_SINCE: Final = 14


def _add(inner: Pattern) -> OpPattern:
    return op("Add", inner, const("shift"), commutative=True)


def _scale(inner: Pattern) -> tuple[OpPattern, ...]:
    return op("Mul", inner, const("factor"), commutative=True), op("Div", inner, const("divisor"))


def _clip(inner: Pattern) -> OpPattern:
    return op("Clip", inner, bind="clip", open_ended=True)


@rule(*_scale(_clip(_add(any_value("x")))))
def scaled_clip_to_hard_sigmoid(m: Match) -> Value:
    """clip(x + b, 0, c) / c = HardSigmoid(x; alpha=1/c, beta=b/c);  most often clip(x + 3, 0, 6) / 6."""
    high = _require_clip_from_zero(m)
    if not np.isclose(high * _factor(m), 1, rtol=5e-6, atol=0):
        raise m.reject(f"clip to [0, {high:g}], times {_factor(m):.6g}, does not end at 1")
    return _hard_sigmoid(m, 1 / high, number(m, "shift") / high)


@rule(*(_clip(_add(scaled)) for scaled in _scale(any_value("x"))))
def clip_to_hard_sigmoid(m: Match) -> Value:
    """clip(a x + b, 0, 1) = HardSigmoid(x; alpha=a, beta=b)."""
    _require_clip_to_one(m)
    return _hard_sigmoid(m, _factor(m), number(m, "shift"))


@rule(*(_clip(scaled) for scaled in _scale(_add(any_value("x")))))
def clip_of_scaled_to_hard_sigmoid(m: Match) -> Value:
    """clip((x + b) a, 0, 1) = HardSigmoid(x; alpha=a, beta=a b)."""
    _require_clip_to_one(m)
    return _hard_sigmoid(m, _factor(m), _factor(m) * number(m, "shift"))


@rule(
    *_scale(op("Mul", any_value("x"), _clip(_add(any_value("x"))), commutative=True)),
    *(op("Mul", scaled, _clip(_add(any_value("x"))), commutative=True) for scaled in _scale(any_value("x"))),
)
def product_to_hard_swish(m: Match) -> Value:
    """X clip(x + 3, 0, 6) / 6 = HardSwish(x), or x HardSigmoid(x; 1/6, 1/2) before opset 14."""
    high = _require_clip_from_zero(m)
    for what, found, expected in (
        ("clips at", high, 6.0),
        ("adds", number(m, "shift"), 3.0),
        ("scales by", _factor(m), _ALPHA),
    ):
        if not np.isclose(found, expected, rtol=5e-6, atol=0):
            raise m.reject(f"it {what} {found:.7g}, HardSwish by definition {expected:.7g}")
    _require_whole(m)
    if opset(m) >= _HARD_SWISH_SINCE:
        return m.add("HardSwish", [m["x"]])
    gate = m.add("HardSigmoid", [m["x"]], attrs={"alpha": _ALPHA, "beta": _BETA})
    m.graph.set_type(gate, m["x"].type)
    return m.add("Mul", [m["x"], gate])


@rule(op("Mul", any_value("x"), op("HardSigmoid", any_value("x"), bind="gate"), commutative=True))
def gated_to_hard_swish(m: Match) -> Value:
    """X HardSigmoid(x; alpha=1/6, beta=1/2) = HardSwish(x)."""
    alpha, beta = m.op("gate").attr("alpha", 0.2), m.op("gate").attr("beta", 0.5)
    if not np.allclose([alpha, beta], [_ALPHA, _BETA], rtol=5e-6, atol=0):
        raise m.reject(f"HardSigmoid has alpha {alpha:.6g} and beta {beta:.6g}, HardSwish 1/6 and 1/2")
    require_opset(m, "HardSwish", _HARD_SWISH_SINCE)
    require_float(m, m["x"], "HardSwish")
    require_private(m, [m["x"]])
    return m.add("HardSwish", [m["x"]])


RULES: Final[tuple[tuple[Rule, ...], ...]] = (
    scaled_clip_to_hard_sigmoid,
    clip_to_hard_sigmoid,
    clip_of_scaled_to_hard_sigmoid,
    product_to_hard_swish,
    gated_to_hard_swish,
)


def _factor(m: Match) -> float:
    if m.get("factor") is not None:
        return number(m, "factor")
    divisor = number(m, "divisor")
    if not divisor:
        raise m.reject("it divides by zero")
    return 1 / divisor


def _require_clip_from_zero(m: Match) -> float:
    """Return the upper bound of a clip whose lower bound is 0."""
    bounds = clip_bounds(m.op("clip"), m.graph)
    if bounds is None:
        raise m.reject("a bound is computed at run time")
    low, high = bounds
    if low != 0 or high is None or high <= 0:
        raise m.reject(f"it clips to [{low}, {high}], expected [0, something]")
    return high


def _require_clip_to_one(m: Match) -> None:
    high = _require_clip_from_zero(m)
    if high != 1:
        raise m.reject(f"it clips to [0, {high:g}], expected [0, 1]")


def _require_whole(m: Match) -> None:
    require_float(m, m["x"], "HardSigmoid")
    require_scalars(m, m["x"], "shift", "factor", "divisor")
    require_private(m, [m["x"]])


def _hard_sigmoid(m: Match, alpha: float, beta: float) -> Value:
    _require_whole(m)
    return m.add("HardSigmoid", [m["x"]], attrs={"alpha": alpha, "beta": beta})
