"""Our own emission of single ops: where TVM's converter is missing, wrong, or gives a form that does not fuse.

Each function returns the outputs of an op, or None where it leaves the op to TVM's converter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from nncomp.ir import DataType
from nncomp_tvm.library import Expr, constant, relax, te, tirx
from nncomp_tvm.lowering.arithmetic import bit_shift, modulo, top_k
from nncomp_tvm.lowering.calls import Call, NotLoweredError
from nncomp_tvm.lowering.detection import non_max_suppression
from nncomp_tvm.lowering.narrow import cast
from nncomp_tvm.lowering.regions import roi_align
from nncomp_tvm.lowering.resampling import resize
from nncomp_tvm.lowering.windows import column_to_image, deformable_convolution, max_pool

Emission: TypeAlias = Callable[[Call], "Sequence[Expr] | None"]

_INT64_MAX: Final = np.iinfo(np.int64).max


def clip(call: Call) -> Sequence[Expr] | None:
    """min(max(x, low), high), in a form that fuses, where the bounds are known."""
    data = call.inputs[0]
    bounds = [call.array(slot) for slot in (1, 2)]
    if call.opset < 11:
        bounds = [
            None if (bound := call.op.attr(name)) is None else np.asarray(bound, np.float32) for name in ("min", "max")
        ]
    elif any(call.given(slot) and call.array(slot) is None for slot in (1, 2)):
        return None
    low, high = (None if bound is None or np.isnan(bound).any() else bound.reshape(()) for bound in bounds)
    if low is not None and high is not None and call.dtype(0).kind == "f" and low <= high:
        return [call.builder.emit(relax.op.clip(data, float(low), float(high)))]
    result = data
    for bound, function in ((low, relax.op.maximum), (high, relax.op.minimum)):
        if bound is not None:
            result = call.builder.emit(function(result, constant(np.asarray(bound, call.dtype(0)))))
    return [result]


def gather(call: Call) -> Sequence[Expr] | None:
    """Take along an axis; out of bounds it reads the nearest element, where TVM's own default reads any memory."""
    shape, source = call.static_shape(0), call.inputs[0]
    if shape is None or source is None or isinstance(source.ty, relax.ShapeType):  # sizes are no tensor to TVM
        return None
    axis = int(call.op.attr("axis", 0)) % max(len(shape), 1)
    indices = call.inputs[1]
    known = call.array(1)
    if known is not None:
        indices = constant(np.where(known < 0, known + shape[axis], known).astype(np.int64))
    else:
        zero, size = (constant(np.asarray(number, call.dtype(1))) for number in (0, shape[axis]))
        indices = call.builder.emit(relax.op.where(relax.op.less(indices, zero), relax.op.add(indices, size), indices))
    return [call.builder.emit(relax.op.take(call.inputs[0], indices, axis=axis, mode="clip"))]


def slice_(call: Call) -> Sequence[Expr] | None:
    """Slice with known bounds, which are clamped as ONNX says; TVM's converter takes INT64_MAX for -1."""
    shape = call.static_shape(0)
    if shape is None:
        return None
    if call.opset < 10:
        starts, ends = (np.array(call.op.attr(name)) for name in ("starts", "ends"))
        axes = np.array(call.op.attr("axes") or range(len(starts)))
        steps = np.ones_like(starts)
    else:
        if any(call.given(slot) and call.array(slot) is None for slot in (1, 2, 3, 4)):
            return None
        begin, stop = call.array(1), call.array(2)
        if begin is None or stop is None:
            return None
        starts, ends = begin, stop
        axes = np.arange(len(starts)) if (found := call.array(3)) is None else found
        steps = np.ones_like(starts) if (found := call.array(4)) is None else found
    result = call.inputs[0]
    for axis, start, end, step in zip(axes.tolist(), starts.tolist(), ends.tolist(), steps.tolist(), strict=True):
        size = shape[axis]
        taken = range(size)[slice(start, None if end <= -_INT64_MAX else end, step)]
        if step < 0 and end < -size:
            taken = range(size)[slice(start, None, step)]
        if len(taken) == size and step > 0:
            continue
        if taken and step > 0:
            result = relax.op.strided_slice(result, [axis % len(shape)], [taken.start], [taken.stop], [step])
        else:
            places = constant(np.array(taken, np.int64))
            result = relax.op.take(result, places, axis=axis % len(shape), mode="clip")
        result = call.builder.emit(result)
    return [result]


