"""A leash for onnx's data propagation, which follows the numbers in shape arithmetic and has no limit of its own.

``Range(0, 4e9, 1)`` would become a list of 4e9 dimensions, and a vector concatenated with itself forty times one of
2^40; any vector of known length that an operator of shape arithmetic reads gets a place for each element. Where that
would be more than a million, an operator that onnx follows less far is put in between: behind Abs there are types and
shapes but no numbers, behind Compress there is no length either.

How long a vector is may itself come of propagation. So :func:`followed` goes in rounds: first what no number decides,
and whatever is not known to be short by then is kept from shape arithmetic until a round has found that it is.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, MutableSequence
from typing import Final, TypeAlias

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference

MAX_NUMBERS: Final = 1024
"""Constants with more elements are weights; their data does not enter inference."""
MAX_LENGTH: Final = 2**20
"""Vectors up to this length may be followed; each element costs some 70 bytes."""

_ROUNDS: Final = 6  # a vector whose length is found later than that is not followed
_FOLLOWED: Final = frozenset(
    {"Add", "Cast", "Concat", "Gather", "Mul", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze"}
)
"""Operators that have a propagation function in onnx."""
_READS: Final = _FOLLOWED - {"Shape", "Size"}
_RANK: Final = 64  # numbers that a value is taken to stand for where nothing is known, as behind Shape
_MARK: Final = " (leashed)"  # not a name that a file is likely to have
_INTEGERS: Final = (TensorProto.INT64, TensorProto.INT32)
_SIZED_BY: Final = {"ConstantOfShape": (0, 1), "Expand": (1, 1), "Tile": (1, 1), "Pad": (1, 2)}
"""Operators that may make a long vector of a few constant numbers: which operand says so, and its length then."""
_MAKES: Final = frozenset({"Concat", "Range", *_SIZED_BY})
"""Operators that :func:`leash` may have to put something beside."""

_Lengths: TypeAlias = MutableMapping[str, int]
_Data: TypeAlias = MutableMapping[str, TensorProto]


def followed(model: ModelProto) -> ModelProto:
    """Return ``model``, whose constants are small, with the types that inference finds; vectors are followed if short.

    Values that :func:`leash` put in are in the result. Inside model-local functions only what constants say is bounded.

    Raises:
        onnx.shape_inference.InferenceError: types do not fit.
    """
    leash(model)
    if _READS.isdisjoint(_kinds(model)):
        return _inferred(model, data_prop=True)
    sizes = _sizes(_inferred(model, data_prop=False))
    for _ in range(_ROUNDS):
        run = ModelProto()
        run.CopyFrom(model)
        held = _hold_graph(run.graph, sizes)
        result = _inferred(run, data_prop=True)
        found = {name: size for name, size in _sizes(result).items() if name in held}
        if not any(size <= MAX_LENGTH for size in found.values()):
            break
        sizes.update(found)
    return result


def _inferred(model: ModelProto, *, data_prop: bool) -> ModelProto:
    return shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=data_prop)


def _sizes(model: ModelProto) -> dict[str, int]:
    """Return the length of vectors, by name, and 0 for what is known to be none; the largest where bodies share one."""
    sizes: dict[str, int] = {}

    def look(graph: GraphProto) -> None:
        for item in (*graph.input, *graph.value_info, *graph.output):
            shape = item.type.tensor_type.shape
            if not item.type.tensor_type.HasField("shape"):
                continue
            if len(shape.dim) != 1:
                sizes.setdefault(item.name, 0)
            elif shape.dim[0].HasField("dim_value") or shape.dim[0].dim_param in symbols:
                sizes[item.name] = max(sizes.get(item.name, 0), shape.dim[0].dim_value)
        for tensor in graph.initializer:
            sizes[tensor.name] = max(sizes.get(tensor.name, 0), tensor.dims[0] if len(tensor.dims) == 1 else 0)
        for body in _bodies(graph.node):
            look(body)

    symbols = {dim.dim_param for item in model.graph.input for dim in item.type.tensor_type.shape.dim} - {""}
    look(model.graph)
    return sizes


def _hold_graph(graph: GraphProto, sizes: Mapping[str, int]) -> set[str]:
    """Keep from shape arithmetic what may be long, in ``graph`` and its bodies; return the names of what is kept."""
    held: set[str] = set()
    kept: list[NodeProto] = []
    arithmetic = {name for node in graph.node if node.op_type in _FOLLOWED for name in node.output}
    arithmetic.update(name for node in graph.node if node.op_type == "Constant" for name in node.output)
    bounds: dict[str, int] = dict.fromkeys(arithmetic, _RANK)
    for node in graph.node:
        if node.op_type in _READS:
            lengths = [sizes.get(name, bounds.get(name, 0 if not name else MAX_LENGTH + 1)) for name in node.input]
            grown = sum(lengths) if node.op_type == "Concat" else max(lengths, default=0)
            bounds.update(dict.fromkeys(node.output, grown if grown <= MAX_LENGTH else _RANK))
            for slot, name in enumerate(node.input):
                if lengths[slot] > MAX_LENGTH or (node.op_type == "Concat" and grown > MAX_LENGTH):
                    held.add(name)
                    node.input[slot] = f"{name}{_MARK} for {node.output[0]}, {slot}{_MARK}"
                    kept.append(_compress(name, node.input[slot]))
        kept.append(node)
    if len(kept) > len(graph.node):
        copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(copies)
    for body in _bodies(graph.node):
        held |= _hold_graph(body, sizes)
    return held


def _bodies(nodes: Iterable[NodeProto]) -> Iterator[GraphProto]:
    one, several = AttributeProto.GRAPH, AttributeProto.GRAPHS
    for node in nodes:
        for attr in node.attribute:
            if attr.type == one:
                yield attr.g
            elif attr.type == several:
                yield from attr.graphs


def leash(model: ModelProto) -> None:
    """Change ``model``, whose constants are small, so that constants make no long vector. Linear in nodes."""
    _forget_long(model.graph)
    if _MAKES.isdisjoint(_kinds(model)):
        return
    for function in model.functions:
        _leash(function.node, {}, {})
    _leash_graph(model.graph, {}, {})


def is_leash(node: NodeProto) -> bool:
    """True for a node that :func:`leash` put in."""
    return node.op_type in ("Abs", "Compress") and any(name.endswith(_MARK) for name in (*node.input, *node.output))


def _forget_long(graph: GraphProto) -> None:
    """Drop the sizes of integer vectors that are declared to be long, in bodies too."""
    for item in (*graph.input, *graph.value_info):
        dims = item.type.tensor_type.shape.dim
        if len(dims) == 1 and dims[0].dim_value > MAX_LENGTH and item.type.tensor_type.elem_type in _INTEGERS:
            dims[0].Clear()
    for body in _bodies(graph.node):
        _forget_long(body)


def _kinds(model: ModelProto) -> set[str]:
    """Return which operators a model holds, in bodies and functions, too."""
    found: set[str] = set()
    pending: list[Iterable[NodeProto]] = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        nodes = pending.pop()
        found.update([node.op_type for node in nodes])
        pending.extend(body.node for body in _bodies(nodes))
    return found


def _leash_graph(graph: GraphProto, lengths: _Lengths, data: _Data) -> None:
    own = {tensor.name: tensor for tensor in graph.initializer}
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    _leash(graph.node, ChainMap(sizes, lengths), ChainMap(own, data))


def _leash(nodes: MutableSequence[NodeProto], lengths: _Lengths, data: _Data) -> None:
    kept: list[NodeProto] = []
    for node in nodes:
        for body in _bodies((node,)):
            _leash_graph(body, lengths, data)
        length = _length(node, lengths, data)
        before, behind = _around(node, length, data)
        kept += [*before, node, *behind]
        lengths.update(dict.fromkeys(node.output, _RANK if before else length))
    if len(kept) > len(nodes):
        copies = [NodeProto.FromString(node.SerializeToString()) for node in kept]
        del nodes[:]
        nodes.extend(copies)


def _around(node: NodeProto, length: int, data: _Data) -> tuple[list[NodeProto], list[NodeProto]]:
    """Return what has to stand before and behind ``node``, which is made to read or write it."""
    if node.op_type in ("Concat", "Range") and length > MAX_LENGTH and node.input:
        given, hidden = node.input[0], f"{node.output[0]}{_MARK}"
        node.input[0] = hidden
        return [_abs(given, hidden) if node.op_type == "Range" else _compress(given, hidden)], []
    if node.op_type in _SIZED_BY and _is_long(node, data):
        result, hidden = node.output[0], f"{node.output[0]}{_MARK}"
        node.output[0] = hidden
        return [], [_compress(hidden, result)]
    return [], []


def _abs(given: str, result: str) -> NodeProto:
    return NodeProto(op_type="Abs", input=[given], output=[result])


def _compress(given: str, result: str) -> NodeProto:
    axis = AttributeProto(name="axis", type=AttributeProto.INT, i=0)
    return NodeProto(op_type="Compress", input=[given, given], output=[result], attribute=[axis])


def _is_long(node: NodeProto, data: _Data) -> bool:
    slot, length = _SIZED_BY[node.op_type]
    sizes = _numbers(data.get(node.input[slot])) if slot < len(node.input) else ()
    return len(sizes) == length and max(abs(size) for size in sizes) > MAX_LENGTH


def _length(node: NodeProto, lengths: _Lengths, data: _Data) -> int:
    """Return how many numbers an output may stand for, at most; only two operators make more than they are given."""
    if node.op_type == "Constant":
        tensor = next((found for attr in node.attribute if (found := _constant(attr)) is not None), None)
        if tensor is not None and math.prod(tensor.dims) <= MAX_NUMBERS:
            data[node.output[0]] = tensor
        return _RANK if tensor is None else math.prod(tensor.dims)
    if node.op_type == "Range":
        return _range_length([_numbers(data.get(name)) for name in node.input])
    given = [lengths.get(name, _RANK) for name in node.input if name]
    is_vector = any(attr.name == "axis" and attr.i in (0, -1) for attr in node.attribute)
    return sum(given) if node.op_type == "Concat" and is_vector else max(given, default=_RANK)


def _constant(attr: AttributeProto) -> TensorProto | None:
    match attr.name:
        case "value":
            return attr.t
        case "value_int":
            return numpy_helper.from_array(np.array(attr.i, np.int64))
        case "value_ints":
            return numpy_helper.from_array(np.array(attr.ints, np.int64))
        case _:  # texts and floats, of which no shape is made
            return None


def _range_length(operands: list[tuple[float, ...]]) -> int:
    """Return the count of numbers; too many when an operand is computed, since it may be anything."""
    if len(operands) != 3 or any(len(operand) != 1 for operand in operands):
        return MAX_LENGTH + 1
    (start,), (limit,), (delta,) = operands
    count = (limit - start) / delta if delta else math.inf
    return math.ceil(count) if 0 <= count <= MAX_LENGTH else MAX_LENGTH + 1


def _numbers(tensor: TensorProto | None) -> tuple[float, ...]:
    if tensor is None or tensor.data_type == TensorProto.STRING:
        return ()
    return tuple(float(number) for number in np.asarray(numpy_helper.to_array(tensor)).reshape(-1))
