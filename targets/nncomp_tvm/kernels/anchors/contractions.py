"""Contractions of activations with constant weights, float32 or bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors.anchor import Anchor, Matcher
from nncomp_tvm.kernels.extents import Extent
from nncomp_tvm.kernels.tiling import Contraction


def contraction(
    matcher: Matcher,
    call: Any,
    shape: Contraction,
    output: tuple[Extent, ...],
    *,
    arrange: Callable[[NDArray[Any]], NDArray[Any]],
    axis: int,
) -> Anchor | None:
    """Return a contraction, with bytes if both operands are quantized and the device multiplies them.

    Args:
        arrange: Makes (groups, kernel rows, kernel columns, channels, columns) of the weights.
        axis: The axis of the weights with the output channels.
    """
    x, weight = call.args
    found = matcher.integers(x, weight, axis)
    if found is not None:
        quantized, stored, scale = found
        bytes_ = replace(shape, integer=True, zero_point=quantized.zero_point).flattened()
        arranged = arrange(stored)
        anchor = matcher.device.contraction(quantized.value, arranged, bytes_, output, zero=quantized.zero)
        if anchor is not None:
            sums = arranged.sum(axis=(1, 2, 3), dtype=np.int32).reshape(-1)
            return replace(anchor, scale=scale, shift=None if quantized.zero is None else (quantized.zero, sums))
    constant = matcher.constant(weight)
    if constant is None:
        return None
    weights = arrange(constant)
    anchor = matcher.device.contraction(matcher.narrow(x), weights, shape.flattened(), output)
    return anchor and replace(anchor, bound=matcher.whole_products(x, weights))