def power(call: Call) -> Sequence[Expr] | None:
    """Pow, whose exponent may be of another type than its base: the exponent is converted."""
    base, exponent = call.inputs[:2]
    kind, other = call.dtype(0), call.dtype(1)
    if kind == other and kind.kind == "f":
        return None
    wide = "float64" if "i" in kind.kind + other.kind or "u" in kind.kind + other.kind else str(kind)
    result = relax.op.power(relax.op.astype(base, wide), relax.op.astype(exponent, wide))
    if kind.kind != "f":
        result = relax.op.round(result)
    return [call.builder.emit(relax.op.astype(result, str(kind)))]


def dropout(call: Call) -> Sequence[Expr] | None:
    """Dropout that is not trained is x; nothing is masked."""
    training = call.array(2)
    if call.given(2) and (training is None or bool(training)):
        raise NotLoweredError("it drops at random")
    shape = call.static_shape(0)
    if len(call.op.outputs) > 1 and shape is None:
        return None
    dtype = np.bool_ if call.opset >= 10 else call.dtype(0)
    mask = [constant(np.ones(shape, dtype))] if len(call.op.outputs) > 1 and shape is not None else []
    return [call.inputs[0], *mask]


def bit_cast(call: Call) -> Sequence[Expr] | None:
    """The same bits as another type of the same width."""
    kind = DataType(int(call.op.attr("to"))).numpy()
    if kind.itemsize != call.dtype(0).itemsize or kind == np.bool_ or call.dtype(0) == np.bool_:
        raise NotLoweredError(f"{call.dtype(0)} and {kind} differ in width")

    def same_bits(data: Expr) -> Expr:
        return te.compute(data.shape, lambda *at: tirx.reinterpret(str(kind), data(*at)), name="bit_cast")

    return [call.builder.emit_te(same_bits, call.inputs[0])]


def one_hot(call: Call) -> Sequence[Expr] | None:
    """values[1] where the class is the index, else values[0]; negative classes count from the end."""
    depth, shape = call.array(1), call.static_shape(0)
    if depth is None or shape is None:
        return None
    count = int(depth.ravel()[0])
    axis = int(call.op.attr("axis", -1)) % (len(shape) + 1)

    def hot(indices: Expr, values: Expr) -> Expr:
        def element(*at: Expr) -> Expr:
            rest = [*at[:axis], *at[axis + 1 :]]
            wanted = indices(*rest).astype("int64")
            wanted = tirx.if_then_else(wanted < 0, wanted + count, wanted)
            return tirx.if_then_else(wanted == at[axis].astype("int64"), values(1), values(0))

        return te.compute((*shape[:axis], count, *shape[axis:]), element, name="one_hot")

    return [call.builder.emit_te(hot, call.inputs[0], call.inputs[2], primfunc_name_hint="one_hot")]


def eye_like(call: Call) -> Sequence[Expr] | None:
    """Ones on a diagonal, of a known size: a constant."""
    shape = call.static_shape(0)
    if shape is None:
        return None
    kind = call.op.attr("dtype")
    dtype = call.dtype(0) if kind is None else DataType(int(kind)).numpy()
    return [constant(np.eye(shape[0], shape[1], int(call.op.attr("k", 0)), np.float64).astype(dtype))]


def cumulative(call: Call) -> Sequence[Expr] | None:
    """CumSum and CumProd along a known axis."""
    axis, shape = call.array(1), call.static_shape(0)
    if axis is None or shape is None:
        return None
    place = int(axis.ravel()[0]) % len(shape)
    back = constant(np.arange(shape[place])[::-1].copy())

    def turned(data: Expr) -> Expr:
        return call.builder.emit(relax.op.take(data, back, axis=place, mode="clip"))

    data = call.inputs[0]
    reverse, exclusive = bool(call.op.attr("reverse", 0)), bool(call.op.attr("exclusive", 0))
    function = relax.op.cumsum if call.op.kind == "CumSum" else relax.op.cumprod
    data = turned(data) if reverse else data
    result = call.builder.emit(function(data, axis=place, dtype=str(call.dtype(0)), exclusive=exclusive))
    return [turned(result) if reverse else result]


def matmul_integer(call: Call) -> Sequence[Expr] | None:
    """(a - a_zero) (b - b_zero) in int32; a zero point that is known to be zero is not subtracted."""
    operands = []
    for slot in (0, 1):
        wide = relax.op.astype(call.inputs[slot], "int32")
        known = call.array(slot + 2)
        if call.given(slot + 2) and (known is None or known.any()):
            zero = relax.op.astype(call.inputs[slot + 2], "int32")
            rank = len(call.shape(slot + 2) or ())
            if rank == 1 and call.shape(slot + 2) != (1,):
                zero = relax.op.expand_dims(zero, axis=-1 if slot == 0 else 0)
            wide = relax.op.subtract(wide, zero)
        operands.append(call.builder.emit(wide))
    return [call.builder.emit(relax.op.matmul(*operands, out_dtype="int32"))]


