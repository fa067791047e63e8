"""One kernel for attention: products of queries, keys and values over heads, which ONNX Runtime computes as one op.

    Q, K, V (B, S, H D) -> Reshape (B, S, H, D) -> Transpose (B, H, S, D)
    Softmax(Q K^T * scale + mask) V  -> Transpose -> Reshape (B, S, H D)

is ``Attention`` of opset 23, with the same products and the same softmax, and without passing over the tensors once
more for each transpose, scale and mask. Its mask has to have all queries and keys; a mask that is broadcast over
queries is expanded in front, once for all layers that share it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.opset import convert_opset

_OPSET: Final = 23
"""First opset that has Attention."""
_HEADS_SECOND: Final = (0, 2, 1, 3)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One attention.

    Attributes:
        inputs: what is split into heads: queries, keys, values.
        heads: number of heads.
        scale: factor of the products.
        mask: what is added to them, None for nothing.
        last: Reshape that gives the result.
    """

    inputs: tuple[Value, Value, Value]
    heads: int
    scale: float
    mask: Value | None
    last: Op


def fuse_attention(graph: Graph) -> int:
    """Write attention as one op, and lift the model to its opset; return how many. A model that cannot be lifted stays.

    Only in the model's own graph.
    """
    if not any(op.is_a("Softmax") and _match(graph, op) is not None for op in graph.ops()):
        return 0
    if graph.opsets[""] < _OPSET:
        try:
            convert_opset(graph, _OPSET)
        except UnsupportedError:
            return 0
        infer_types(graph)
    masks: dict[Hashable, Value] = {}
    count = 0
    for softmax in [op for op in graph.ops() if op.is_a("Softmax")]:
        pattern = _match(graph, softmax)  # only now: an attention in front may have become another op
        if pattern is None:
            continue
        count += 1
        inputs: list[Value | None] = list(pattern.inputs)
        if pattern.mask is not None:
            inputs.append(_full_mask(graph, pattern, pattern.mask, masks))
        result = graph.add_op(
            "Attention",
            inputs,
            [(f"{pattern.last.output.name}_attention", pattern.last.output.type)],
            attrs={"q_num_heads": pattern.heads, "kv_num_heads": pattern.heads, "scale": pattern.scale},
            like=pattern.last,
        )
        name = pattern.last.output.name
        graph.replace_uses(pattern.last.output, result.output)
        graph.remove_unused([pattern.last.output])
        if not graph.has_name(name):
            graph.rename(result.output, name)
    return count


def _match(graph: Graph, softmax: Op) -> _Pattern | None:
    if softmax.attr("axis", -1) not in (-1, 3) or graph.opsets.get("", 0) < 13:
        return None
    scores, mask = softmax.inputs[0], None
    made = _only_maker(graph, scores)
    if made is not None and made.is_a("Add"):
        scaled = [value for value in made.inputs if _scaled_product(graph, value) is not None]
        if len(scaled) != 1 or scaled[0] is None:
            return None
        scores = scaled[0]
        mask = next(value for value in made.inputs if value is not scores)
        if mask is None or not _is_float(mask) or len(mask.shape or ()) not in (2, 3, 4):
            return None
    product = _scaled_product(graph, scores)
    last = _chain(graph, softmax.output, "MatMul", "Transpose", "Reshape")
    if product is None or last is None:
        return None
    (first, scale), (weighted, back, merged) = product, last
    if back.attr("perm") != _HEADS_SECOND or weighted.inputs[0] is not softmax.output:
        return None
    split = [
        _split(graph, first.inputs[0], _HEADS_SECOND),
        _split(graph, first.inputs[1], (0, 2, 3, 1)),
        _split(graph, weighted.inputs[1], _HEADS_SECOND),
    ]
    sources = [one[0] for one in split if one is not None]
    heads = {one[1:] for one in split if one is not None}
    if len(sources) < 3 or len(heads) > 1:
        return None
    count, width = heads.pop()
    if not _merges(graph, merged, count * width):
        return None
    return _Pattern((sources[0], sources[1], sources[2]), count, scale, mask, merged)


