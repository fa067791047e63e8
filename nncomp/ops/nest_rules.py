"""Rules that tell the loop nests of op families."""

from __future__ import annotations

import math

from nncomp.ir import Op
from nncomp.ops.counting import shape, size
from nncomp.ops.einsum import einsum_terms
from nncomp.ops.geometry import channels_last, conv_geometry
from nncomp.ops.nests import LoopNest, NestRule


def convolution_nest(data: int = 0, weight: int = 1) -> NestRule:
    """Return the rule of a convolution whose weight is (out channels, in channels / group, kernel...)."""

    def nest(op: Op) -> tuple[LoopNest, ...] | None:
        geometry, read, written = conv_geometry(op), shape(op.input(data)), shape(op.output)
        if geometry is None or read is None or written is None or len(read) != len(geometry.kernel) + 2:
            return None
        if channels_last(op):
            read, written = (read[0], read[-1], *read[1:-1]), (written[0], written[-1], *written[1:-1])
        groups, rank = geometry.group, len(geometry.kernel)
        outputs, inputs = geometry.out_channels // groups, geometry.in_channels // groups
        return (
            LoopNest(
                batch=read[0],
                groups=groups,
                outputs=outputs,
                inputs=inputs,
                spatial=written[2:],
                kernel=geometry.kernel,
                strides=geometry.strides,
                dilations=geometry.dilations,
                sizes=read[2:],
                data=data,
                weight=weight,
                channel_axis=len(read) - 1 if channels_last(op) else 1,
                weight_shape=(groups, outputs, inputs, *geometry.kernel),
                weight_axes=tuple(range(3 + rank)),
            ),
        )

    return nest


def transposed_nest(op: Op) -> tuple[LoopNest, ...] | None:
    """Return a transposed convolution's nest: each input position times all columns (m, r...), then scattered.

    Its products, not its overlapping output elements, are what the nest writes.
    """
    read, weights = shape(op.input(0)), shape(op.input(1))
    if read is None or weights is None or len(read) != len(weights) or len(read) < 3:
        return None
    groups = op.attr("group", 1)
    rank, inputs, columns = len(weights) - 2, weights[0] // groups, math.prod(weights[1:])
    return (
        LoopNest(
            batch=read[0],
            groups=groups,
            outputs=columns,
            inputs=inputs,
            spatial=read[2:],
            kernel=(1,) * rank,
            strides=(1,) * rank,
            dilations=(1,) * rank,
            sizes=read[2:],
            channel_axis=1,
            weight_shape=(groups, inputs, columns, *(1,) * rank),
            weight_axes=(0, 2, 1, *range(3, 3 + rank)),
        ),
    )


def product_nest(data: int = 0, weight: int = 1) -> NestRule:
    """Return the rule of MatMul, Gemm and their kin: x (..., rows, c), w (..., c, m), both perhaps transposed.

    Leading axes of a weight without such axes are rows; where both operands have them, each is a group.
    """

    def nest(op: Op) -> tuple[LoopNest, ...] | None:
        left, right, written = shape(op.input(data)), shape(op.input(weight)), shape(op.output)
        if left is None or right is None or written is None or not left or not right:
            return None
        if op.attr("transBatchA", 0) or op.attr("transBatchB", 0):
            return None
        flipped = bool(op.attr("transA", 0)) and len(left) > 1
        turned = bool(op.attr("transB", 0)) and len(right) > 1
        inputs = left[-2] if flipped else left[-1]
        if len(right) == 1:
            right = (right[0], 1)
        outputs, batch = right[-2] if turned else right[-1], math.prod(right[:-2])
        elements = math.prod(written)
        groups = elements // max(outputs * (left[-1] if flipped else left[-2]), 1) if batch > 1 and len(left) > 1 else 1
        return (
            LoopNest(
                batch=elements // max(outputs * groups, 1),
                groups=groups,
                outputs=outputs,
                inputs=inputs,
                data=data,
                weight=weight,
                channel_axis=len(left) - (2 if flipped else 1),
                weight_shape=(groups, *right[-2:]) if batch == groups else (),
                weight_axes=(0, 1, 2) if turned else (0, 2, 1),
            ),
        )

    return nest


