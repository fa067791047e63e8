"""Weights rounded up or down for the least error of each layer's output, instead of to the nearest.

With x what a layer reads and H = E[x x^T], codes q and scale s of an output channel leave (s q - w) H (s q - w)^T of
squared error. Each code may be the integer below or above w / s (as in Nagel et al., "Up or down? Adaptive rounding for
post-training quantization", ICML 2020, which trains a relaxation of that); from the nearest ones on, one code after the
other takes the better of the two as the others stand, until none wants to change: coordinate descent on second
moments, in numpy, all output channels at once.

The mean of the error, (s q - w) E[x], goes into the bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op
from nncomp.obs import Floats
from nncomp.ops import MatrixView
from nncomp.passes import Context
from nncomp.statistics import POSITIONS, collect_moments, executor_of, remembered
from nncomp.text import model_digest
from nncomp_quant.bias_correction import shift_bias
from nncomp_quant.plan import QuantPlan
from nncomp_quant.scales import FloatArray
from nncomp_quant.weights import WeightQuantizer

_DAMPING: Final = 0.01
"""Added to the diagonal of H, relative to its mean: a few samples do not say all of H."""
_SWEEPS: Final = 4
_ROOM: Final = 1 << 27
"""Bytes of second moments, and of rows that wait to be added to them, at once; those of one layer at the least."""


def round_weights(
    graph: Graph, plan: QuantPlan, weights: WeightQuantizer, ctx: Context, *, samples: int
) -> WeightQuantizer:
    """Put the float weights of static layers where rounding is best; return a quantizer that keeps their scales.

    Memory: K^2 doubles a layer and group, of as many layers as go into 128 MiB; for others the model runs again.

    Args:
        graph: A model's own float graph.
        plan: What will be quantized of it.
        weights: How weights will be quantized.
        ctx: Gives data, threads and progress.
        samples: Calibration samples to take second moments of.
    """
    layers = {op.output.name: op for op in plan.static if _rounds(graph, op, ctx)}
    if not layers or ctx.data is None:
        return weights
    scales = {op: _scale(graph, op, weights, ctx) for op in layers.values()}
    parts = [model_digest(graph), samples, [[weights.bits(op), scale.tolist()] for op, scale in scales.items()]]
    found = remembered(ctx, lambda: _rounded(graph, layers, scales, weights, ctx=ctx, samples=samples), *parts)
    for name, op in layers.items():
        codes, shift = found[name]
        role, view = ctx.ops.quant(op, graph.opsets), ctx.ops.matrix(op, graph)
        assert view is not None and role.weight is not None
        value = op.inputs[role.weight]
        assert value is not None
        restored = view.restore(codes * _rows(scales[op], view))
        graph.set_input(op, role.weight, graph.add_constant(f"{value.name}_rounded", restored))
        graph.remove_unused([value])
        shift_bias(graph, op, shift, ctx.ops)
    return weights.with_scales(scales)


def _scale(graph: Graph, op: Op, weights: WeightQuantizer, ctx: Context) -> FloatArray:
    role = ctx.ops.quant(op, graph.opsets)
    assert role.weight is not None
    array = graph.array(op.inputs[role.weight])
    assert array is not None
    return weights.scale(op, array, role)


def _rows(scale: FloatArray, view: MatrixView) -> Floats:
    """Return the scales of the rows of a layer's matrix, (G, O, 1)."""
    rows = np.broadcast_to(scale, (view.groups * view.outputs,)).reshape(view.groups, view.outputs, 1)
    return np.asarray(rows, np.float64)


def _rounded(
    graph: Graph,
    layers: Mapping[str, Op],
    scales: Mapping[Op, FloatArray],
    weights: WeightQuantizer,
    *,
    ctx: Context,
    samples: int,
) -> dict[str, list[npt.NDArray[Any]]]:
    """Return codes, (G, O, K), int8, and the mean error of each output channel, (G O,), by layer."""
    assert ctx.data is not None
    found: dict[str, list[npt.NDArray[Any]]] = {}
    for names in _portions(graph, layers, ctx, samples):
        moments = collect_moments(
            graph,
            names,
            islice(iter(ctx.data), samples),
            ops=ctx.ops,
            executor=executor_of(ctx),
            progress=ctx.progress,
            total=samples,
        )
        for name, seen in moments.items():
            op = layers[name]
            role, view = ctx.ops.quant(op, graph.opsets), ctx.ops.matrix(op, graph)
            assert role.weight is not None and view is not None
            array = graph.array(op.inputs[role.weight])
            assert array is not None
            matrix, step, count = view.matrix(array), _rows(scales[op], view), max(seen.count, 1)
            codes = best_codes(matrix, step, seen.xx / count, top=2 ** (weights.bits(op) - 1) - 1)
            shift = np.einsum("gok,gk->go", codes * step - matrix, seen.x / count).reshape(-1)
            found[name] = [codes.astype(np.int8), shift]
    return found


def _portions(graph: Graph, layers: Mapping[str, Op], ctx: Context, samples: int) -> list[list[str]]:
    """Return names of layers, as many together as there is room for."""
    portions: list[list[str]] = [[]]
    held = 0
    for name, op in layers.items():
        view = ctx.ops.matrix(op, graph)
        assert view is not None
        rows = POSITIONS * samples
        size = view.groups * (8 * view.columns**2 + 4 * rows * (view.columns + view.outputs))
        if portions[-1] and held + size > _ROOM:
            portions.append([])
            held = 0
        portions[-1].append(name)
        held += size
    return portions


def best_codes(matrix: Floats, step: Floats, moments: Floats, *, top: int) -> Floats:
    """Return codes, each the integer below or above w / s; never worse than the nearest ones.

    O(G O K^2) a sweep at the most; a column costs O(O K) where a code changes.

    Args:
        matrix: (G, O, K) weights.
        step: (G, O, 1) scales.
        moments: (G, K, K) E[x x^T], symmetric.
        top: Largest code; the smallest is -top.
    """
    columns = matrix.shape[2]
    damped = moments + _DAMPING * np.einsum("gkk->g", moments)[:, None, None] / columns * np.eye(columns)
    exact = matrix / step
    codes = np.clip(np.rint(exact), -top, top)
    other = np.clip(np.where(codes > exact, codes - 1, codes + 1), -top, top)
    pull = (codes - exact) @ damped  # half the gradient, in units of the scale
    for _ in range(_SWEEPS):
        changed = False
        for column in range(columns):
            change = other[..., column] - codes[..., column]
            gain = change * (2 * pull[..., column] + change * damped[:, column, column, None])
            change = np.where(gain < 0, change, 0.0)
            group, row = np.nonzero(change)
            if not len(group):
                continue
            changed = True
            pull[group, row] += change[group, row, None] * damped[group, column]
            old = codes[group, row, column]
            codes[group, row, column], other[group, row, column] = other[group, row, column], old
        if not changed:
            break
    return codes


def _rounds(graph: Graph, op: Op, ctx: Context) -> bool:
    """True where the layer alone reads its weight, and rows of its matrix are output channels."""
    role = ctx.ops.quant(op, graph.opsets)
    if role.weight is None or role.bias is None or role.weight_axis is None:
        return False
    weight = op.inputs[role.weight]
    return weight is not None and len(graph.uses(weight)) == 1 and ctx.ops.matrix(op, graph) is not None
