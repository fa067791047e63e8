"""Rules for arithmetic with a neutral constant, where it is exact down to the sign of zero."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Value
from nncomp.rewrite import Match, Rule, any_value, const, op, rule
from nncomp_cleanup.forwarding import forwarded, proven

_MAX_ELEMENTS: Final = 2**26


@rule(op("Add", any_value("x"), const("c"), commutative=True))
def eliminate_add_zero(m: Match) -> Value:
    """Sum x + 0 = x for integers; x + (-0.0) = x for floats, where -0.0 + 0.0 would be 0.0."""
    zeros = _constant(m)
    if zeros.any():
        raise m.reject("its constant is not 0")
    if zeros.dtype.kind == "f" and not np.signbit(zeros).all():
        raise m.reject("adding 0.0 turns -0.0 into 0.0")
    return _unchanged(m, zeros)


@rule(op("Sub", any_value("x"), const("c")))
def eliminate_sub_zero(m: Match) -> Value:
    """Difference x - 0 = x; for floats x - 0.0 = x, where -0.0 - (-0.0) would be 0.0."""
    zeros = _constant(m)
    if zeros.any():
        raise m.reject("its constant is not 0")
    if zeros.dtype.kind == "f" and np.signbit(zeros).any():
        raise m.reject("subtracting -0.0 turns -0.0 into 0.0")
    return _unchanged(m, zeros)


@rule(op("Mul", any_value("x"), const("c"), commutative=True))
def eliminate_mul_one(m: Match) -> Value:
    """Product x * 1 = x."""
    return _unchanged(m, _ones(m))


@rule(op("Div", any_value("x"), const("c")))
def eliminate_div_one(m: Match) -> Value:
    """Quotient x / 1 = x."""
    return _unchanged(m, _ones(m))


@rule(op("Pow", any_value("x"), const("c")))
def eliminate_pow_one(m: Match) -> Value:
    """Power x ^ 1 = x, for floats; the runtime raises integers by way of double, which not all of them survive."""
    dtype = proven(m).dtype(m["x"])
    ones = _ones(m)
    if dtype is None or not dtype.is_floating_point():
        raise m.reject("its base is not known to be a float")
    return _unchanged(m, ones)


def _constant(m: Match) -> npt.NDArray[Any]:
    tensor = m.graph.constant(m["c"])
    if tensor is None or tensor.size > _MAX_ELEMENTS:  # a sparse one may claim any size
        raise m.reject("its constant is too large to look at")
    return m.array("c")


def _ones(m: Match) -> npt.NDArray[Any]:
    ones = _constant(m)
    if ones.dtype.kind not in "fiu" or not (ones == 1).all():
        raise m.reject("its constant is not 1")
    return ones


def _unchanged(m: Match, neutral: npt.NDArray[Any]) -> Value:
    """Return x if the constant does not broadcast it to another shape."""
    if m.graph.opsets.get("", 1) < 7:
        raise m.reject("before opset 7 it broadcasts along an axis of its own")
    if neutral.ndim:
        shape = proven(m).shape(m["x"])
        if shape is None or neutral.ndim > len(shape):
            raise m.reject("its constant may add axes")
        if any(size not in (1, dim) for size, dim in zip(neutral.shape[::-1], shape[::-1], strict=False)):
            raise m.reject("its constant may repeat elements")
    return forwarded(m, m["x"])


NEUTRAL: Final[tuple[tuple[Rule, ...], ...]] = (
    eliminate_add_zero,
    eliminate_sub_zero,
    eliminate_mul_one,
    eliminate_div_one,
    eliminate_pow_one,
)
