"""Transcendental functions of float32 vectors, written as arithmetic, because LLVM calls a scalar libm for each lane.

NaN stays NaN: of a minimum or maximum, the machine gives the second operand if one is NaN, so numbers come first.

Largest errors against float64: exp 2e-7 relative, erf, tanh and the logistic function 5e-7 absolute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nncomp_tvm.kernels.emit import Code, Expr, constant, vector_type
from nncomp_tvm.library import tirx

_EXP: Final = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""exp(r) = 1 + r + r^2 p(r) for |r| <= ln 2 / 2; Cephes, expf."""

_ERF: Final = (
    (
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ),
    (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03, -1.42647390514189e-02),
)
"""erf(x) = x p(x^2) / q(x^2) for |x| <= 4, beyond which float32 has only 1; Eigen, generic_fast_erf_float."""

_TANH: Final = (
    (
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ),
    (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03),
)
"""tanh(x) = x p(x^2) / q(x^2) for |x| <= 7.9; Eigen, generic_fast_tanh_float."""


class VectorMath:
    """Functions of vectors of ``lanes`` float32, appended to ``code``."""

    def __init__(self, code: Code, lanes: int) -> None:
        self._code, self.lanes = code, lanes

    def number(self, value: float) -> Expr:
        """Return a constant in every lane."""
        return constant(value, "float32", self.lanes)

    def rounded(self, value: Expr) -> Expr:
        """Return a value that is rounded to float32 before it is used: a product stays out of a fused multiply-add."""
        return self._code.rounded(value, self.lanes)

    def keep(self, value: Expr) -> Expr:
        """Name a value that is used again."""
        return self._code.let(value, "float32", self.lanes)

    def exp(self, x: Expr) -> Expr:
        """Return e^x = 2^n e^r with n = round(x / ln 2), from 0 over the denormal numbers up to infinity.

        2^n is the product of two powers, because n leaves the range of one exponent at both ends.
        """
        x = self.keep(tirx.max(self.number(-104.0), tirx.min(self.number(89.0), x)))
        n = self.keep(tirx.nearbyint(x * self.number(1.44269504088896341)))
        r = self.keep(x - n * self.number(0.693359375) - n * self.number(-2.12194440e-4))
        p = self.keep(self._polynomial(_EXP, r) * r * r + r + self.number(1.0))
        exponent = self._code.let(n.astype(vector_type("int32", self.lanes)), "int32", self.lanes)
        half = self._code.let(exponent >> constant(1, "int32", self.lanes), "int32", self.lanes)
        return p * self._power(half) * self._power(exponent - half)

    def _power(self, n: Expr) -> Expr:
        """2^n for whole n in the range of an exponent."""
        bits = (n + constant(127, "int32", self.lanes)) << constant(23, "int32", self.lanes)
        return tirx.reinterpret(vector_type("float32", self.lanes), bits)

    def sigmoid(self, x: Expr) -> Expr:
        """1 / (1 + exp(-x))."""
        return self.number(1.0) / (self.number(1.0) + self.exp(self.number(0.0) - x))

    def tanh(self, x: Expr) -> Expr:
        """The hyperbolic tangent."""
        return self._odd_rational(x, _TANH, 7.90531110763549805)

    def erf(self, x: Expr) -> Expr:
        """The error function."""
        return self._odd_rational(x, _ERF, 4.0)

    def _odd_rational(self, x: Expr, pq: tuple[Sequence[float], Sequence[float]], limit: float) -> Expr:
        x = self.keep(tirx.max(self.number(-limit), tirx.min(self.number(limit), x)))
        square = self.keep(x * x)
        return x * self._polynomial(pq[0], square) / self._polynomial(pq[1], square)

    def _polynomial(self, coefficients: Sequence[float], x: Expr) -> Expr:
        total = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            total = total * x + self.number(coefficient)
        return total
