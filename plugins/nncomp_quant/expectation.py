"""Means of channels without data: what BatchNormalization says of its outputs, carried on through the ops behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, Value
from nncomp.ops import OpTable, Scaling
from nncomp.ops.accessors import clip_bounds, is_training_batchnorm

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Normal:
    """Mean and variance of each channel (axis 1), taken for normal."""

    mean: Doubles
    variance: Doubles

    def clipped(self, low: float | None, high: float | None) -> Normal:
        """Return mean and variance of min(max(x, low), high); None is no bound.

        With a, b = (low - m) / s, (high - m) / s, and phi, Phi the standard normal density and distribution:

            E[y]   = low Phi(a) + high (1 - Phi(b)) + m (Phi(b) - Phi(a)) + s (phi(a) - phi(b))
            E[y^2] = low^2 Phi(a) + high^2 (1 - Phi(b)) + (m^2 + s^2) (Phi(b) - Phi(a))
                     + 2 m s (phi(a) - phi(b)) + s^2 (a phi(a) - b phi(b))
        """
        mean, spread = self.mean, np.sqrt(np.maximum(self.variance, 1e-24))
        first = second = np.zeros_like(mean)
        below, above = np.zeros_like(mean), np.ones_like(mean)  # Phi(a), Phi(b)
        slope = tilt = np.zeros_like(mean)  # phi(a) - phi(b), a phi(a) - b phi(b)
        for bound, sign in ((low, 1.0), (high, -1.0)):
            if bound is None or not math.isfinite(bound):
                continue
            z = (bound - mean) / spread
            under = np.array([0.5 * math.erfc(-one / math.sqrt(2)) for one in z])  # numpy has no erf
            density = np.exp(-np.square(z) / 2) / math.sqrt(2 * math.pi)
            beyond = under if sign > 0 else 1.0 - under
            below, above = (under, above) if sign > 0 else (below, under)
            first = first + bound * beyond
            second = second + bound * bound * beyond
            slope, tilt = slope + sign * density, tilt + sign * z * density
        inside = above - below
        first = first + mean * inside + spread * slope
        square = np.square(mean) + np.square(spread)
        second = second + square * inside + 2 * mean * spread * slope + np.square(spread) * tilt
        return Normal(first, np.maximum(second - np.square(first), 0.0))


def expected_means(graph: Graph, ops: OpTable) -> dict[Value, Doubles]:
    """Return the mean of each channel, (C,), of the values of which BatchNormalization tells it. Linear in ops."""
    known: dict[Value, Normal] = {}
    for op in graph.ops():
        found = _normal(op, graph, ops, known)
        if found is not None:
            known[op.output] = found
    return {value: one.mean for value, one in known.items()}


def _normal(op: Op, graph: Graph, ops: OpTable, known: dict[Value, Normal]) -> Normal | None:
    if op.is_a("BatchNormalization"):
        gamma, beta = (graph.array(op.input(slot)) for slot in (1, 2))
        if gamma is None or beta is None or is_training_batchnorm(op):
            return None
        return Normal(beta.astype(np.float64), np.square(gamma.astype(np.float64)))
    read = [value for value in op.inputs if value is not None]
    first = known.get(read[0]) if read else None
    if first is None:
        return None
    bounds = clip_bounds(op, graph)
    if bounds is not None:
        return first.clipped(*bounds)
    row = ops.row(op, graph.opsets)
    if row is not None and row.scaling is Scaling.SUM:
        found = [known[value] for value in read if value in known and value.shape == read[0].shape]
        if len(found) < len(read):
            return None
        return Normal(sum((one.mean for one in found), _ZERO), sum((one.variance for one in found), _ZERO))
    pooled = op.is_a("Flatten") and all(dim == 1 for dim in (read[0].shape or (0,))[2:])
    return first if pooled or (op.kind in _KEEP_MEANS and not op.domain) else None


_ZERO = np.zeros(1)
_KEEP_MEANS = frozenset({"AveragePool", "GlobalAveragePool", "Identity", "Dropout"})
"""Ops whose outputs have the mean of their input, borders aside."""
