"""Weights of ops that both graphs have, as numbers: what is stored in integers is multiplied out first.

So a float model and what quantization made of it are compared weight by weight, though no constant of one is in the
other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nncomp.diff.changes import WeightChange
from nncomp.diff.matching import Matching
from nncomp.ir import Graph, Op, Tensor, Value
from nncomp.text.digest import numbers
from nncomp.text.graphs import in_order

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float64]


def weight_changes(a: Graph, b: Graph, found: Matching) -> Iterator[WeightChange]:
    """Yield what became of constants behind a dequantizer or a cast, in either graph, in the order of ``b``'s ops.

    Ops of both graphs are compared operand by operand; those whose operand is the same tensor, or has another shape,
    yield nothing.
    """
    for op in in_order(b):
        old = found.ops.get(op)
        for slot in range(min(len(op.inputs), len(old.inputs)) if old is not None else 0):
            assert old is not None
            before, after = _stored(a, old.input(slot)), _stored(b, op.input(slot))
            if before is None or after is None or before[0] is after[0] or not (before[1] or after[1]):
                continue
            x, y = _multiplied_out(a, *before), _multiplied_out(b, *after)
            if x is not None and y is not None and x.shape == y.shape and x.size:
                yield WeightChange(op.label, slot, _name(before[0]), _name(after[0]), *_distance(x, y))


def _stored(graph: Graph, value: Value | None) -> tuple[Tensor, tuple[Op, ...]] | None:
    """Return a constant operand as stored, and the ops that make numbers of it, the first one first."""
    steps: list[Op] = []
    while value is not None and value.producer is not None and value.producer.kind in ("DequantizeLinear", "Cast"):
        steps.append(value.producer)
        value = value.producer.input(0)
    tensor = graph.constant(value)
    return None if tensor is None or not tensor.shape else (tensor, tuple(steps[::-1]))


def _multiplied_out(graph: Graph, tensor: Tensor, steps: tuple[Op, ...]) -> Floats | None:
    array = numbers(tensor)
    for step in steps:
        if array is not None and step.is_a("DequantizeLinear"):
            array = _dequantized(graph, step, array)
    return None if array is None else np.asarray(array, np.float64)


def _dequantized(graph: Graph, op: Op, codes: Array) -> Array | None:
    """Return (codes - zero point) * scale, one scale an index of the axis, or one a block of them."""
    scale, zero = graph.constant(op.input(1)), graph.constant(op.input(2))
    scales = None if scale is None else numbers(scale)
    zeros = 0 if zero is None else numbers(zero)
    if scales is None or zeros is None:
        return None
    axis, block = int(op.attr("axis", 1)), int(op.attr("block_size", 0))
    spread = [_along(np.asarray(one, np.float64), codes.ndim, axis) if not block else _blocks(one, codes, axis, block)
              for one in (scales, zeros)]  # fmt: skip
    return np.asarray((np.asarray(codes, np.float64) - spread[1]) * spread[0])


def _along(array: Floats, ndim: int, axis: int) -> Floats:
    if array.ndim != 1 or array.size == 1:
        return array.reshape(()) if array.size == 1 else array
    shape = [1] * ndim
    shape[axis] = array.size
    return array.reshape(shape)


def _blocks(array: object, codes: Array, axis: int, block: int) -> Floats:
    spread = np.asarray(array, np.float64)
    if spread.ndim == 0:
        return spread
    return np.asarray(np.repeat(spread, block, axis=axis).take(range(codes.shape[axis]), axis=axis))


def _distance(a: Floats, b: Floats) -> tuple[float, float | None]:
    """Return largest absolute difference, and SQNR in dB; None for it without signal or noise."""
    difference = a - b
    signal, noise = float(np.vdot(a, a)), float(np.vdot(difference, difference))
    sqnr = 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None
    return float(np.abs(difference).max()), sqnr


def _name(tensor: Tensor) -> str:
    return f"{tensor.dtype.name.lower()}[{','.join(map(str, tensor.shape))}]"
