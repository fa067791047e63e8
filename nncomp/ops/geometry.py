"""Geometry of convolutions and pools: kernel, strides, dilations, padding and channels, read in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nncomp.ir import Dim, Op

_WEIGHT_SLOTS: Final[dict[tuple[str, str], int]] = {
    ("", "Conv"): 1,
    ("", "ConvInteger"): 1,
    ("", "ConvTranspose"): 1,
    ("", "DeformConv"): 1,
    ("", "QLinearConv"): 3,
    ("com.microsoft", "FusedConv"): 1,
    ("com.microsoft", "NhwcFusedConv"): 1,
    ("com.microsoft", "QLinearConv"): 3,
}


_SAME: Final = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """What a convolution does, apart from its numbers.

    Attributes:
        in_channels, out_channels, group: all groups together, and how many there are.
        kernel, strides, dilations: one entry a spatial axis.
        pads: all begins, then all ends; None when they depend on a size that is not known.
        transposed: True for ConvTranspose.
    """

    in_channels: int
    out_channels: int
    group: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...] | None
    transposed: bool

    @property
    def is_depthwise(self) -> bool:
        """True when each input channel is convolved alone."""
        return self.group > 1 and self.group == self.in_channels


def conv_geometry(op: Op) -> ConvGeometry | None:
    """Return the geometry of a convolution.

    Returns:
        None for other ops, when the weight's shape is not known, and when attributes do not fit it.
    """
    slot = _WEIGHT_SLOTS.get((op.domain, op.kind))
    value = None if slot is None else op.input(slot)
    weights = None if value is None or value.tensor_type is None else value.tensor_type.static_shape
    if weights is None or len(weights) < 3:
        return None
    spatial, group, transposed = len(weights) - 2, op.attr("group", 1), op.kind == "ConvTranspose"
    strides, dilations = _steps(op, "strides", spatial), _steps(op, "dilations", spatial)
    if strides is None or dilations is None:
        return None
    return ConvGeometry(
        in_channels=weights[0] if transposed else weights[1] * group,
        out_channels=weights[1] * group if transposed else weights[0],
        group=group,
        kernel=weights[2:],
        strides=strides,
        dilations=dilations,
        pads=pads(op, spatial + 2),
        transposed=transposed,
    )


def kernel_shape(op: Op) -> tuple[int, ...] | None:
    """Return the window of a convolution or pool, from its attribute or else its weight."""
    given: tuple[int, ...] | None = op.attr("kernel_shape")
    if given:
        return given
    slot = _WEIGHT_SLOTS.get((op.domain, op.kind))
    value = None if slot is None else op.input(slot)
    weights = None if value is None or value.tensor_type is None else value.tensor_type.static_shape
    return None if weights is None else weights[2:]


def channels_last(op: Op) -> bool:
    """True for the runtime's own ops that keep channels in the last axis."""
    return op.kind.startswith("Nhwc") or bool(op.attr("channels_last", 0))


def pads(op: Op, rank: int) -> tuple[int, ...] | None:
    """Return the padding of a convolution or pool: all begins, then all ends, in the order of the spatial axes.

    Args:
        op: Conv, ConvTranspose, a pool, or a variant of them.
        rank: Rank of the data: spatial axes and two more.

    Returns:
        None when ``auto_pad`` makes it depend on sizes that are not known, for a ConvTranspose whose padding follows
        from its output size, and when attributes do not fit the rank.
    """
    sizes = _spatial(op)
    if sizes is None or len(sizes) != rank - 2:
        if op.attr("auto_pad", "NOTSET") in _SAME:
            return None
        sizes = (0,) * (rank - 2)  # explicit padding does not depend on them
    return pads_for(op, sizes)


def pads_for(op: Op, sizes: Sequence[int]) -> tuple[int, ...] | None:
    """Return the padding of a convolution or pool for data with spatial ``sizes``; as :func:`pads` otherwise."""
    spatial, auto = len(sizes), op.attr("auto_pad", "NOTSET")
    computed = auto in _SAME
    if op.kind == "ConvTranspose" and (computed or op.attr("output_shape")):
        return None
    if auto == "VALID":
        return (0,) * (2 * spatial)
    if not computed:
        given: tuple[int, ...] = op.attr("pads") or (0,) * (2 * spatial)
        return given if len(given) == 2 * spatial else None
    kernel = kernel_shape(op)
    strides, dilations = _steps(op, "strides", spatial), _steps(op, "dilations", spatial)
    if kernel is None or strides is None or dilations is None or len(kernel) != spatial:
        return None
    windows = [dilation * (k - 1) + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    return _same_pads(sizes, windows, strides, at_end=auto == "SAME_UPPER")


def convolved_sizes(sizes: Sequence[Dim], geometry: ConvGeometry) -> tuple[Dim, ...]:
    """Return the spatial sizes behind a convolution that is not transposed, for input ``sizes``; None where unknown."""
    if geometry.pads is None:
        return (None,) * len(sizes)
    begins, ends = geometry.pads[: len(sizes)], geometry.pads[len(sizes) :]
    windows = [dilation * (k - 1) + 1 for k, dilation in zip(geometry.kernel, geometry.dilations, strict=True)]
    return tuple(
        (size + begin + end - window) // stride + 1 if isinstance(size, int) else None
        for size, begin, end, window, stride in zip(sizes, begins, ends, windows, geometry.strides, strict=True)
    )


def _steps(op: Op, name: str, spatial: int) -> tuple[int, ...] | None:
    steps: tuple[int, ...] = op.attr(name) or (1,) * spatial
    return steps if len(steps) == spatial and min(steps, default=1) > 0 else None


def _same_pads(
    sizes: Sequence[int], windows: Sequence[int], strides: Sequence[int], *, at_end: bool
) -> tuple[int, ...]:
    """Pad so that the output has ceil(size / stride) elements; an odd one goes to the end, or to the beginning."""
    begins, ends = [], []
    for size, window, stride in zip(sizes, windows, strides, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if at_end else more)
        ends.append(more if at_end else less)
    return (*begins, *ends)


def _spatial(op: Op) -> tuple[int, ...] | None:
    data = op.input(0)
    if data is None or data.shape is None:
        return None
    dims = data.shape[1:-1] if channels_last(op) else data.shape[2:]
    sizes = tuple(dim for dim in dims if isinstance(dim, int))
    return sizes if len(sizes) == len(dims) else None
