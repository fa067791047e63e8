"""Steps of generated graphs: each adds ops that later steps may read, or does nothing where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from nncomp.ir import DataType, Graph, TensorType
from nncomp.testing.growing import MAX_SIZE, Builder, shape_of, st

UNARY: Final = ("Relu", "Neg", "Identity", "Sigmoid", "Tanh", "Abs", "LeakyRelu", "Dropout")
DOUBLE_UNARY: Final = ("Relu", "Neg", "Identity", "Sigmoid", "Tanh", "Abs")
"""Those that ONNX Runtime's CPU provider has for float64, too."""

_DOUBLE_CLIP: Final = 12
"""Version of ONNX's opset since which ONNX Runtime has Clip for float64."""


def unary(b: Builder) -> None:
    """Add an activation or the like."""
    value = b.live[-1] if b.pick(True, False) else b.pick(*b.live)
    kind = b.pick(*(DOUBLE_UNARY if b.dtype is DataType.DOUBLE else UNARY))
    b.add(kind, [value], shape_of(value))


def binary(b: Builder) -> None:
    """Add two values of one shape, or a value and a constant that broadcasts."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    kind = b.pick("Add", "Sub", "Mul")
    same = [other for other in b.live if shape_of(other) == shape]
    if b.pick(True, False):
        b.add(kind, [value, b.pick(*same)], shape)
        return
    small = b.pick((), (1,), shape[-1:], shape, (1, *shape[1:2], *(1 for _ in shape[2:])))
    operands = [value, b.weight(*small)]
    b.add(kind, operands if b.pick(True, True, False) else operands[::-1], np.broadcast_shapes(shape, small))


def neutral(b: Builder) -> None:
    """Add, multiply or divide with what changes nothing, or nearly nothing."""
    value = b.pick(*b.live)
    kind, number = b.pick(("Mul", 1.0), ("Div", 1.0), ("Add", 0.0), ("Add", -0.0), ("Sub", 0.0), ("Mul", 0.0))
    small = b.pick((), (1,), shape_of(value)[-1:])
    b.add(kind, [value, b.constant(np.full(small, number), b.dtype)], shape_of(value))


def clip(b: Builder) -> None:
    """Limit a value, on both sides or one."""
    value = b.pick(*b.live)
    low, high = b.pick((0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 2.0))
    if b.opset < _DOUBLE_CLIP and b.dtype is DataType.DOUBLE:
        return
    if b.opset < 11:
        attrs = {"min": low, "max": high}
        b.add("Clip", [value], shape_of(value), **{key: end for key, end in attrs.items() if end is not None})
        return
    ends = [None if end is None else b.constant(end, b.dtype) for end in (low, high)]
    b.add("Clip", [value, *ends], shape_of(value))


def hard_swish(b: Builder) -> None:
    """Write x * clip(x + 3, 0, 6) / 6 in pieces."""
    value = b.pick(*b.live)
    if b.opset < (_DOUBLE_CLIP if b.dtype is DataType.DOUBLE else 11):
        return
    shape = shape_of(value)
    three, zero, six, again = (b.constant(number, b.dtype) for number in (3, 0, 6, 6))
    gate = b.add("Clip", [b.add("Add", [value, three], shape), zero, six], shape)
    b.add("Div", [b.add("Mul", [value, gate], shape), again], shape)


def matmul(b: Builder) -> None:
    """Multiply with a matrix, and perhaps add a bias."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    if len(shape) < 2 or not shape[-1]:
        return
    columns = b.pick(shape[-1], 2, 4)
    out = b.add("MatMul", [value, b.weight(shape[-1], columns)], (*shape[:-1], columns))
    if b.pick(True, False):
        b.add("Add", [out, b.weight(columns)], shape_of(out))


def gemm(b: Builder) -> None:
    """Add a Gemm with any of its attributes."""
    value = b.value(rank=2)
    if value is None or not all(shape_of(value)):
        return
    rows, inner = shape_of(value)
    columns, turned = b.pick(2, 4), b.pick(0, 1)
    weight = b.weight(*((columns, inner) if turned else (inner, columns)))
    bias = b.weight(*b.pick((columns,), (1, columns), ())) if b.opset < 11 or b.pick(1, 0) else None
    attrs = {"transB": turned, "alpha": b.pick(1.0, 0.5), "beta": b.pick(1.0, 2.0)}
    b.add("Gemm", [value, weight, *([bias] if bias is not None else [])], (rows, columns), **attrs)


