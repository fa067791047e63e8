"""Refit a layer to what is left of its output behind an activation that cuts it off, such as Relu or Clip.

    min over W, b of  sum (f(t) - f(W x + b + o))^2,   f(t) = min(max(t, low), high)

with t what the activation should read, x the rows and o what is added to the layer's output. Where t lies beyond a
bound, it does not matter how far beyond the layer's output lies. So each of a few rounds solves a least squares of its
own, in which such a row asks for what it gets already, or for the bound where it gets less (majorization; the auxiliary
variables of Zhang et al., "Accelerating very deep convolutional networks for classification and detection", TPAMI 2016,
without their relaxation). All rounds share one inverse, and the best one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from nncomp.ir import Graph, Value
from nncomp.ops.accessors import clip_bounds
from nncomp.statistics import Moments, Rows
from nncomp_prune.fitting import Doubles, Fit, Layer, pull

Bounds = tuple[float, float]

_ROUNDS: Final = 6
_BLOCK: Final = 256
"""Rows that are multiplied at once: BLAS adds short products up alike on any number of threads."""


def bounds_behind(graph: Graph, layer: Layer, total: str | None) -> Bounds | None:
    """Return (low, high) of the activation behind a layer.

    Args:
        graph: Graph of the layer.
        layer: The layer.
        total: Name of the sum that its output goes into, if that is what it aims at.

    Returns:
        None unless all that read the layer's output, or the sum, cut it off alike.
    """
    if layer.bias is None:
        return None
    value: Value = layer.op.output if layer.bias.inside else layer.bias.op.output
    value = value if total is None else graph.find(total)
    found = {clip_bounds(op, graph) for op in graph.users(value)}
    if len(found) != 1 or (bounds := found.pop()) is None or value in graph.outputs:
        return None
    low, high = bounds
    return -np.inf if low is None else low, np.inf if high is None else high


def rectified(
    found: Fit, rows: Rows, moments: Moments, layer: Layer, bounds: Bounds, *, ridge: float
) -> tuple[Doubles, Doubles]:
    """Return weight (G, O, K) and means (G, O) that come nearest behind the activation; see the module.

    Args:
        found: The plain solution; columns that are zero in it stay zero, and its inverse is that of the others.
        rows: What the layer reads and should give.
        moments: Of the same rows.
        layer: As it was; it has a bias.
        bounds: Of the activation.
        ridge: As for the plain solution.
    """
    weight, means = found.weight.copy(), np.zeros(found.weight.shape[:2])
    pulls = pull(moments, layer, ridge=ridge)
    for group in range(len(weight)):
        one = _Group(rows, group, layer, bounds)
        weight[group], means[group] = one.solved(weight[group], found.inverse[group], float(pulls[group]))
    return weight, means


class _Group:
    """The problem of one group of a layer."""

    def __init__(self, rows: Rows, group: int, layer: Layer, bounds: Bounds) -> None:
        assert layer.bias is not None
        self._columns = rows.x.shape[2]
        wide = -(-self._columns // 32) * 32
        self._x = np.zeros((rows.x.shape[1], wide), np.float32)
        self._x[:, : self._columns] = rows.x[group]
        self._mean = rows.x[group].mean(axis=0, dtype=np.float64)
        outside = 0.0 if rows.other is not None or layer.bias.inside else layer.bias.values[group]
        self._added = np.broadcast_to(
            np.float32(outside) if rows.other is None else rows.other[group], rows.y[group].shape
        )
        self._aim = rows.y[group] + self._added
        self._bounds, self._old = bounds, layer.weight[group]

    def solved(self, weight: Doubles, inverse: Doubles, strength: float) -> tuple[Doubles, Doubles]:
        """Return the best weight (O, K) and bias (O,) of a few rounds."""
        gone = ~weight.any(axis=0)
        old = np.where(gone, 0.0, self._old)
        bias = (self._aim - self._added).mean(axis=0, dtype=np.float64) - weight @ self._mean
        best, least = (weight, bias), np.inf
        for _ in range(_ROUNDS + 1):
            error, wanted, cross = self._round(weight, bias)
            if error < least:
                best, least = (weight, bias), error
            centered = cross - len(self._x) * wanted[:, None] * self._mean + strength * old
            weight = np.where(gone, 0.0, centered @ inverse)
            bias = wanted - weight @ self._mean
        return best

    def _round(self, weight: Doubles, bias: Doubles) -> tuple[float, Doubles, Doubles]:
        """Return the error behind the activation, the mean (O,) of what rows ask for, and products (O, K) with x."""
        low, high = self._bounds
        matrix = np.zeros((len(weight), self._x.shape[1]), np.float32)
        matrix[:, : self._columns] = weight
        error, wanted, cross = 0.0, np.zeros(len(weight)), np.zeros((len(weight), self._x.shape[1]))
        for x, aim, added in self._blocks():
            given = x @ matrix.T + bias.astype(np.float32) + added
            asked = np.where(aim < low, np.minimum(given, low), np.where(aim > high, np.maximum(given, high), aim))
            error += float(np.square(np.clip(given, low, high) - np.clip(aim, low, high)).sum(dtype=np.float64))
            asked -= added
            wanted += asked.sum(axis=0, dtype=np.float64)
            cross += asked.T @ x
        return error, wanted / len(self._x), cross[:, : self._columns]

    def _blocks(self) -> Iterator[tuple[Any, Any, Any]]:
        for first in range(0, len(self._x), _BLOCK):
            some = slice(first, first + _BLOCK)
            yield self._x[some], self._aim[some], self._added[some]
