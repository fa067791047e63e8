"""Rules for ops that give back their input, whatever is in it. Each needs only shapes, types and constants."""

from __future__ import annotations

from typing import Final

from nncomp.ir import Dim, Op, Shape, Value
from nncomp.ops import perm
from nncomp.rewrite import Match, Rule, any_value, op, optional, rule
from nncomp_cleanup.forwarding import forwarded, integers, proven

_FAR: Final = 2**31 - 1
"""Slices to the end are written with the largest int32 or int64; nothing has more elements along an axis."""
_ANY: Final = any_value("x")


@rule(op("Identity", _ANY))
def eliminate_identity(m: Match) -> Value:
    """Identity(x) = x."""
    return forwarded(m, m["x"])


@rule(op("Dropout", _ANY, optional(any_value("ratio")), optional(any_value("training"))))
def eliminate_dropout(m: Match) -> Value:
    """Dropout(x) = x, in inference; nobody may read the mask."""
    version, training = m.graph.opsets.get("", 1), m.get("training")
    if version < 7 and not m.root.attr("is_test", 0):
        raise m.reject("it may drop: before opset 7 only is_test=1 says that it does not")
    mode = None if training is None else m.graph.array(training)
    if training is not None and mode is None:
        raise m.reject("training_mode is computed")
    if mode is not None and mode.any():
        raise m.reject("it is in training mode")
    if any(m.graph.uses(mask) or m.graph.is_output(mask) for mask in m.root.outputs[1:]):
        raise m.reject("its mask is read")
    return forwarded(m, m["x"])


@rule(op("Cast", _ANY), op("CastLike", _ANY, any_value("like")))
def eliminate_cast(m: Match) -> Value:
    """Cast(x, to=T) = x, for x of type T."""
    dtype = proven(m).dtype(m["x"])
    to = proven(m).dtype(m["like"]) if m.root.kind == "CastLike" else m.root.attr("to")
    if dtype is None or dtype != to:
        raise m.reject("its input is of another type" if dtype is not None else "the type of its input is not known")
    return forwarded(m, m["x"])


@rule(op("Transpose", _ANY))
def eliminate_transpose(m: Match) -> Value:
    """Transpose(x, perm=(0, 1, ..., n-1)) = x."""
    given, rank = m.root.attr("perm"), proven(m).rank(m["x"])
    if given is None and rank is None:
        raise m.reject("it reverses axes, of which nobody knows the number")
    order = perm(m.root, rank or 0)
    if order != tuple(range(len(order))):
        raise m.reject("it moves axes")
    return forwarded(m, m["x"])


@rule(op("Flatten", _ANY))
def eliminate_flatten(m: Match) -> Value:
    """Flatten(x, axis=1) = x, for x of rank 2."""
    if proven(m).rank(m["x"]) != 2 or m.root.attr("axis", 1) not in (1, -1):
        raise m.reject("its input is not known to be a matrix that it leaves as it is")
    return forwarded(m, m["x"])


@rule(op("Concat", _ANY), op("Sum|Max|Min|Mean", _ANY))
def eliminate_single_operand(m: Match) -> Value:
    """Concat(x) = Sum(x) = Max(x) = Min(x) = Mean(x) = x."""
    return forwarded(m, m["x"])


@rule(op("Split", _ANY, optional(any_value("sizes"))))
def eliminate_single_split(m: Match) -> Value:
    """Split(x) = x, when there is one output."""
    if len(m.root.outputs) != 1:
        raise m.reject("it has several outputs")
    return forwarded(m, m["x"])


@rule(op("Pad", _ANY, optional(any_value("pads")), optional(any_value("value")), optional(any_value("axes"))))
def eliminate_pad(m: Match) -> Value:
    """Pad(x, pads=0) = x."""
    pads = integers(m, "pads", "pads")
    if pads is None or (m.get("pads") is None and m.root.attr("pads") is None):
        raise m.reject("its pads are not known")
    if any(pads):
        raise m.reject("it pads")
    return forwarded(m, m["x"])


@rule(op("Tile", _ANY, any_value("repeats")))
def eliminate_tile(m: Match) -> Value:
    """Tile(x, repeats=1) = x."""
    repeats = integers(m, "repeats", "")
    if repeats is None:
        raise m.reject("its repeats are computed")
    if any(count != 1 for count in repeats):
        raise m.reject("it repeats")
    return forwarded(m, m["x"])


