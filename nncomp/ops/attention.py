"""Attention. Counted without masks: the causal half is counted too, since kernels differ in what they skip."""

from __future__ import annotations

import math

from nncomp.ir import Op
from nncomp.ops.counting import SOFTMAX_STEPS, Counted, per_output, shape, unpriced
from nncomp.ops.coupling import stays
from nncomp.ops.inference import attention_type, like_input, packed_attention_type
from nncomp.ops.labels.attending import (
    attention,
    group_query_attention,
    multi_head_attention,
    packed_attention,
    rotary_embedding,
)
from nncomp.ops.nest_rules import scores_nests
from nncomp.ops.nests import LoopNest, NestRule
from nncomp.ops.roles import ELEMENTWISE, sensitive
from nncomp.ops.semantics import CostRule, OpSemantics, rows

ROTARY_STEPS = 3
"""Scalar operations an element: two products and a sum."""


def scores_cost(batch: int, heads: int, queries: int, keys: int, depth: int) -> tuple[int, int]:
    """Count query x key and probabilities x value (``depth``: head sizes of key and value together), and a softmax."""
    scores = batch * heads * queries * keys
    return scores * depth, scores * SOFTMAX_STEPS


def _past(op: Op, slot: int, axis: int) -> int | None:
    """Return how many positions a cache holds: 0 when there is none, None when it cannot be told."""
    if op.input(slot) is None:
        return 0
    dims = shape(op.input(slot))
    return None if dims is None or len(dims) <= axis else dims[axis]


def _attention_nests(op: Op) -> tuple[LoopNest, ...] | None:
    """Read ONNX's Attention: operands (batch, heads, positions, head size), or (batch, positions, hidden)."""
    query, key, value, past = shape(op.input(0)), shape(op.input(1)), shape(op.input(2)), _past(op, 4, 2)
    if query is None or key is None or value is None or past is None or not len(query) == len(key) == len(value):
        return None
    if len(query) == 4:
        return scores_nests(query[0], query[1], query[2], key[2] + past, depth=query[3], values=value[3])
    heads, kv_heads = op.attr("q_num_heads", 0), op.attr("kv_num_heads", 0)
    if len(query) != 3 or not heads or not kv_heads:
        return None
    depth, values = query[2] // heads, value[2] // kv_heads
    return scores_nests(query[0], heads, query[1], key[1] + past, depth=depth, values=values)


def _counted(nests: NestRule) -> CostRule:
    """Return the cost of a pair of nests with a softmax between them."""

    def count(op: Op) -> Counted:
        found = nests(op)
        if found is None:
            return None
        scores = found[0].batch * found[0].groups * found[0].outputs
        return sum(nest.macs for nest in found), scores * SOFTMAX_STEPS

    return count


def packed_attention_cost(past: int) -> CostRule:
    """Return the rule for attention that makes query, key and value itself.

    Input: (batch, positions, in);  weight, slot 1: (in, query + key + value);  cache, slot ``past``: (2, batch, heads,
    positions, head size).
    """

    def count(op: Op) -> Counted:
        data, weights = shape(op.input(0)), shape(op.input(1))
        before, heads = _past(op, past, 3), op.attr("num_heads", 0)
        if data is None or weights is None or before is None or not heads:
            return None
        if len(data) != 3 or len(weights) != 2:
            return None
        _, key_size, value_size = op.attr("qkv_hidden_sizes") or (weights[1] // 3,) * 3
        depth = (key_size + value_size) // heads
        macs, steps = scores_cost(data[0], heads, data[1], data[1] + before, depth)
        return math.prod(data) * weights[1] + macs, steps

    return count


def _multi_head_nests(op: Op) -> tuple[LoopNest, ...] | None:
    """Read com.microsoft's MultiHeadAttention on operands (batch, positions, hidden); packed ones are not priced."""
    query, key, value, past = shape(op.input(0)), shape(op.input(1)), shape(op.input(2)), _past(op, 6, 2)
    heads = op.attr("num_heads", 0)
    if query is None or key is None or value is None or past is None or not heads:
        return None
    if not len(query) == len(key) == len(value) == 3:
        return None
    depth, values = query[2] // heads, value[2] // heads
    return scores_nests(query[0], heads, query[1], key[1] + past, depth=depth, values=values)


def _linear_attention(op: Op) -> Counted:
    """Count the recurrence on (batch, positions, heads * size): write and read a (key size, value size) state.

    The delta rules first read what the state holds at the key; the gated ones decay it.
    """
    query, value = shape(op.input(0)), shape(op.input(2))
    heads, kv_heads = op.attr("q_num_heads", 0), op.attr("kv_num_heads", 0)
    if query is None or value is None or not heads or not kv_heads or not len(query) == len(value) == 3:
        return None
    state = (query[2] // heads) * (value[2] // kv_heads)
    rule, positions = op.attr("update_rule", "gated_delta"), query[0] * query[1]
    writes = 2 if "delta" in rule else 1
    return positions * state * (kv_heads * writes + heads), positions * state * kv_heads if "gated" in rule else 0


_SOFTMAX = sensitive("holds a softmax and products of activations", data=(0, 1, 2))
_STATEFUL = sensitive("its state carries rounding errors along the sequence", data=(0, 1, 2))

ROWS: tuple[OpSemantics, ...] = (
    *rows("Attention", axes=attention, cost=_counted(_attention_nests), quant=_SOFTMAX, nest=_attention_nests),
    *rows(
        "LinearAttention", axes=stays("its state mixes all channels of a head"), cost=_linear_attention, quant=_STATEFUL
    ),
    *rows("RotaryEmbedding", axes=rotary_embedding, cost=per_output(ROTARY_STEPS), quant=ELEMENTWISE),
    *rows(
        "RotaryEmbedding",
        axes=stays("pairs of channels are rotated"),
        domain="com.microsoft",
        infer=like_input(0),
        cost=per_output(ROTARY_STEPS),
        quant=ELEMENTWISE,
    ),
    *rows(
        "Attention",
        axes=packed_attention,
        domain="com.microsoft",
        infer=packed_attention_type(),
        cost=packed_attention_cost(past=4),
        quant=sensitive("holds a softmax and products of activations"),
    ),
    *rows(
        "MultiHeadAttention",
        axes=multi_head_attention,
        domain="com.microsoft",
        infer=attention_type,
        cost=_counted(_multi_head_nests),
        quant=_SOFTMAX,
        nest=_multi_head_nests,
    ),
    *rows("GroupQueryAttention", axes=group_query_attention, domain="com.microsoft", cost=unpriced, quant=_SOFTMAX),
    # How many positions these attend to is an input (lengths, page tables), so nothing is counted.
    *rows(
        "PackedAttention PackedMultiHeadAttention PagedAttention SparseAttention "
        "DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention LongformerAttention",
        axes=stays("its operands are packed, or how they are read is an input"),
        domain="com.microsoft",
        cost=unpriced,
        quant=_SOFTMAX,
    ),
)