def conv(b: Builder) -> None:
    """Add a convolution: groups, strides, asymmetric pads, with and without a bias."""
    value = b.value(rank=4)
    if value is None or b.dtype is DataType.DOUBLE or min(shape_of(value)) < 3:
        return
    batch, channels, *size = shape_of(value)
    group = b.pick(1, 1, channels, 2 if channels % 2 == 0 else 1)
    out = b.pick(4, channels) if group == 1 else channels
    kernel, stride, pads = b.pick(1, 2, 3), b.pick(1, 1, 2), b.pads(1)
    bias = [b.weight(out)] if b.pick(True, False) else []
    sizes = [(n + pads[i] + pads[i + 2] - kernel) // stride + 1 for i, n in enumerate(size)]
    weight = b.weight(out, channels // group, kernel, kernel)
    attrs = {"group": group, "pads": pads, "strides": [stride, stride]}
    b.add("Conv", [value, weight, *bias], (batch, out, *sizes), **attrs)


def batchnorm(b: Builder) -> None:
    """Normalize over channels with fixed statistics."""
    value = b.value(rank=4)
    if value is None or b.dtype is DataType.DOUBLE:
        return
    channels = shape_of(value)[1]
    scale, variance = b.weight(channels, low=0.5, high=1.5), b.weight(channels, low=0.5, high=1.5)
    inputs = [value, scale, b.weight(channels), b.weight(channels), variance]
    b.add("BatchNormalization", inputs, shape_of(value))


def pad(b: Builder) -> None:
    """Pad an image with zeros."""
    value = b.value(rank=4)
    if value is None or b.dtype is DataType.FLOAT16:
        return
    pads = b.pads(2)
    full = [0, 0, *pads[:2], 0, 0, *pads[2:]]
    shape = [n + full[axis] + full[axis + 4] for axis, n in enumerate(shape_of(value))]
    if b.opset < 11:
        b.add("Pad", [value], shape, pads=full)
    else:
        b.add("Pad", [value, b.constant(full)], shape)


def pool(b: Builder) -> None:
    """Pool an image, by windows or as a whole."""
    value = b.value(rank=4)
    if value is None or b.dtype is not DataType.FLOAT or min(shape_of(value)) < 2:
        return
    kind, pads = b.pick("MaxPool", "AveragePool", "GlobalAveragePool"), b.pads(1)
    if kind == "GlobalAveragePool":
        b.add(kind, [value], (*shape_of(value)[:2], 1, 1))
        return
    shape = (*shape_of(value)[:2], *(n + pads[i] + pads[i + 2] - 1 for i, n in enumerate(shape_of(value)[2:])))
    extra = {"count_include_pad": b.pick(0, 1)} if kind == "AveragePool" else {}
    b.add(kind, [value], shape, kernel_shape=[2, 2], pads=pads, **extra)


def concat(b: Builder) -> None:
    """Put two values side by side."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    other = b.pick(*[one for one in b.live if shape_of(one) == shape])
    axis = b.pick(*range(len(shape))) if shape else None
    if axis is not None and 2 * np.prod(shape) <= MAX_SIZE:
        joined = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
        b.add("Concat", [value, other], joined, axis=b.pick(axis, axis - len(shape)) if b.opset >= 11 else axis)


def split(b: Builder) -> None:
    """Cut a value in two; one half may stay unread."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    even = [axis for axis, size in enumerate(shape) if size and size % 2 == 0]
    if not even:
        return
    axis = b.pick(*even)
    half = (*shape[:axis], shape[axis] // 2, *shape[axis + 1 :])
    sizes = [shape[axis] // 2] * 2
    inputs, attrs = ([value, b.constant(sizes)], {}) if b.opset >= 13 else ([value], {"split": sizes})
    outputs = [("a", TensorType(b.dtype, half)), ("b", TensorType(b.dtype, half))]
    b.live += b.graph.add_op("Split", inputs, outputs, attrs={"axis": axis, **attrs}).outputs


def transpose(b: Builder) -> None:
    """Permute axes."""
    value = b.pick(*b.live)
    if not shape_of(value):
        return
    order = b.draw(st.permutations(range(len(shape_of(value)))))
    b.add("Transpose", [value], [shape_of(value)[axis] for axis in order], perm=list(order))


def reshape(b: Builder) -> None:
    """Reshape, to a fixed target, with 0 and -1, or to sizes that are computed."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    if not all(shape) or not shape:
        return
    target = b.pick([-1], [shape[0], -1], list(shape), [0, -1], [1, *shape])
    if target == [0, -1] and len(shape) < 2:
        return
    if b.pick(True, False, False):
        computed = b.add("Shape", [value], [len(shape)], DataType.INT64)
        first = b.add("Gather", [computed, b.constant([0])], [1], DataType.INT64, axis=0)
        both = b.add("Concat", [first, b.constant([-1])], [2], DataType.INT64, axis=0)
        b.add("Reshape", [value, both], (shape[0], int(np.prod(shape[1:]))))
        return
    sizes = [shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    b.add("Reshape", [value, b.constant(target)], np.empty(shape, bool).reshape(sizes).shape)


def unsqueeze(b: Builder) -> None:
    """Add an axis of size one, or take one away."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    if ones and b.pick(True, False):
        axis = b.pick(*ones)
        b.by_axes("Squeeze", value, [axis], (*shape[:axis], *shape[axis + 1 :]), 13)
    elif len(shape) < 5:
        axis = b.pick(*range(len(shape) + 1))
        b.by_axes("Unsqueeze", value, [axis], (*shape[:axis], 1, *shape[axis:]), 13)


def reduce(b: Builder) -> None:
    """Reduce over some axes."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    if not shape or not all(shape):
        return
    kind, since = b.pick(("ReduceMean", 18), ("ReduceSum", 13), ("ReduceMax", 18))
    axes = sorted(b.draw(st.sets(st.sampled_from(range(len(shape))), min_size=1)))
    keep = b.pick(0, 1)
    rest = [1 if axis in axes else size for axis, size in enumerate(shape) if keep or axis not in axes]
    b.by_axes(kind, value, axes, rest, since, keepdims=keep)


def cut(b: Builder) -> None:
    """Slice along one axis."""
    value = b.pick(*b.live)
    shape = shape_of(value)
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    if not axes:
        return
    axis = b.pick(*axes)
    start, end = b.pick((0, shape[axis]), (1, shape[axis]), (0, -1), (0, 2**31))
    stop = min(end, shape[axis]) if end >= 0 else shape[axis] + end
    rest = (*shape[:axis], stop - start, *shape[axis + 1 :])
    if b.opset < 10:
        b.add("Slice", [value], rest, starts=[start], ends=[end], axes=[axis])
    else:
        b.add("Slice", [value, b.constant([start]), b.constant([end]), b.constant([axis])], rest)


def resize(b: Builder) -> None:
    """Double an image, in nearest mode."""
    value = b.value(rank=4)
    if value is None or b.opset < 13 or b.dtype is not DataType.FLOAT or min(shape_of(value)) < 1:
        return
    batch, channels, height, width = shape_of(value)
    if 4 * batch * channels * height * width <= MAX_SIZE:
        scales = b.constant([1, 1, 2, 2], DataType.FLOAT)
        b.add("Resize", [value, None, scales], (batch, channels, 2 * height, 2 * width), mode="nearest")


def cast(b: Builder) -> None:
    """Cast there and back."""
    value = b.pick(*b.live)
    other = b.pick(DataType.FLOAT, DataType.DOUBLE, DataType.INT32)
    there = b.add("Cast", [value], shape_of(value), other, to=other.value)
    b.add("Cast", [there], shape_of(value), b.dtype, to=b.dtype.value)


def branch(b: Builder) -> None:
    """Add an If, on a constant or an input, whose branches read a value from outside."""
    value = b.pick(*b.live)
    if b.pick(True, False):
        condition = b.constant(b.draw(st.booleans()), DataType.BOOL)
    else:
        condition = b.graph.add_input(b.graph.fresh_name("go"), TensorType(DataType.BOOL, ()))
    bodies = {}
    for name in ("then_branch", "else_branch"):
        body = Graph(name, info=b.graph.info)
        inner = body.declare_capture(value)
        first = body.add_op(b.pick(*DOUBLE_UNARY), [inner], [("", value.type)]).output
        body.set_outputs([body.add_op(b.pick(*DOUBLE_UNARY), [first], [("", value.type)]).output])
        bodies[name] = body
    b.live.append(b.graph.add_op("If", [condition], [("", value.type)], bodies=bodies).output)


def tap(b: Builder) -> None:
    """Give out a value that others read, too."""
    b.tapped.append(b.pick(*b.live))


STEPS: Final[dict[str, Callable[[Builder], None]]] = {
    "unary": unary,
    "binary": binary,
    "neutral": neutral,
    "clip": clip,
    "hard_swish": hard_swish,
    "matmul": matmul,
    "gemm": gemm,
    "conv": conv,
    "batchnorm": batchnorm,
    "pad": pad,
    "pool": pool,
    "concat": concat,
    "split": split,
    "transpose": transpose,
    "reshape": reshape,
    "unsqueeze": unsqueeze,
    "reduce": reduce,
    "cut": cut,
    "resize": resize,
    "cast": cast,
    "branch": branch,
    "tap": tap,
}
"""By name."""
