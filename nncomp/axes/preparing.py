"""What the analysis wants of a graph: sizes as far as arithmetic on shapes tells them, and vectors for each reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nncomp.axes.model import is_constant
from nncomp.axes.numbers import Numbers, code
from nncomp.infer import merged_type, op_types
from nncomp.ir import Dim, Graph, Op, TensorType, Value, tensor


def unshare_vectors(graph: Graph) -> None:
    """Give each reader of a vector of floats its own copy of it.

    Exporters merge equal constants, so that biases of zeros would tie layers together that have nothing in common.
    Matrices stay shared: that is how weights are tied.
    """
    for part in graph.graphs():
        for value in part.values():
            if not is_constant(value) or part.is_output(value):
                continue
            uses = [use for use in part.uses(value) if isinstance(use.slot, int)]
            data = part.constant(value) if len(uses) > 1 else None
            if data is None or not data.dtype.is_floating_point() or data.size < 2 or max(data.shape) != data.size:
                continue
            for use in uses[1:]:
                assert isinstance(use.slot, int)
                part.set_input(use.op, use.slot, part.add_constant(value.name, data))


def refine(graph: Graph, op: Op, numbers: Mapping[Value, Numbers]) -> None:
    """Set the types of an op's outputs as far as what is known of its operands tells more than they say."""
    if all(value.tensor_type is not None and value.tensor_type.static_shape is not None for value in op.outputs):
        return
    if not op.bodies and all(value is None or value.type is not None for value in op.inputs):
        known = {value: tensor(found.data) for value, found in _complete(op, numbers)}
        for value, type_ in zip(op.outputs, op_types(op, graph, known), strict=False):
            if type_ is not None and value.name:
                graph.set_type(value, merged_type(value.type, type_))
    told = _refined(op, numbers)
    if told is not None:
        graph.set_type(op.outputs[0], told)


def _complete(op: Op, numbers: Mapping[Value, Numbers]) -> list[tuple[Value, Numbers]]:
    found = [(value, numbers.get(value)) for value in op.inputs if value is not None]
    return [(value, one) for value, one in found if one is not None and one.complete]


def _refined(op: Op, numbers: Mapping[Value, Numbers]) -> TensorType | None:
    """Return the type of an output whose shape is an operand that is known in part."""
    slot = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}.get(op.kind)
    target = None if slot is None or op.domain or op.input(slot) is None else op.input(slot)
    found = None if target is None else numbers.get(target)
    type_ = op.outputs[0].tensor_type
    if found is None or type_ is None or found.data.ndim != 1:
        return None
    told = _told(op, found)
    if told is None:
        return None
    old = type_.shape if type_.shape is not None else (None,) * len(told)
    if len(old) != len(told):
        return None
    shape = tuple(
        new if not isinstance(dim, int) and new is not None else dim for dim, new in zip(old, told, strict=True)
    )
    return replace(type_, shape=shape) if shape != type_.shape else None


def _told(op: Op, target: Numbers) -> tuple[Dim, ...] | None:
    data = op.input(0)
    before = None if data is None else data.shape
    symbols = {code(dim): dim for dim in before or () if isinstance(dim, str)}
    sizes: list[Dim] = [
        int(number) if known else symbols.get(int(number))
        for number, known in zip(target.data, target.known, strict=True)
    ]
    if op.kind == "ConstantOfShape":
        return tuple(sizes)
    if before is None:
        return None
    if op.kind == "Expand":
        padded = (1,) * (len(sizes) - len(before)) + before
        front = [None] * (len(padded) - len(sizes))
        return tuple(_wider(one, other) for one, other in zip(padded, [*front, *sizes], strict=True))
    if not op.attr("allowzero", 0):
        sizes = [before[place] if size == 0 and place < len(before) else size for place, size in enumerate(sizes)]
    if -1 in sizes:
        left = _left(before, [size for size in sizes if size != -1])
        sizes = [left if size == -1 else size for size in sizes]
    return tuple(sizes)


def _left(whole: Sequence[Dim], taken: Sequence[Dim]) -> int | None:
    """Return how many elements are left for one axis when ``taken`` are those of the others."""
    rest = list(whole)
    for size in taken:
        if isinstance(size, str) and size in rest:
            rest.remove(size)
        elif not isinstance(size, int):
            return None
    total, known = _product(rest), _product([size for size in taken if isinstance(size, int)])
    return total // known if total is not None and known else None


def _wider(one: Dim, other: Dim) -> Dim:
    if isinstance(one, int) and one > 1:
        return one
    return other if isinstance(other, int) and other > 1 else (one if other == 1 else None)


def _product(sizes: Sequence[Dim]) -> int | None:
    numbers = [size for size in sizes if isinstance(size, int)]
    return math.prod(numbers) if len(numbers) == len(sizes) else None