@rule(
    op(
        "Slice",
        _ANY,
        optional(any_value("starts")),
        optional(any_value("ends")),
        optional(any_value("axes")),
        optional(any_value("steps")),
    )
)
def eliminate_slice(m: Match) -> Value:
    """x[0:n] = x, along each axis that is sliced."""
    starts, ends = integers(m, "starts", "starts"), integers(m, "ends", "ends")
    given, steps = integers(m, "axes", "axes"), integers(m, "steps", "")
    if starts is None or ends is None or None in (given, steps):
        raise m.reject("its bounds are computed")
    axes = given or tuple(range(len(starts)))
    if any(step != 1 for step in steps or ()):
        raise m.reject("it strides")
    shape = proven(m).shape(m["x"])
    for axis, start, end in zip(axes, starts, ends, strict=False):
        size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
        if not _takes_all(start, end, size):
            raise m.reject(f"it is not known to take all of axis {axis}")
    return forwarded(m, m["x"])


def _takes_all(start: int, end: int, size: Dim) -> bool:
    from_first = start == 0 or (isinstance(size, int) and start <= -size)
    return from_first and (end >= _FAR or (isinstance(size, int) and end >= size))


@rule(op("Expand", _ANY, any_value("shape")))
def eliminate_expand(m: Match) -> Value:
    """Expand(x, shape) = x, when each entry is 1 or the dimension of x that it meets, counted from the last."""
    target, shape = m.graph.array(m["shape"]), proven(m).shape(m["x"])
    if target is None or shape is None:
        raise m.reject("its shape is computed" if target is None else "the rank of its input is not known")
    if target.size > len(shape):
        raise m.reject("it adds axes")
    aligned = shape[len(shape) - target.size :]
    if any(entry not in (1, size) for entry, size in zip(target.tolist(), aligned, strict=True)):
        raise m.reject("it is not known to repeat nothing")
    return forwarded(m, m["x"])


@rule(op("Reshape", _ANY, optional(any_value("shape"))))
def eliminate_reshape(m: Match) -> Value:
    """Reshape(x, shape) = x, when each entry is the dimension of x at its place, copies it, or can only be it."""
    target, shape = integers(m, "shape", "shape"), proven(m).shape(m["x"])
    if target is None or shape is None:
        raise m.reject("its shape is computed" if target is None else "the rank of its input is not known")
    if len(target) != len(shape):
        raise m.reject("it changes the number of axes")
    if not _keeps(target, shape, allow_zero=bool(m.root.attr("allowzero", 0))):
        raise m.reject("it is not known to keep the shape")
    return forwarded(m, m["x"])


def _keeps(target: tuple[int, ...], shape: Shape, *, allow_zero: bool) -> bool:
    """Return whether all entries but one -1 keep their dimension; where they do, the -1 can only keep its own."""
    kept = [entry == size or (entry == 0 and not allow_zero) for entry, size in zip(target, shape, strict=True)]
    changed = [entry for entry, same in zip(target, kept, strict=True) if not same]
    return changed in ([], [-1])


@rule(op("Squeeze", op("Unsqueeze", _ANY, optional(any_value("a")), bind="first"), optional(any_value("b"))))
def cancel_unsqueeze_squeeze(m: Match) -> Value:
    """Squeeze(Unsqueeze(x, axes), axes) = x."""
    return _cancelled(m)


@rule(op("Unsqueeze", op("Squeeze", _ANY, optional(any_value("a")), bind="first"), optional(any_value("b"))))
def cancel_squeeze_unsqueeze(m: Match) -> Value:
    """Unsqueeze(Squeeze(x, axes), axes) = x."""
    return _cancelled(m)


def _cancelled(m: Match) -> Value:
    """Forward x if both write the same axes, which count in the same tensor: the one with more of them."""
    inner, outer = m.op("first"), m.root
    a, b = _axes(m, inner), _axes(m, outer)
    if a is None or b is None:
        raise m.reject("axes are computed, or left to the sizes")
    larger = inner.output if inner.kind == "Unsqueeze" else m["x"]
    if sorted(a) != sorted(b):
        rank = proven(m).rank(larger)
        if rank is None or sorted(axis % rank for axis in a) != sorted(axis % rank for axis in b):
            raise m.reject(f"{inner.kind} is of axes {list(a)}, {outer.kind} of axes {list(b)}")
    return forwarded(m, m["x"])


def _axes(m: Match, found: Op) -> tuple[int, ...] | None:
    if found.input(1) is None:
        return found.attr("axes")  # type: ignore[no-any-return]
    array = m.graph.array(found.input(1))
    return None if array is None or not array.size else tuple(int(axis) for axis in array.reshape(-1))


NOOPS: Final[tuple[tuple[Rule, ...], ...]] = (
    eliminate_identity,
    eliminate_dropout,
    eliminate_cast,
    eliminate_transpose,
    eliminate_flatten,
    eliminate_single_operand,
    eliminate_single_split,
    eliminate_pad,
    eliminate_tile,
    eliminate_slice,
    eliminate_expand,
    eliminate_reshape,
    cancel_unsqueeze_squeeze,
    cancel_squeeze_unsqueeze,
)
