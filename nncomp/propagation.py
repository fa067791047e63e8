"""A leash for onnx's data propagation, which follows the numbers in shape arithmetic and has no limit of its own.

``Range(0, 4e9, 1)`` would become a list of 4e9 dimensions, and a vector concatenated with itself forty times one of
2^40, before any type is known. Where more than a few numbers would come together, an Abs is put in front of the
operator: types go through it, numbers do not.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import MutableMapping, Sequence
from typing import Final, TypeAlias

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

MAX_NUMBERS: Final = 1024
"""Constants with more elements are weights, and no shape is that long."""

_RANK: Final = 64  # numbers that a value is taken to stand for where nothing is known, as behind Shape
_MARK: Final = " (leashed)"  # not a name that a file is likely to have

_Lengths: TypeAlias = MutableMapping[str, int]
_Data: TypeAlias = MutableMapping[str, TensorProto]


def leash(model: ModelProto) -> None:
    """Change ``model``, whose constants are small, so that inference follows short vectors only. Linear in nodes."""
    for function in model.functions:
        _leash(function.node, {}, {})
    _leash_graph(model.graph, {}, {})


def is_leash(node: NodeProto) -> bool:
    """True for a node that :func:`leash` put in."""
    return len(node.output) == 1 and node.output[0].endswith(_MARK)


def _leash_graph(graph: GraphProto, lengths: _Lengths, data: _Data) -> None:
    own = {tensor.name: tensor for tensor in graph.initializer}
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    _leash(graph.node, ChainMap(sizes, lengths), ChainMap(own, data))


def _leash(nodes: Sequence[NodeProto], lengths: _Lengths, data: _Data) -> None:
    kept: list[NodeProto] = []
    for node in nodes:
        for attr in node.attribute:
            for body in (attr.g, *attr.graphs) if attr.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) else ():
                _leash_graph(body, lengths, data)
        length = _length(node, lengths, data)
        if length > MAX_NUMBERS and node.op_type in ("Concat", "Range") and node.input:
            hidden = f"{node.output[0]}{_MARK}"
            kept.append(NodeProto(op_type="Abs", input=[node.input[0]], output=[hidden]))
            node.input[0] = hidden
            length = _RANK
        kept.append(node)
        lengths.update(dict.fromkeys(node.output, length))
    if len(kept) > len(nodes):
        copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
        del nodes[:]  # type: ignore[attr-defined]
        nodes.extend(copies)  # type: ignore[attr-defined]


def _length(node: NodeProto, lengths: _Lengths, data: _Data) -> int:
    """Return how many numbers an output may stand for, at most; only two operators make more than they are given."""
    if node.op_type == "Constant":
        return max((_constant_length(attr) for attr in node.attribute), default=_RANK)
    if node.op_type == "Range":
        return _range_length([data.get(name) for name in node.input])
    given = [lengths.get(name, _RANK) for name in node.input if name]
    return sum(given) if node.op_type == "Concat" else max(given, default=_RANK)


def _constant_length(attr: AttributeProto) -> int:
    return math.prod(attr.t.dims) if attr.type == AttributeProto.TENSOR else len(attr.ints) + len(attr.floats) + 1


def _range_length(operands: list[TensorProto | None]) -> int:
    """Return the count of numbers; too many when an operand is computed, since it may be anything."""
    known = [np.asarray(numpy_helper.to_array(tensor)).reshape(-1) for tensor in operands if tensor is not None]
    if len(known) != 3 or any(array.size != 1 for array in known):
        return MAX_NUMBERS + 1
    start, limit, delta = (float(array[0]) for array in known)
    count = (limit - start) / delta if delta else math.inf
    return math.ceil(count) if 0 <= count <= MAX_NUMBERS else MAX_NUMBERS + 1
