"""Products of matrices: with constant weights, in bytes, or of two activations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from nncomp_tvm.kernels.anchors.anchor import Anchor, Matcher, exact
from nncomp_tvm.kernels.anchors.contractions import contraction
from nncomp_tvm.kernels.extents import Extent, Open, known, product
from nncomp_tvm.kernels.graph import array_of, dtype_of, name_of, shape_of
from nncomp_tvm.kernels.packing import signed_bytes
from nncomp_tvm.kernels.products import Product
from nncomp_tvm.kernels.program import broadcasts
from nncomp_tvm.kernels.tiling import Contraction


def matmul(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """Multiply by constant weights, packed, or by other activations, which lie as they do."""
    left, right = call.args
    source, other, output = shape_of(left), shape_of(right), shape_of(variable)
    if source is None or other is None or output is None:
        return None
    if dtype_of(variable) == "int32":
        return _integer_matmul(matcher, left, right, output)
    if dtype_of(left) != "float32" or dtype_of(right) != "float32":
        return None
    if min(len(source), len(other)) < 2:
        return None
    if known(other) and len(other) == 2:
        shape = _lines(source[:-1], other[0], other[1])
        found = contraction(matcher, call, shape, output, arrange=lambda w: w[None, None, None], axis=1)
        if found is not None:
            return found
    if source[-1] != other[-2] or not all(broadcasts(shape[:-2], output[:-2]) for shape in (source, other)):
        return None
    found = matcher.device.product(Product(source, other, output[:-2]), left, right)
    depth = source[-1]
    bound = exact(matcher.whole(left) * matcher.whole(right) * depth) if isinstance(depth, int) else 0
    return found and replace(found, bound=bound)


def _lines(rows: tuple[Extent, ...], channels: int, columns: int) -> Contraction:
    """Return a product of so many rows as one image row, or where that number is open, and large, as images of one."""
    count = product(rows)
    if isinstance(count, Open) and count.factor >= _IMAGE:
        return Contraction(Open(1, count.symbols), 1, count.factor, channels, columns)
    return Contraction(1, 1, count, channels, columns)


_IMAGE: Final = 16  # rows


def _integer_matmul(matcher: Matcher, left: Any, right: Any, output: tuple[Extent, ...]) -> Anchor | None:
    """(x - zero point) w in int32, with a zero point that is computed: MatMulInteger behind DynamicQuantizeLinear."""
    zero = None
    call: Any = matcher.definitions.get(left)
    if name_of(call) == "subtract" and shape_of(call.args[1]) in {(), (1,)}:
        left, zero = call.args
        call = matcher.definitions.get(left)
    stored = array_of(right)
    x = call.args[0] if name_of(call) == "astype" else None
    if x is None or dtype_of(x) != "uint8" or stored is None or stored.ndim != 2:
        return None
    weights = signed_bytes(stored, 0)
    if weights is None:
        return None
    source = shape_of(x)
    assert source is not None
    shape = replace(_lines(source[:-1], stored.shape[0], stored.shape[1]), integer=True)
    found = matcher.device.contraction(x, weights[None, None, None], shape, output)
    return found if zero is None or found is None else replace(found, shift=(zero, stored.sum(axis=0, dtype=np.int32)))
