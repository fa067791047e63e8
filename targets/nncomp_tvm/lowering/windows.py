"""Windows that move over an image: the place of a maximum, sums of overlapping windows, windows bent by offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from nncomp.ir import Op
from nncomp_tvm.library import Expr, relax, te, tirx
from nncomp_tvm.lowering.calls import Call, NotLoweredError

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """How a window moves, each by spatial axis."""

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    begins: Sizes

    @classmethod
    def of(cls, op: Op, kernel: Sizes, sizes: Sizes, outputs: Sizes) -> Window:
        """Return the window of an op over an image of ``sizes``, with as many places as ``outputs`` says."""
        dims = len(kernel)
        strides, dilations = (tuple(op.attr(name) or (1,) * dims) for name in ("strides", "dilations"))
        begins = tuple((op.attr("pads") or (0,) * 2 * dims)[:dims])
        how = op.attr("auto_pad", "NOTSET")
        if how in ("SAME_UPPER", "SAME_LOWER"):
            reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
            needed = [
                max((out - 1) * stride + far - size, 0)
                for out, stride, far, size in zip(outputs, strides, reach, sizes, strict=True)
            ]
            begins = tuple(one // 2 if how == "SAME_UPPER" else one - one // 2 for one in needed)
        return cls(kernel, strides, dilations, begins)

    def axes(self) -> list[Any]:
        """Return an axis of reduction for each of the kernel's."""
        return [te.reduce_axis((0, size), name=f"k{number}") for number, size in enumerate(self.kernel)]

    def read(self, at: Sequence[Any], inside: Sequence[Any]) -> list[Any]:
        """Return where element ``inside`` of the window at place ``at`` lies; it may be outside of the image."""
        moves = zip(at, self.strides, inside, self.dilations, self.begins, strict=True)
        return [place * stride + k * dilation - begin for place, stride, k, dilation, begin in moves]


