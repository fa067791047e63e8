"""Where a constant per output channel is added to what a linear layer gives: in the layer, or by the Add behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, Value
from nncomp.ops.matrix import MatrixView


@dataclass(frozen=True, slots=True)
class LayerBias:
    """The bias of a layer, present or not.

    Attributes:
        op, slot: Who reads it; the layer itself, or an Add whose only other operand is the layer's output.
        inside: True when it is part of the layer's own output.
        values: (G, O), float64, in the order of the layer's :class:`MatrixView`; zeros when there is none yet.
    """

    op: Op
    slot: int
    inside: bool
    values: npt.NDArray[np.float64]


def layer_bias(graph: Graph, op: Op, view: MatrixView) -> LayerBias | None:
    """Return where the bias of a layer stands or, for a convolution or Gemm without one, would stand.

    Returns:
        None when it is computed, or is no vector over output channels, and for a product without an Add behind it.
    """
    shape = view.groups, view.outputs
    if op.kind in ("Conv", "ConvTranspose", "Gemm"):
        return _own_bias(graph, op, shape)
    if view.weight != 1 or view.groups != 1 or len(view.shape) < 2 or not graph.single_use(op.output):
        return None
    add = graph.users(op.output)[0]
    slot = 1 if add.input(0) is op.output else 0
    added = graph.array(add.input(slot)) if add.is_a("Add") else None
    if added is None or added.size != view.outputs or added.shape[-1:] != (view.outputs,):
        return None
    return LayerBias(add, slot, inside=False, values=np.asarray(added, np.float64).reshape(shape))


def set_layer_bias(graph: Graph, bias: LayerBias, values: npt.NDArray[Any]) -> None:
    """Let a layer have another bias, (G, O); a constant that nobody reads any more is removed."""
    old = bias.op.input(bias.slot)
    before = graph.array(old)
    factor = float(bias.op.attr("beta", 1.0)) if bias.op.is_a("Gemm") else 1.0
    new = (np.asarray(values, np.float64).reshape(-1) / factor).astype(np.float32)
    name = old.name if old is not None else f"{bias.op.output.name}_bias"
    shaped = new if before is None else new.reshape(before.shape)
    graph.set_input(bias.op, bias.slot, graph.add_constant(name, shaped))
    graph.remove_unused([old])


def _own_bias(graph: Graph, op: Op, shape: tuple[int, int]) -> LayerBias | None:
    value: Value | None = op.input(2)
    factor = float(op.attr("beta", 1.0)) if op.is_a("Gemm") else 1.0
    if value is None:
        return None if factor == 0 else LayerBias(op, 2, inside=True, values=np.zeros(shape))
    array = graph.array(value)
    if array is None or factor == 0 or array.size != shape[0] * shape[1] or array.shape[-1:] != (array.size,):
        return None
    return LayerBias(op, 2, inside=True, values=np.asarray(array, np.float64).reshape(shape) * factor)
