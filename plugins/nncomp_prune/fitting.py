"""Least squares from second moments: the weight that comes nearest to what a layer should give.

    min over W, b of  sum |y - W x - b|^2 + ridge |W - W0|^2

with W0 the weight that the layer has: where the data says nothing, nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op
from nncomp.ops import LayerBias, MatrixView, OpTable, layer_bias, set_layer_bias
from nncomp.statistics import Moments

Doubles = npt.NDArray[np.float64]

HOLD_OUT: Final = 4
"""One sample of so many tries out how strong the ridge must be."""

_POWERS: Final = 6
"""Ridges that are tried, each ten times the one before."""

_FEW_ROWS: Final = 4.0
"""Rows for each column below which the ridge grows."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer with a weight, as it is in one graph.

    Attributes:
        op, view: The layer.
        weight: (G, O, K).
        bias: Where means go; None when nothing can take them up.
    """

    op: Op
    view: MatrixView
    weight: Doubles
    bias: LayerBias | None


@dataclass(frozen=True, slots=True)
class Fit:
    """The solution with all columns, and what elimination needs.

    Attributes:
        weight: (G, O, K).
        inverse: (G, K, K), (H + ridge I)^-1.
        energy: sum of y^2 about the mean, over all outputs.
    """

    weight: Doubles
    inverse: Doubles
    energy: float


def layer_of(graph: Graph, name: str, ops: OpTable) -> Layer:
    """Return the layer of ``graph`` whose output is called ``name``; it has a matrix view."""
    op = graph.find(name).producer
    assert op is not None
    view = ops.matrix(op, graph)
    assert view is not None
    array = graph.array(op.input(view.weight))
    assert array is not None
    return Layer(op, view, view.matrix(array), layer_bias(graph, op, view))


def normal_equations(moments: Moments, layer: Layer, *, ridge: float) -> tuple[Doubles, Doubles]:
    """Return H (G, K, K) and C (G, O, K) of the least squares W H = C, ridge included.

    Args:
        moments: What the layer reads and should give.
        layer: It has W0; the means are left to its bias if there is a place for one.
        ridge: Relative to the mean square of an input; more where rows are few for so many columns.
    """
    used = moments.centered() if layer.bias is not None else moments
    strength = pull(moments, layer, ridge=ridge)[:, None, None]
    return used.xx + strength * np.eye(used.xx.shape[1]), used.yx + strength * layer.weight


def pull(moments: Moments, layer: Layer, *, ridge: float) -> Doubles:
    """Return how strongly each group's weights are held where they are, (G,); arguments as above."""
    used = moments.centered() if layer.bias is not None else moments
    columns = used.xx.shape[1]
    typical = np.trace(used.xx, axis1=1, axis2=2) / columns
    typical[typical <= 0] = 1.0
    return np.asarray(typical * ridge * max(1.0, _FEW_ROWS * columns / max(moments.count, 1)) ** 2)


def ridges(least: float) -> list[float]:
    """Return the ridges that are tried, ascending."""
    return [least * 10.0**power for power in range(_POWERS)]


def held_out_error(seen: Moments, unseen: Moments, layer: Layer, weight: Doubles) -> float:
    """Return the squared error on ``unseen`` rows of a weight (G, O, K), with the bias that ``seen`` rows give it."""
    shift = (seen.y - np.einsum("gok,gk->go", weight, seen.x)) / max(seen.count, 1)
    return float(unseen.squared_error(weight, None if layer.bias is None else shift).sum())


def ridge_of(seen: Moments, unseen: Moments, layer: Layer, *, ridge: float) -> float:
    """Return the one of :func:`ridges` with the least squared error on rows that were not fitted.

    Args:
        seen: Moments of the rows to fit.
        unseen: Moments of other rows.
        layer: The layer.
        ridge: The least.
    """
    found = []
    for strength in ridges(ridge):
        square, cross = normal_equations(seen, layer, ridge=strength)
        weight = np.asarray(np.linalg.solve(square, cross.swapaxes(1, 2)).swapaxes(1, 2), np.float64)
        found.append(held_out_error(seen, unseen, layer, weight))
    return ridges(ridge)[int(np.argmin(found))]


def fit(moments: Moments, layer: Layer, *, ridge: float) -> Fit:
    """Solve for one layer; arguments as for :func:`normal_equations`."""
    square, cross = normal_equations(moments, layer, ridge=ridge)
    inverse = np.linalg.inv(square)
    inverse = (inverse + inverse.swapaxes(1, 2)) / 2.0
    return Fit(cross @ inverse, inverse, float(moments.centered().yy.sum()))


def put(
    graph: Graph,
    layer: Layer,
    weight: Doubles,
    moments: Moments | None,
    *,
    whole: bool = False,
    means: Doubles | None = None,
) -> None:
    """Let a layer have another weight, and the bias that goes with it.

    A weight that something else reads as well stays shared: it only loses the columns that are zero in the new one.

    Args:
        graph: Graph of the layer.
        layer: The layer.
        weight: (G, O, K).
        moments: What it reads and should give: the bias becomes the mean of y - W x. None leaves the bias.
        whole: y includes a bias that is added behind the layer.
        means: (G, O), what the bias becomes instead.
    """
    old = layer.op.input(layer.view.weight)
    assert old is not None
    if not graph.single_use(old):
        weight, means = np.where(weight.any(axis=1, keepdims=True), layer.weight, 0.0), None
    graph.replace_uses(old, graph.add_constant(old.name, layer.view.restore(weight)))
    graph.remove_unused([old])
    if moments is None or layer.bias is None:
        return
    if means is None:
        means = (moments.y - np.einsum("gok,gk->go", weight, moments.x)) / max(moments.count, 1)
    inside = layer.bias.inside or whole
    set_layer_bias(graph, layer.bias, means if inside else means + layer.bias.values)
