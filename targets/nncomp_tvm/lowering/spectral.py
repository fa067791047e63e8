"""DFT and STFT: a product with a matrix of cosines and sines, which is known before the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, Value
from nncomp_tvm.lowering.adding import Adding, dtype_of, number, static_shape

Array = npt.NDArray[Any]

_MAX_MATRIX: Final = 1 << 24  # elements


def without_transform(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """DFT along one axis: (.., n, c) -> (.., n c) -> one product -> (.., k, 2)."""
    add = Adding(graph)
    data, shape = op.inputs[0], static_shape(op.inputs[0])
    length, axis = number(graph, op.input(1)), number(graph, op.input(2))
    if data is None or shape is None or (op.input(1) is not None and length is None):
        return None
    if axis is None:
        axis = -2 if graph.opsets.get("", 1) >= 20 else int(op.attr("axis", 1))
    rank, axis = len(shape), axis % len(shape)
    inverse, onesided = bool(op.attr("inverse", 0)), bool(op.attr("onesided", 0))
    count = length or (2 * (shape[axis] - 1) if inverse and onesided else shape[axis])
    matrix = _matrix(shape[axis], shape[-1], count, inverse=inverse, onesided=onesided)
    if matrix is None or axis == rank - 1:
        return None
    order = [*(place for place in range(rank - 1) if place != axis), axis, rank - 1]
    lead = [shape[place] for place in order[:-2]]
    result = _product(add, add("Transpose", data, perm=order), matrix, lead, dtype_of(data))
    return (add("Transpose", result, perm=np.argsort(order).tolist()),)


def without_frames(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """STFT: frames cut out of the signal (batch, length, c), weighted by the window, and a DFT of each."""
    add = Adding(graph)
    signal, window = op.inputs[0], op.input(2)
    shape, seen = static_shape(signal), static_shape(window)
    step, length = number(graph, op.input(1)), number(graph, op.input(3))
    if signal is None or shape is None or not step or (op.input(3) is not None and length is None):
        return None
    size = length or (seen[0] if seen else shape[1])
    if seen not in (None, (size,)) or size > shape[1]:
        return None
    matrix = _matrix(size, shape[2], size, inverse=False, onesided=bool(op.attr("onesided", 1)))
    if matrix is None:
        return None
    starts = np.arange(1 + (shape[1] - size) // step) * step
    frames = add("Gather", signal, add.constant(starts[:, None] + np.arange(size)), axis=1)
    if window is not None:
        frames = add("Mul", frames, add("Reshape", window, add.constant([size, 1])))
    return (_product(add, frames, matrix, (shape[0], len(starts)), dtype_of(signal)),)


def _matrix(size: int, parts: int, length: int, *, inverse: bool, onesided: bool) -> Array | None:
    """Return what (.., size, parts) is multiplied with: (size, parts, outputs, parts of outputs).

    y[k] = sum_m x[m] exp(-2 pi i k m / length); the inverse turns the other way and divides by the length. Of a real
    signal half of y says all; back from that half, its inner part counts twice.
    """
    back = inverse and onesided
    outputs = length // 2 + 1 if onesided and not back else length
    used = min(size, length // 2 + 1 if back else length)
    if size * parts * outputs * 2 > _MAX_MATRIX or length < 1:
        return None
    turns = np.outer(np.arange(used), np.arange(outputs)) % length * (2 * np.pi / length)
    cosine, sine = np.cos(turns), np.sin(turns) * (-1 if inverse else 1)
    if inverse:
        cosine, sine = cosine / length, sine / length
    if back:
        twice = np.full((used, 1), 2.0)
        twice[0] = 1
        twice[length // 2 : None if length % 2 == 0 else 0] = 1
        cosine, sine = cosine * twice, sine * twice
    found = np.zeros((size, parts, outputs, 1 if back else 2))
    found[:used, 0, :, 0] = cosine
    if parts == 2:
        found[:used, 1, :, 0] = sine
    if not back:
        found[:used, 0, :, 1] = -sine
        if parts == 2:
            found[:used, 1, :, 1] = cosine
    return found


def _product(add: Adding, data: Value, matrix: Array, lead: Sequence[int], dtype: np.dtype[Any]) -> Value:
    """Multiply (.., size, parts) with a matrix; ``lead`` are the sizes before those two."""
    size, parts, outputs, kinds = matrix.shape
    flat = add("Reshape", data, add.constant([*lead, size * parts]))
    found = add("MatMul", flat, add.constant(matrix.reshape(size * parts, outputs * kinds), dtype))
    result: Value = add("Reshape", found, add.constant([*lead, outputs, kinds]))
    return result