def _scaled_product(graph: Graph, value: Value | None) -> tuple[Op, float] | None:
    """Return the MatMul that gives ``value``, and the constant that it is multiplied by."""
    made = _only_maker(graph, value)
    scale = 1.0
    if made is not None and (made.is_a("Mul") or made.is_a("Div")):
        constants = [graph.array(operand) for operand in made.inputs]
        which = 1 if constants[1] is not None else 0
        factor = constants[which]
        if factor is None or factor.size != 1 or (made.is_a("Div") and which == 0):
            return None
        scale = float(factor.item())
        if made.is_a("Div"):
            scale = 1.0 / scale if scale else 0.0
        made = _only_maker(graph, made.inputs[1 - which])
    return (made, scale) if made is not None and made.is_a("MatMul") and scale > 0 else None


def _split(graph: Graph, value: Value | None, perm: tuple[int, ...]) -> tuple[Value, int, int] | None:
    """Return what is split into heads, and how many of which width, for (B, S, H D) -> (B, S, H, D) -> transposed."""
    moved = _only_maker(graph, value)
    if moved is None or not moved.is_a("Transpose") or moved.attr("perm") != perm:
        return None
    parted = _only_maker(graph, moved.inputs[0])
    shape = graph.array(parted.input(1)) if parted is not None and parted.is_a("Reshape") else None
    if parted is None or shape is None or shape.shape != (4,) or parted.attr("allowzero", 0):
        return None
    source = parted.inputs[0]
    batch, length, heads, width = (int(size) for size in shape)
    if source is None or not _is_float(source) or source.shape is None or len(source.shape) != 3:
        return None
    if source.shape[2] != heads * width or not _keeps((batch, length), source.shape):
        return None
    return source, heads, width


def _merges(graph: Graph, op: Op, features: int) -> bool:
    """True for a Reshape of (B, S, H, D) to (B, S, H D)."""
    shape, source = graph.array(op.input(1)), op.inputs[0]
    if shape is None or shape.shape != (3,) or op.attr("allowzero", 0) or source is None or source.shape is None:
        return False
    batch, length, merged = (int(size) for size in shape)
    if merged == -1:
        return -1 not in (batch, length) and _keeps((batch, length), source.shape)
    return merged == features and _keeps((batch, length), source.shape)


def _keeps(asked: tuple[int, int], dims: Sequence[object]) -> bool:
    """True where a Reshape that is asked for these first two axes gives those of its input."""
    kept = [size in (0, dim) for size, dim in zip(asked, dims, strict=False)]
    return all(kept) or (any(kept) and -1 in asked)


def _is_float(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype == DataType.FLOAT


def _full_mask(graph: Graph, pattern: _Pattern, mask: Value, masks: dict[Hashable, Value]) -> Value:
    """Return ``mask`` with all queries and keys: (..., 1, S) -> (..., S, S)."""
    query, key, _ = pattern.inputs
    ends = [value.shape[1] if value.shape is not None else None for value in (query, key)]
    if mask.shape is not None and list(mask.shape[-2:]) == ends and None not in ends and 1 not in ends:
        return mask
    same: Hashable = (mask, *ends) if None not in ends else (mask, query, key)
    if same not in masks:
        one = graph.add_constant("one", np.array([1], np.int64))
        lengths = [
            graph.add_op("Shape", [value], [f"{value.name}_length"], attrs={"start": 1, "end": 2}).output
            for value in (query, key)
        ]
        shape = graph.add_op("Concat", [one, one, *lengths], [f"{mask.name}_shape"], attrs={"axis": 0}).output
        masks[same] = graph.add_op("Expand", [mask, shape], [f"{mask.name}_full"]).output
    return masks[same]


def _only_maker(graph: Graph, value: Value | None) -> Op | None:
    """Return the op that makes ``value`` for a single reader."""
    return value.producer if value is not None and graph.single_use(value) else None


def _chain(graph: Graph, value: Value, *kinds: str) -> list[Op] | None:
    """Return the ops of these kinds that follow ``value``, each the only reader of what is in front."""
    found = []
    for kind in kinds:
        users = graph.users(value) if graph.single_use(value) else []
        if len(users) != 1 or not users[0].is_a(kind):
            return None
        found.append(users[0])
        value = users[0].output
    return found
