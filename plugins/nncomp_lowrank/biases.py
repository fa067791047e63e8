"""Where a layer's mean error can go: its own bias, or the constant that is added behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nncomp.ir import Graph, Op, Value
from nncomp_lowrank.svd import Array


@dataclass(frozen=True, slots=True)
class Bias:
    """A constant that shifts a layer's outputs, channel by channel.

    Attributes:
        op: What reads it; the layer itself, or the Add behind it.
        slot: At which input; beyond the last when there is none yet.
        inside: It is part of what the layer gives.
        scale: What the layer multiplies it by (Gemm's beta).
    """

    op: Op
    slot: int
    inside: bool
    scale: float = 1.0


def bias_of(graph: Graph, op: Op, channels: int) -> Bias | None:
    """Return where the outputs of ``op`` can be shifted, None when there is no place for it."""
    if op.kind in ("Conv", "Gemm"):
        beta = float(op.attr("beta", 1.0))
        return Bias(op, 2, True, beta) if beta and _is_vector(graph, op.input(2), channels, optional=True) else None
    if not graph.single_use(op.output):
        return None
    (user,) = graph.users(op.output)
    if not user.is_a("Add"):
        return None
    slot = 1 if user.inputs[0] is op.output else 0
    return Bias(user, slot, False) if _is_vector(graph, user.inputs[slot], channels, optional=False) else None


def current(graph: Graph, bias: Bias) -> Array | float:
    """Return what the bias adds now."""
    array = graph.array(bias.op.input(bias.slot))
    return 0.0 if array is None else array.astype(np.float64).reshape(-1) * bias.scale


def shift(graph: Graph, bias: Bias, by: Array) -> None:
    """Add ``by``, (O,), to every output of the layer."""
    old = bias.op.input(bias.slot)
    new = ((current(graph, bias) + by) / bias.scale).astype(np.float32)
    name = old.name if old is not None else f"{bias.op.output.name}.bias"
    graph.set_input(bias.op, bias.slot, graph.add_constant(f"{name}.corrected", new))
    graph.remove_unused([old])


def _is_vector(graph: Graph, value: Value | None, channels: int, *, optional: bool) -> bool:
    if value is None:
        return optional
    tensor = graph.constant(value)
    return tensor is not None and tensor.size == channels and len(tensor.shape) == 1