def max_pool(call: Call) -> Sequence[Expr] | None:
    """Both outputs of MaxPool: the largest number of each window, and its place in the whole tensor.

    Of equal numbers it is the first. Without the second output it is left to TVM's converter.
    """
    if len(call.op.outputs) < 2 or not call.op.outputs[1].name:
        return None
    shape, out = call.static_shape(0), call.op.outputs[0].shape
    if shape is None or out is None or not all(isinstance(size, int) for size in out):
        raise NotLoweredError("places of maxima need sizes that are known before the run")
    outputs = tuple(int(size or 0) for size in out)
    sizes = shape[2:]
    window = Window.of(call.op, tuple(call.op.attr("kernel_shape")), sizes, outputs[2:])
    columns_first = bool(call.op.attr("storage_order", 0))
    weights = [prod(sizes[:axis]) if columns_first else prod(sizes[axis + 1 :]) for axis in range(len(sizes))]

    def write(data: Any) -> Any:
        lowest = tirx.const(-np.inf, data.dtype) if call.dtype(0).kind == "f" else tirx.min_value(data.dtype)
        axes, nobody = window.axes(), tirx.max_value("int64")
        taps = [axis.var for axis in axes]

        def join(old: Any, new: Any) -> Any:
            earlier = tirx.all(new[1] == old[1], new[0] < old[0])
            taken = tirx.any(new[1] > old[1], earlier)
            return tirx.Select(taken, new[0], old[0]), tirx.Select(taken, new[1], old[1])

        best = te.comm_reducer(join, lambda number, value: (tirx.max_value(number), lowest))

        def element(*at: Any) -> Any:
            places = window.read(at[2:], taps)
            inside = _inside(places, sizes)
            number = sum(place.astype("int64") * prod(window.kernel[k + 1 :]) for k, place in enumerate(taps))
            value = tirx.if_then_else(inside, data(*at[:2], *_clamped(places, sizes)), lowest)
            return best((tirx.if_then_else(inside, number, nobody), value), axis=axes)

        number, value = te.compute(outputs, element, name="max_pool")

        def place(*at: Any) -> Any:
            found = number(*at)
            inside = [found // prod(window.kernel[k + 1 :]) % size for k, size in enumerate(window.kernel)]
            flat = sum(one * weight for one, weight in zip(window.read(at[2:], inside), weights, strict=True))
            return (at[0] * shape[1] + at[1]).astype("int64") * prod(sizes) + flat

        return [value, te.compute(outputs, place, name="places")]

    found = call.builder.emit_te(write, call.inputs[0], primfunc_name_hint="max_pool_places")
    return [call.builder.emit(relax.TupleGetItem(found, number)) for number in (0, 1)]


def column_to_image(call: Call) -> Sequence[Expr] | None:
    """Col2Im: the sum of overlapping windows, (batch, channels windows, places) -> (batch, channels, image)."""
    shape, image, block = call.static_shape(0), call.array(1), call.array(2)
    if shape is None or image is None or block is None:
        raise NotLoweredError("its sizes are not known before the run")
    sizes, kernel = (tuple(int(size) for size in one) for one in (image, block))
    dims = len(sizes)
    pads = call.op.attr("pads") or (0,) * 2 * dims
    window = Window.of(call.op, kernel, sizes, sizes)
    moves = [
        (size + pads[k] + pads[dims + k] - window.dilations[k] * (kernel[k] - 1) - 1) // window.strides[k] + 1
        for k, size in enumerate(sizes)
    ]
    outputs = (shape[0], shape[1] // prod(kernel), *sizes)

    def write(data: Any) -> Any:
        axes = window.axes()

        def element(*at: Any) -> Any:
            ways = [
                place + begin - axis.var * dilation
                for place, begin, axis, dilation in zip(at[2:], window.begins, axes, window.dilations, strict=True)
            ]
            whole = [way % stride == 0 for way, stride in zip(ways, window.strides, strict=True)]
            steps = [way // stride for way, stride in zip(ways, window.strides, strict=True)]
            row = at[1] * prod(kernel) + sum(axis.var * prod(kernel[k + 1 :]) for k, axis in enumerate(axes))
            column = sum(step * prod(moves[k + 1 :]) for k, step in enumerate(_clamped(steps, moves)))
            there = tirx.all(*whole, _inside(steps, moves))
            return te.sum(tirx.if_then_else(there, data(at[0], row, column), tirx.const(0, data.dtype)), axis=axes)

        return te.compute(outputs, element, name="col2im")

    return [call.builder.emit_te(write, call.inputs[0], primfunc_name_hint="col2im")]


def deformable_convolution(call: Call) -> Sequence[Expr] | None:
    """DeformConv of images: each element of a window is read, between four pixels, where its offset says.

    columns (batch, channels kernel, places), then one product for each group (Dai et al. 2017; with a mask Zhu 2019).
    """
    shape, filters, offsets = (call.static_shape(slot) for slot in (0, 1, 2))
    if shape is None or filters is None or offsets is None or len(shape) != 4:
        raise NotLoweredError("it is built for images of sizes that are known before the run")
    kernel, sizes, outputs = filters[2:], shape[2:], offsets[2:]
    window, taps = Window.of(call.op, kernel, sizes, outputs), prod(kernel)
    channels_a_group = shape[1] // int(call.op.attr("offset_group", 1))
    masked = call.given(4)

    def write(data: Any, offset: Any, *mask: Any) -> Any:
        def element(n: Any, c: Any, tap: Any, y: Any, x: Any) -> Any:
            group = c // channels_a_group * taps + tap
            moved = [offset(n, group * 2 + axis, y, x) for axis in (0, 1)]
            still = window.read((y, x), (tap // kernel[1], tap % kernel[1]))
            places = [one.astype(data.dtype) + far for one, far in zip(still, moved, strict=True)]
            total = _between(lambda *at: data(n, c, *at), places, sizes, data.dtype)
            return total * mask[0](n, group, y, x) if mask else total

        return te.compute((shape[0], shape[1], taps, *outputs), element, name="columns")

    operands = [call.inputs[0], call.inputs[2], *([call.inputs[4]] if masked else [])]
    emit, groups = call.builder.emit, int(call.op.attr("group", 1))
    columns = call.builder.emit_te(write, *operands, primfunc_name_hint="bent_windows")
    depth = shape[1] // groups * taps
    left = emit(relax.op.reshape(call.inputs[1], (1, groups, filters[0] // groups, depth)))
    right = emit(relax.op.reshape(columns, (shape[0], groups, depth, prod(outputs))))
    result = emit(relax.op.reshape(emit(relax.op.matmul(left, right)), (shape[0], filters[0], *outputs)))
    if call.given(3):
        result = emit(relax.op.add(result, emit(relax.op.reshape(call.inputs[3], (1, filters[0], 1, 1)))))
    return [result]


def _between(pixel: Any, places: Sequence[Any], sizes: Sequence[int], dtype: str) -> Any:
    """Return an image between its four pixels around ``places``; outside of it there are zeros."""
    lows = [te.floor(place) for place in places]
    parts = [place - low for place, low in zip(places, lows, strict=True)]
    one, total = tirx.const(1, dtype), tirx.const(0, dtype)
    for down in (0, 1):
        for right in (0, 1):
            at = [low.astype("int32") + step for low, step in zip(lows, (down, right), strict=True)]
            share = [part if step else one - part for part, step in zip(parts, (down, right), strict=True)]
            there = tirx.if_then_else(_inside(at, sizes), pixel(*_clamped(at, sizes)), tirx.const(0, dtype))
            total = total + there * share[0] * share[1]
    return total


def _inside(places: Sequence[Any], sizes: Sequence[int]) -> Any:
    return tirx.all(*(tirx.all(place >= 0, place < size) for place, size in zip(places, sizes, strict=True)))


def _clamped(places: Sequence[Any], sizes: Sequence[int]) -> list[Any]:
    return [te.max(te.min(place, size - 1), 0) for place, size in zip(places, sizes, strict=True)]
