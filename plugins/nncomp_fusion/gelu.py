"""Gelu, exact (by the error function) and approximated (by tanh), in the ways in which exporters spell it."""

from __future__ import annotations

import math
from typing import Final

from nncomp import Value
from nncomp.rewrite import Match, OpPattern, Pattern, Rule, any_value, const, op, rule
from nncomp_fusion.requirements import (
    number,
    require_close,
    require_float,
    require_opset,
    require_private,
    require_scalars,
)

_SINCE: Final = 20
_CONSTANTS: Final[dict[str, float]] = {
    "half": 0.5,
    "two": 2.0,
    "one": 1.0,
    "root_two": math.sqrt(2),
    "one_by_root_two": math.sqrt(0.5),
    "root": math.sqrt(2 / math.pi),
    "cubic": 0.044715,
}


def _constant(name: str) -> Pattern:
    return const(name, _CONSTANTS[name])


def _mul(a: Pattern, b: Pattern) -> OpPattern:
    return op("Mul", a, b, commutative=True)


def _add(a: Pattern, b: Pattern) -> OpPattern:
    return op("Add", a, b, commutative=True)


def _half(inner: Pattern) -> tuple[OpPattern, ...]:
    return _mul(inner, _constant("half")), op("Div", inner, _constant("two"))


_X: Final = any_value("x")
_SQUARES: Final = (_mul(_X, _X), op("Pow", _X, const("exponent_two")))
_CUBES: Final = (op("Pow", _X, const("exponent_three")), *(_mul(square, _X) for square in _SQUARES))


def _gated(gate: OpPattern) -> list[OpPattern]:
    """Return the ways to write x (1 + gate) / 2."""
    grown = _add(gate, _constant("one"))
    return [
        *_half(_mul(_X, grown)),
        *(_mul(half, grown) for half in _half(_X)),
        *(_mul(_X, half) for half in _half(grown)),
    ]


def _erf_gates() -> list[OpPattern]:
    return [op("Erf", op("Div", _X, _constant("root_two"))), op("Erf", _mul(_X, _constant("one_by_root_two")))]


def _tanh_gates() -> list[OpPattern]:
    grown = [_add(_X, _mul(cube, _constant("cubic"))) for cube in _CUBES]
    factored = [_mul(_X, _add(_constant("one"), _mul(square, _constant("cubic")))) for square in _SQUARES]
    scaled = [_mul(_mul(_X, _constant("root")), inner.inputs[1]) for inner in factored]
    return [op("Tanh", inner) for inner in [*(_mul(sum_, _constant("root")) for sum_ in [*grown, *factored]), *scaled]]


@rule(*(pattern for gate in _erf_gates() for pattern in _gated(gate)))
def recognize_gelu(m: Match) -> Value:
    """X (1 + erf(x / sqrt(2))) / 2 = Gelu(x)."""
    return _gelu(m, "none")


@rule(*(pattern for gate in _tanh_gates() for pattern in _gated(gate)))
def recognize_tanh_gelu(m: Match) -> Value:
    """X (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 = Gelu(x; approximate="tanh")."""
    return _gelu(m, "tanh")


RULES: Final[tuple[tuple[Rule, ...], ...]] = (recognize_gelu, recognize_tanh_gelu)


def _gelu(m: Match, approximate: str) -> Value:
    x = m["x"]
    require_opset(m, "Gelu", _SINCE)
    require_float(m, x, "Gelu")
    for name, expected in _CONSTANTS.items():
        if m.get(name) is not None:
            require_close(m, name, expected)
    for name, expected in (("exponent_two", 2), ("exponent_three", 3)):
        if m.get(name) is not None and number(m, name) != expected:
            raise m.reject(f"its exponent is {number(m, name):g}, expected {expected}")
    require_scalars(m, x, *_CONSTANTS, "exponent_two", "exponent_three")
    require_private(m, [x])
    return m.add("Gelu", [x], attrs={"approximate": approximate} if approximate != "none" else {})
