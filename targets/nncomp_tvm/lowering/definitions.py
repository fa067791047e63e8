"""Ops said in plainer ones, where ONNX has no definition of its own for them."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from nncomp.ir import DataType, Graph, Op, Value
from nncomp_tvm.lowering.adding import Adding, dtype_of, static_shape
from nncomp_tvm.lowering.calls import NotLoweredError


def without_lp_normalization(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """X / |x|_p along an axis; 0 where all of x is."""
    data = op.inputs[0]
    if data is None or data.tensor_type is None:
        return None
    add = Adding(graph)
    kind = {1: "ReduceL1", 2: "ReduceL2"}[int(op.attr("p", 2))]
    norm = add.reduced(kind, data, [int(op.attr("axis", -1))])
    nothing = add("Equal", norm, add.constant(0, dtype_of(data)))
    return (add("Div", data, add("Where", nothing, add.constant(1, dtype_of(data)), norm)),)


def without_batch_statistics(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """BatchNormalization in training: by mean and variance of the batch, which move the running ones."""
    data, scale, bias, mean, variance = op.inputs[:5]
    shape = static_shape(data)
    if data is None or shape is None or not op.attr("training_mode", 0):
        return None
    add = Adding(graph)
    axes = [axis for axis in range(len(shape)) if axis != 1]
    middle = add.reduced("ReduceMean", data, axes)
    away = add("Sub", data, middle)
    spread = add.reduced("ReduceMean", add("Mul", away, away), axes)
    column = add.constant([1, -1, *(1,) * (len(shape) - 2)])
    epsilon = add.constant(op.attr("epsilon", 1e-5), dtype_of(data))
    unit = add("Div", away, add("Sqrt", add("Add", spread, epsilon)))
    result = add("Add", add("Mul", unit, add("Reshape", scale, column)), add("Reshape", bias, column))
    outputs = [result]
    for old, new in ((mean, middle), (variance, spread)):
        assert old is not None
        momentum = float(op.attr("momentum", 0.9))
        kept = add("Mul", old, add.constant(momentum, dtype_of(old)))
        moved = add("Reshape", new, add.constant([-1]))
        if dtype_of(old) != dtype_of(data):
            moved = add("CastLike", moved, old)
        outputs.append(add("Add", kept, add("Mul", moved, add.constant(1 - momentum, dtype_of(old)))))
    return tuple(outputs)


def without_reversal(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """ReverseSequence: y[t, b] = x[n_b - 1 - t, b] for t < n_b, x[t, b] after that."""
    data, lengths = op.inputs[:2]
    shape = static_shape(data)
    if shape is None or lengths is None:
        return None
    add = Adding(graph)
    batch_axis = int(op.attr("batch_axis", 1))
    rows, columns = shape[:2]
    steps, batch = (columns, rows) if batch_axis == 0 else (rows, columns)
    time = add.constant(np.arange(steps)[:, None])
    column = add("Unsqueeze", lengths, add.constant([0]))
    back = add("Sub", add("Sub", column, add.constant(1)), time)
    place = add("Where", add("Less", time, column), back, time)  # (steps, batch)
    sample = add.constant(np.broadcast_to(np.arange(batch), (steps, batch)))
    if batch_axis == 0:
        place, sample = (add("Transpose", one, perm=(1, 0)) for one in (place, sample))
    pair = [sample, place] if batch_axis == 0 else [place, sample]
    return (add("GatherND", data, add.stacked(pair, 2)),)


def without_unpooling(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """MaxUnpool: each number at the place where its pooling found it, and zeros around them."""
    data, places = op.inputs[:2]
    shape = static_shape(data)
    if data is None or shape is None:
        return None
    kernel = op.attr("kernel_shape")
    dims = len(kernel)
    strides, pads = op.attr("strides") or (1,) * dims, op.attr("pads") or (0,) * 2 * dims
    sizes = [(shape[2 + dim] - 1) * strides[dim] - pads[dim] - pads[dims + dim] + kernel[dim] for dim in range(dims)]
    whole = [*shape[:2], *sizes]
    add, flat = Adding(graph), [-1]
    wanted = graph.array(op.input(2)) if op.input(2) is not None else None
    if op.input(2) is not None and wanted is None:
        return None
    if wanted is not None and wanted.tolist() != whole:
        raise NotLoweredError(f"to {wanted.tolist()}, not {whole}, it is another thing in ONNX Runtime than in ONNX")
    zeros = add.constant(np.zeros(prod(whole)), dtype_of(data))
    pair = [add("Reshape", one, add.constant(flat)) for one in (places, data)]
    return (add("Reshape", add("ScatterElements", zeros, *pair, axis=0), add.constant(whole)),)


def without_random_choice(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """Dropout that is trained with a ratio of 0 drops nothing."""
    ratio = graph.array(op.input(1)) if op.input(1) is not None else None
    shape = static_shape(op.inputs[0])
    if ratio is None or float(ratio.ravel()[0]) != 0 or shape is None:
        return None
    add = Adding(graph)
    return add("Identity", op.inputs[0]), add.constant(np.ones(shape), np.bool_)


def without_cache_writes(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """TensorScatter: rows of the cache from ``write_indices[b]`` on are those of the update."""
    cache, update = op.inputs[:2]
    shape, new = static_shape(cache), static_shape(update)
    if shape is None or new is None:
        return None
    add = Adding(graph)
    axis = int(op.attr("axis", -2)) % len(shape)
    size, rows = shape[axis], new[axis]
    begin = op.input(2) if op.input(2) is not None else add.constant(np.zeros(shape[0]))
    first = add("Unsqueeze", begin, add.constant([1]))  # (batch, 1)
    line = add.constant(np.arange(size)[None])
    inside = add("Sub", line, first)  # which row of the update each row of the cache would be
    if op.attr("mode", "linear") == "circular":
        inside = add("Mod", inside, add.constant(size))
    taken = add("And", add("GreaterOrEqual", inside, add.constant(0)), add("Less", inside, add.constant(rows)))
    place = add("Clip", inside, add.constant(0), add.constant(rows - 1))
    apart = [shape[0], *(1,) * (axis - 1), size, *(1,) * (len(shape) - axis - 1)]
    wide = add("Expand", add("Reshape", place, add.constant(apart)), add.constant(shape))
    read = add("GatherElements", update, wide, axis=axis)
    return (add("Where", add("Reshape", taken, add.constant(apart)), read, cache),)


def without_integer_convolution(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """ConvInteger: the form that is compiled to integers where only floats are made of it, a float64 sum elsewhere.

    (x - x_zero) (w - w_zero) summed in float32 is not exact beyond 2^24, and neither is the float that is made of it.
    """
    data, weight = op.inputs[:2]
    add = Adding(graph)
    users = graph.users(op.output)
    rounded = not graph.is_output(op.output) and all(one.is_a("Cast") and int(one.attr("to")) == 1 for one in users)
    if rounded:
        one = add.constant(1, np.float32)
        left = add("DequantizeLinear", data, one, op.input(2))
        zero, count = op.input(3), (static_shape(weight) or (1,))[0]
        per_channel = zero is not None and static_shape(zero) not in ((), (1,))
        scale = add.constant(np.ones(count), np.float32) if per_channel else one
        right = add("DequantizeLinear", weight, scale, zero, axis=0)
    else:
        left, right = (add("Cast", one, to=11) for one in (data, weight))
        if op.input(2) is not None:
            left = add("Sub", left, add("Cast", op.input(2), to=11))
        if op.input(3) is not None:
            zero = add("Cast", op.input(3), to=11)
            column = [-1, *(1,) * (len(static_shape(weight) or ()) - 1)]
            right = add("Sub", right, add("Reshape", zero, add.constant(column)))
    attrs: dict[str, Any] = dict(op.attrs)
    result = add("Conv", left, right, **attrs)
    return (add("Cast", result, to=6),)


def without_known_absence(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """OptionalHasElement of nothing is false, and of a tensor true."""
    given = op.input(0) is not None
    if given and op.inputs[0].tensor_type is None:  # type: ignore[union-attr]
        return None
    return (Adding(graph).constant(given, np.bool_),)


def without_booleans(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """The largest or smallest of booleans is that of bytes that are 0 or 1."""
    data = op.inputs[0]
    if data is None or data.tensor_type is None or data.tensor_type.dtype is not DataType.BOOL:
        return None
    add, attrs = Adding(graph), dict[str, Any](op.attrs)
    codes = add("Cast", data, to=DataType.UINT8.value)
    found = add(op.kind, codes, *op.inputs[1:], **attrs)
    return (add("Cast", found, to=DataType.BOOL.value),)