def einsum_nest(op: Op) -> tuple[LoopNest, ...] | None:
    """Return the nest of a product of two operands without ``...``: each letter is g, n, m or c."""
    terms, result = einsum_terms(op)
    if len(terms) != 2 or len(op.inputs) != 2 or any("." in term for term in (*terms, result)):
        return None
    left, right = shape(op.input(0)), shape(op.input(1))
    if left is None or right is None or len(left) != len(terms[0]) or len(right) != len(terms[1]):
        return None
    sizes = dict(zip(terms[0], left, strict=True)) | dict(zip(terms[1], right, strict=True))
    if math.prod(sizes.values()) == 0 or any(len(set(term)) != len(term) for term in terms):
        return None
    here = {letter: (letter in terms[0], letter in terms[1], letter in result) for letter in sizes}
    groups = [letter for letter in terms[1] if here[letter] == (True, True, True)]
    outputs = [letter for letter in terms[1] if here[letter] == (False, True, True)]
    inputs = [letter for letter in terms[1] if here[letter][2] is False]
    rest = [letter for letter in terms[0] if letter not in terms[1]]

    def bound(letters: list[str]) -> int:
        return math.prod(sizes[letter] for letter in letters)

    order = [terms[1].index(letter) for letter in (*groups, *outputs, *inputs)]
    grouped = len(groups) <= 1 and len(outputs) <= 1 and len(inputs) <= 1 and len(order) == len(terms[1])
    view = tuple(right)
    if grouped:  # axes that are not there have one element, in front
        missing = 3 - len(order)
        view = (*(1,) * missing, *view)
        places = iter(place + missing for place in order)
        fill = iter(range(missing))
        order = [next(places) if letters else next(fill) for letters in (groups, outputs, inputs)]
    contracted = [letter for letter in inputs if letter in terms[0]]
    return (
        LoopNest(
            batch=bound(rest),
            groups=bound(groups),
            outputs=bound(outputs),
            inputs=bound(inputs),
            channel_axis=terms[0].index(contracted[0]) if len(contracted) == 1 else None,
            weight_shape=view if grouped else (),
            weight_axes=tuple(order) if grouped else (),
        ),
    )


def scores_nests(batch: int, heads: int, queries: int, keys: int, *, depth: int, values: int) -> tuple[LoopNest, ...]:
    """Return query times key, and probabilities times value; each head of each sequence is a group."""
    return (
        LoopNest(batch=queries, groups=batch * heads, outputs=keys, inputs=depth, data=0, weight=1),
        LoopNest(batch=queries, groups=batch * heads, outputs=values, inputs=keys, data=None, weight=2),
    )


def recurrent_nests(op: Op) -> tuple[LoopNest, ...] | None:
    """Return inputs times w, and states times r; each direction is a group with all gates as its outputs."""
    data, weights, recurrent = shape(op.input(0)), shape(op.input(1)), shape(op.input(2))
    if data is None or weights is None or recurrent is None or len(recurrent) != 3 or len(weights) != 3:
        return None
    positions = math.prod(data[:2])

    def one(slot: int, dims: tuple[int, ...], read: int | None) -> LoopNest:
        return LoopNest(
            batch=positions,
            groups=dims[0],
            outputs=dims[1],
            inputs=dims[2],
            data=read,
            weight=slot,
            channel_axis=None if read is None else 2,
            weight_shape=dims,
            weight_axes=(0, 1, 2),
        )

    return one(1, weights, 0), one(2, recurrent, None)


def packed_product_nest(op: Op) -> tuple[LoopNest, ...] | None:
    """Return rows * K * N; the weight is packed, and has no plain form."""
    elements, inputs, outputs = size(op.output), op.attr("K", 0), op.attr("N", 0)
    if elements is None or not inputs or not outputs:
        return None
    read = shape(op.input(0))
    axis = None if read is None else len(read) - 1
    return (LoopNest(batch=elements // outputs, outputs=outputs, inputs=inputs, channel_axis=axis),)