def dynamic_quantize(call: Call) -> Sequence[Expr] | None:
    """y_scale = (max(x, 0) - min(x, 0)) / 255; y_zero = round(clip(-min / y_scale, 0, 255)), ties to even."""
    emit = call.builder.emit
    zero, top = constant(np.array(0, np.float32)), constant(np.array(255, np.float32))
    high = emit(relax.op.maximum(emit(relax.op.max(call.inputs[0])), zero))
    low = emit(relax.op.minimum(emit(relax.op.min(call.inputs[0])), zero))
    scale = emit(relax.op.divide(emit(relax.op.subtract(high, low)), top))
    place = emit(relax.op.divide(emit(relax.op.subtract(zero, low)), scale))
    place = emit(relax.op.minimum(emit(relax.op.maximum(place, zero)), top))
    point = emit(relax.op.astype(emit(relax.op.round(place)), "uint8"))
    codes = emit(relax.op.quantize(call.inputs[0], scale, point, axis=0, out_dtype="uint8"))
    return [codes, scale, point]


def chain(call: Call) -> Sequence[Expr] | None:
    """Sum, Max, Min and Mean of several tensors, one after the other; TVM's converter stacks them first."""
    function = {"Max": relax.op.maximum, "Min": relax.op.minimum}.get(call.op.kind, relax.op.add)
    result = call.inputs[0]
    keeps_nan = function is relax.op.add or call.dtype(0).kind != "f"
    for slot, other in enumerate(call.inputs[1:], 1):
        known = call.array(slot)
        if known is not None and not keeps_nan and not np.isnan(known).any():
            result = call.builder.emit(function(other, result))  # of two that do not compare it is the second
        elif keeps_nan or (slot == 1 and (first := call.array(0)) is not None and not np.isnan(first).any()):
            result = call.builder.emit(function(result, other))
        else:
            greater = call.builder.emit(function(result, other))
            result = call.builder.emit(relax.op.where(relax.op.isnan(result), result, greater))
    if call.op.kind == "Mean":
        count = constant(np.asarray(len(call.inputs), call.dtype(0)))
        result = call.builder.emit(relax.op.divide(result, count))
    return [result]


def log_sum_exp(call: Call) -> Sequence[Expr] | None:
    """log(sum(exp(x - m))) + m with m = max(x), or 0 where that is infinite, for infinity - infinity is none."""
    axes, emit = call.op.attr("axes"), call.builder.emit
    if call.opset >= 18:
        known = call.array(1)
        axes = None if known is None else known.tolist()
        if (known is None and call.given(1)) or (not axes and call.op.attr("noop_with_empty_axes", 0)):
            return None
    if call.dtype(0).kind != "f":
        return None
    axes, keep = list(axes) if axes else None, bool(call.op.attr("keepdims", 1))

    def around(highest: Expr) -> Expr:
        zero = constant(np.asarray(0, call.dtype(0)))
        return emit(relax.op.where(emit(relax.op.isfinite(highest)), highest, zero))

    middle = around(emit(relax.op.max(call.inputs[0], axes, True)))
    terms = emit(relax.op.exp(emit(relax.op.subtract(call.inputs[0], middle))))
    total = emit(relax.op.log(emit(relax.op.sum(terms, axes, keep))))
    offset = middle if keep else around(emit(relax.op.max(call.inputs[0], axes, False)))
    return [emit(relax.op.add(total, offset))]


def is_inf(call: Call) -> Sequence[Expr] | None:
    """Infinity of one sign, which TVM's converter does not tell from the other."""
    signs = [sign for sign, name in ((1, "detect_positive"), (-1, "detect_negative")) if call.op.attr(name, 1)]
    if len(signs) != 1:
        return None
    infinity = constant(np.asarray(signs[0] * np.inf, call.dtype(0)))
    return [call.builder.emit(relax.op.equal(call.inputs[0], infinity))]


