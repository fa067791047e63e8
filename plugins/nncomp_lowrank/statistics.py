"""What calibration says of each layer: the second moments of its inputs, and how much the model's output minds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Value
from nncomp.ops import layer_bias
from nncomp.passes import Context
from nncomp.runtime import Feeds, Session
from nncomp.statistics import Moments, collect_moments, executor_of
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.svd import Array

Floats = npt.NDArray[np.generic]

RIDGE: Final = 1e-3
"""Share of the mean variance that every direction of the inputs is taken to have, however many rows were seen."""

SHRINKAGE: Final = 0.1
"""How much more of it for each input per row: few rows say little of many inputs, and least squares would learn them by
heart."""


MAX_MOMENTS: Final = 1 << 27
"""Largest matrix of moments, in elements: a gibibyte. Layers that read more channels are fitted to weights alone."""


def input_moments(
    graph: Graph, layers: Sequence[Layer], ctx: Context, *, samples: int, positions: int
) -> dict[Layer, Array]:
    """Return the second moments (G, K, K) of what each layer of the model's own graph multiplies.

    About the mean where a bias can take up the mean error. Layers of bodies, whose values are not calibrated, and very
    wide ones are left out. Moments of layers with several sites are means over all.
    """
    outside = [
        layer
        for layer in layers
        if all(part is graph for part, _ in layer.sites) and layer.groups * layer.view.columns**2 <= MAX_MOMENTS
    ]
    if ctx.data is None or not outside:
        return {}
    found = collect_moments(
        graph,
        [op.output.name for layer in outside for _, op in layer.sites],
        islice(iter(ctx.data), samples),
        ops=ctx.ops,
        positions=positions,
        executor=executor_of(ctx),
        progress=ctx.progress,
    )
    return {
        layer: gram_of([found[op.output.name] for _, op in layer.sites], centered=has_biases(layer))
        for layer in outside
    }


def gram_of(moments: Iterable[Moments], *, centered: bool) -> Array:
    """Return the mean of x^T x over all rows, (G, K, K), with a ridge."""
    total, count = np.zeros(()), 0
    for one in moments:
        total = total + (one.centered() if centered else one).xx
        count += one.count
    return ridged(np.asarray(total) / max(count, 1), count)


def ridged(gram: Array, rows: int) -> Array:
    """Return second moments (G, K, K), the mean over ``rows``, with a share of their mean diagonal added to it."""
    size = gram.shape[-1]
    share = RIDGE + SHRINKAGE * size / max(rows, 1)
    mean = np.einsum("gkk->g", gram) / size
    mean = np.where(mean > 0, mean, 1.0)
    return np.asarray(gram + share * mean[:, None, None] * np.eye(size))


def has_biases(layer: Layer) -> bool:
    """True when every site of the layer has a bias that can take up its mean error."""
    return all(layer_bias(graph, op, layer.view) is not None for graph, op in layer.sites)


def input_shapes(graph: Graph, layers: Sequence[Layer], feeds: Feeds | None) -> Mapping[Value, tuple[int, ...]]:
    """Return the shape of what each site multiplies, as ``feeds`` make it; sizes that nobody knows are 1."""
    values = list(dict.fromkeys(value for layer in layers for value in layer.inputs))
    seen = _seen(graph, [value for value in values if not _is_static(value)], feeds)
    return {
        value: seen[value].shape
        if value in seen
        else tuple(dim if isinstance(dim, int) else 1 for dim in value.shape or ())
        for value in values
    }


def layer_inputs(graph: Graph, layers: Sequence[Layer], feeds: Feeds | None) -> Mapping[Value, Floats]:
    """Return what each site of the model's own graph multiplies on one sample; nothing without one."""
    return _seen(graph, list(dict.fromkeys(value for layer in layers for value in layer.inputs)), feeds)


def _seen(graph: Graph, values: Sequence[Value], feeds: Feeds | None) -> dict[Value, Floats]:
    here = [value for value in values if value in graph]
    if not here or feeds is None:
        return {}
    found = dict(feeds) | Session(graph, outputs=[value.name for value in here]).run(feeds)
    return {value: found[value.name] for value in here}


def sensitivities(
    graph: Graph,
    layers: Sequence[Layer],
    damaged: Mapping[Layer, tuple[Array, float]],
    data: Iterable[Feeds],
) -> dict[Layer, float]:
    """Return how far the model's outputs move, in square, for each unit of a layer's relative squared error.

    Each layer in turn gets a weight of low rank, and the model runs.

    Args:
        graph: A model's own graph.
        layers: Layers of it.
        damaged: Of each layer a weight (G, O, I, kernel...) and the relative squared error of its output.
        data: What to run on.
    """
    feeds = list(data)
    reference = _outputs(graph, feeds)
    found = {}
    for layer in layers:
        weight, error = damaged[layer]
        twin, mapping = graph.clone_with_map()
        old = mapping[layer.weight]
        assert isinstance(old, Value)
        matrix = weight.reshape(layer.groups, layer.shape[0], -1)
        twin.replace_uses(old, twin.add_constant(f"{old.name}.damaged", layer.view.restore(matrix)))
        found[layer] = relative_error(reference, _outputs(twin, feeds)) / max(error, 1e-12)
    return found


def relative_error(expected: Sequence[Mapping[str, Array]], found: Sequence[Mapping[str, Array]]) -> float:
    """Return sum (a - b)^2 / sum a^2, averaged over the float outputs; 1 for one whose size depends on the data."""
    shares = []
    for name in expected[0] if expected else ():
        if isinstance(expected[0][name], list) or not np.issubdtype(np.asarray(expected[0][name]).dtype, np.floating):
            continue
        pairs = [(one[name].astype(np.float64), two[name]) for one, two in zip(expected, found, strict=True)]
        if any(a.shape != b.shape for a, b in pairs):
            shares.append(1.0)
            continue
        signal = sum(float(np.square(a).sum()) for a, _ in pairs)
        shares.append(sum(float(np.square(a - b).sum()) for a, b in pairs) / max(signal, 1e-300))
    return float(np.mean(shares)) if shares else 0.0


def model_error(before: Graph, after: Graph, data: Iterable[Feeds]) -> float:
    """Return :func:`relative_error` of two graphs' outputs."""
    feeds = list(data)
    return relative_error(_outputs(before, feeds), _outputs(after, feeds))


def _outputs(graph: Graph, feeds: Sequence[Feeds]) -> list[dict[str, Array]]:
    session = Session(graph, optimize=True)
    return [session.run(one) for one in feeds]


def _is_static(value: Value) -> bool:
    return value.shape is not None and all(isinstance(dim, int) for dim in value.shape)
