"""Convolutions of images, NHWC."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors.anchor import Anchor, Matcher, exact
from nncomp_tvm.kernels.anchors.contractions import contraction
from nncomp_tvm.kernels.anchors.windows import sliding
from nncomp_tvm.kernels.extents import Extent, known
from nncomp_tvm.kernels.graph import dtype_of, shape_of
from nncomp_tvm.kernels.tiling import Contraction
from nncomp_tvm.kernels.window import Fold, Window


def convolution(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """Convolve NHWC by OHWI: a contraction, or a window where each channel has its own filter."""
    attrs = call.attrs
    x, weight = call.args
    source, output = shape_of(x), shape_of(variable)
    if attrs.data_layout != "NHWC" or source is None or output is None or dtype_of(variable) != "float32":
        return None
    groups = int(attrs.groups)
    wshape = shape_of(weight)
    if wshape is None or not known(image := source[1:]) or not known(wshape):
        return None
    shape = replace(
        sliding(source[0], image, attrs, wshape[1:3]), channels=wshape[3], columns=wshape[0] // groups, groups=groups
    )
    if shape.output != output[1:3]:
        return None
    if wshape[3] == 1 and wshape[0] == groups:
        return _depthwise(matcher, call, replace(shape, columns=1), output)
    return contraction(matcher, call, shape, output, arrange=lambda w: _grouped(w, groups), axis=0)


def _grouped(weights: NDArray[Any], groups: int) -> NDArray[Any]:
    """OHWI -> (groups, kernel rows, kernel columns, channels, columns)."""
    split = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
    return split.transpose(0, 2, 3, 4, 1)


def _depthwise(matcher: Matcher, call: Any, shape: Contraction, output: tuple[Extent, ...]) -> Anchor | None:
    x, weight = call.args
    found = matcher.integers(x, weight, 0)
    bound = 0 if found is None else exact(found[0].largest * int(np.abs(found[1].astype(int)).sum((1, 2, 3)).max()))
    if found is not None and found[0].zero is None:
        quantized, stored, scale = found
        work = Window(replace(shape, zero_point=quantized.zero_point), Fold.WEIGHTED, dtype_of(quantized.value))
        anchor = matcher.device.window(work, quantized.value, stored[..., 0], output)
        if anchor is not None and (bound or anchor.source == "int32"):
            return replace(anchor, scale=scale, bound=bound)
    constant = matcher.constant(weight)
    if constant is None:
        return None
    stored = matcher.narrow(x)
    anchor = matcher.device.window(Window(shape, Fold.WEIGHTED, dtype_of(stored)), stored, constant[..., 0], output)
    return anchor and replace(anchor, bound=matcher.whole_products(x, constant[None].transpose(0, 2, 3, 4, 1)))