def space_to_depth(call: Call) -> Sequence[Expr] | None:
    """Blocks become channels; with ``CRD``, which TVM's converter overlooks, those of a channel lie together."""
    shape, size = call.static_shape(0), int(call.op.attr("blocksize"))
    if call.op.attr("mode", "DCR") != "CRD" or shape is None:
        return None
    batch, channels, high, wide = shape
    apart = relax.op.reshape(call.inputs[0], (batch, channels, high // size, size, wide // size, size))
    turned = relax.op.permute_dims(call.builder.emit(apart), [0, 1, 3, 5, 2, 4])
    whole = (batch, channels * size * size, high // size, wide // size)
    return [call.builder.emit(relax.op.reshape(call.builder.emit(turned), whole))]


def batch_normalization(call: Call) -> Sequence[Expr] | None:
    """That of inference is left to TVM; the other computes new statistics, which TVM's converter does not."""
    if call.op.attr("training_mode", 0):
        raise NotLoweredError("it is being trained")
    return None


def split(call: Call) -> Sequence[Expr] | None:
    """Parts of no size, or a last one that is shorter, which TVM's converter does not cut."""
    shape, sizes = call.static_shape(0), call.array(1)
    if shape is None or (call.given(1) and sizes is None) or call.opset < 13:
        return None
    axis, count = int(call.op.attr("axis", 0)) % len(shape), len(call.op.outputs)
    if sizes is None and shape[axis] % count:
        each = -(-shape[axis] // count)
        sizes = np.clip(shape[axis] - np.arange(count) * each, 0, each)
    elif sizes is None or sizes.all():
        return None
    ends = np.cumsum(sizes)
    return [
        call.builder.emit(
            relax.op.strided_slice(call.inputs[0], [axis], [int(end - size)], [int(end)], [1])
            if size
            else relax.op.zeros(relax.ShapeExpr((*shape[:axis], 0, *shape[axis + 1 :])), str(call.dtype(0)))
        )
        for size, end in zip(sizes, ends, strict=True)
    ]


def rms_normalization(call: Call) -> Sequence[Expr] | None:
    """That over some axes is left to TVM; over all, its code does not compile, and ONNX's definition is taken."""
    shape = call.shape(0)
    if shape is None or int(call.op.attr("axis", -1)) % len(shape) == 0:
        raise NotLoweredError("TVM's converter normalises some axes only")
    return None


def extreme(call: Call) -> Sequence[Expr] | None:
    """ReduceMax and ReduceMin, but for those of booleans, which are said as those of bytes."""
    if call.dtype(0) == np.bool_:
        raise NotLoweredError("TVM has no extremes of booleans")
    return None


def unsqueeze(call: Call) -> Sequence[Expr] | None:
    """A new axis that is given as a scalar, as ONNX's own definitions do; lists of axes are left to TVM's converter."""
    axes = call.array(1)
    if axes is None or axes.ndim:
        return None
    return [call.builder.emit(relax.op.expand_dims(call.inputs[0], int(axes)))]


def tile(call: Call) -> Sequence[Expr] | None:
    """Repeat along each axis: (d, ..) -> (1, d, ..) -> (r, d, ..) -> (r d, ..).

    TVM's own form reads x[i % d]; compiled for AVX512 it gave other elements than ONNX Runtime (TVM 0.27).
    """
    shape, repeats = call.static_shape(0), call.array(1)
    if shape is None or repeats is None or not shape or call.opset < 6:
        return None
    times = [int(number) for number in repeats]
    pairs = [size for pair in zip(times, shape, strict=True) for size in pair]
    apart = [size for old in shape for size in (1, old)]
    wide = call.builder.emit(relax.op.broadcast_to(relax.op.reshape(call.inputs[0], apart), pairs))
    result = relax.op.reshape(wide, [number * old for number, old in zip(times, shape, strict=True)])
    return [call.builder.emit(result)]


OWN: Final[Mapping[str, Emission]] = MappingProxyType(
    {
        "BatchNormalization": batch_normalization,
        "BitCast": bit_cast,
        "BitShift": bit_shift,
        "Cast": cast,
        "CastLike": cast,
        "Clip": clip,
        "Col2Im": column_to_image,
        "CumProd": cumulative,
        "CumSum": cumulative,
        "DeformConv": deformable_convolution,
        "Dropout": dropout,
        "DynamicQuantizeLinear": dynamic_quantize,
        "EyeLike": eye_like,
        "Gather": gather,
        "IsInf": is_inf,
        "MatMulInteger": matmul_integer,
        "Max": chain,
        "MaxPool": max_pool,
        "Mean": chain,
        "Min": chain,
        "Mod": modulo,
        "NonMaxSuppression": non_max_suppression,
        "OneHot": one_hot,
        "Pow": power,
        "RMSNormalization": rms_normalization,
        "ReduceLogSumExp": log_sum_exp,
        "ReduceMax": extreme,
        "ReduceMin": extreme,
        "Resize": resize,
        "RoiAlign": roi_align,
        "Slice": slice_,
        "SpaceToDepth": space_to_depth,
        "Split": split,
        "Sum": chain,
        "Tile": tile,
        "TopK": top_k,
        "Unsqueeze": unsqueeze,
    }
)
"""By kind, of ONNX's own domain."""
