"""Windows over each channel on its own: pooling, and averages of whole images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nncomp_tvm.kernels.anchors.anchor import Anchor, Matcher, exact
from nncomp_tvm.kernels.extents import Extent, known
from nncomp_tvm.kernels.graph import dtype_of, name_of, shape_of
from nncomp_tvm.kernels.tiling import Contraction
from nncomp_tvm.kernels.window import Fold, Window


def pool(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """Maxima, and averages that count padding or have none."""
    attrs, x = call.attrs, call.args[0]
    source, output = shape_of(x), shape_of(variable)
    if attrs.layout != "NHWC" or source is None or output is None or not known(image := source[1:]):
        return None
    shape = sliding(source[0], image, attrs, attrs.pool_size)
    if shape.output != output[1:3]:
        return None
    if name_of(call) == "nn.max_pool2d":
        return _reduction(matcher, x, shape, Fold.MAX, output)
    if any(shape.pads) and not attrs.count_include_pad:
        return None
    found = _reduction(matcher, x, shape, Fold.SUM, output)
    return found and replace(found, shifts=True)


def mean(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """Average whole images, channel by channel."""
    source, output = shape_of(call.args[0]), shape_of(variable)
    if (
        source is None
        or output is None
        or len(source) != 4
        or not known(image := source[1:])
        or call.attrs.axis is None
    ):
        return None
    if [int(axis) for axis in call.attrs.axis] != [1, 2]:
        return None
    height, width, channels = image
    shape = Contraction(source[0], height, width, 1, 1, kernel=(height, width), groups=channels)
    return _reduction(matcher, call.args[0], shape, Fold.SUM, output)


def _reduction(matcher: Matcher, x: Any, shape: Contraction, fold: Fold, output: tuple[Extent, ...]) -> Anchor | None:
    """Pool real numbers, or integers that stand for them: scale and zero point are applied to what is left."""
    source = shape_of(x)
    if source is None or dtype_of(x) != "float32":
        return None
    count = shape.kernel[0] * shape.kernel[1] if fold is Fold.SUM else 1
    quantized = matcher.quantized(x)
    if quantized is None or quantized.scale.size != 1:
        scale = np.ones(1, np.float32) if fold is Fold.SUM else None
        anchor = matcher.device.window(Window(shape, fold), x, None, output)
        return anchor and replace(anchor, scale=scale, divisor=count)
    scale = quantized.scale
    offset = -scale * np.float32(quantized.zero_point) if fold is Fold.MAX else None
    work = Window(replace(shape, zero_point=quantized.zero_point), fold, dtype_of(quantized.value))
    anchor = matcher.device.window(work, quantized.value, None, output)
    bound = exact(quantized.largest * count)
    return anchor and replace(anchor, scale=scale, offset=offset, divisor=count, bound=bound)


def sliding(batch: Extent, image: tuple[int, ...], attrs: Any, kernel: Any) -> Contraction:
    """Return an operator that slides over an image, each channel a group of its own."""
    height, width, *_ = (int(size) for size in kernel)
    strides, dilations = (tuple(int(v) for v in values) for values in (attrs.strides, attrs.dilation))
    top, left, bottom, right = (int(pad) for pad in attrs.padding)
    return Contraction(
        batch=batch,
        height=image[0],
        width=image[1],
        channels=1,
        columns=1,
        kernel=(height, width),
        strides=(strides[0], strides[1]),
        dilations=(dilations[0], dilations[1]),
        pads=(top, left, bottom, right),
        groups=image[2],
    )
