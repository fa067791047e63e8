"""LSTM with INT8 weights: activations and state are quantized at run time, step by step; no calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, Scratch, Value
from nncomp_quant.insert import frozen, require_finite
from nncomp_quant.plan import QuantPlan
from nncomp_quant.scales import FloatArray, pair_safe_scale, quantize_weight

_INPUTS = 8  # X, W, R, B, sequence_lens, initial_h, initial_c, P


def insert_recurrent(graph: Graph, plan: QuantPlan, scratch: Scratch, *, pair_safe: bool = True) -> None:
    """Rewrite the plan's recurrent layers."""
    for op in plan.recurrent:
        _dynamic_lstm(graph, op, scratch, pair_safe=pair_safe)


def _dynamic_lstm(graph: Graph, op: Op, scratch: Scratch, *, pair_safe: bool) -> None:
    """LSTM(x, W, R, ...) -> DynamicQuantizeLSTM(x, q(W)^T, q(R)^T, ..., scales and zero points).

    W (directions, 4 * hidden, inputs) is stored as (directions, inputs, 4 * hidden), with one scale a gate and unit,
    (directions, 4 * hidden); R likewise.
    """
    graph.import_opset("com.microsoft", 1)
    codes: dict[int, Value] = {}
    scales: list[Value] = []
    for slot in (1, 2):
        weight = op.inputs[slot]
        array = graph.array(weight)
        assert weight is not None and array is not None
        require_finite(array, weight.name, op)
        quantized, scale = _quantized(array, pair_safe=pair_safe)
        codes[slot] = graph.add_constant(f"{weight.name}_quantized", scratch.keep(frozen(quantized)))
        scales.append(graph.add_constant(f"{weight.name}_scale", frozen(scale)))
        scales.append(graph.add_constant(f"{weight.name}_zero_point", frozen(np.zeros(scale.shape, np.int8))))
    inputs = [codes.get(slot, op.input(slot)) for slot in range(_INPUTS)]
    outputs = [(value.name and f"{value.name}_int8", value.type) for value in op.outputs]
    result = graph.add_op(
        "DynamicQuantizeLSTM", [*inputs, *scales], outputs, attrs=op.attrs, domain="com.microsoft", like=op
    )
    _replace_all(graph, op, result)


def _quantized(weight: npt.NDArray[Any], *, pair_safe: bool) -> tuple[npt.NDArray[np.int8], FloatArray]:
    codes, scales = [], []
    for direction in weight:
        found, scale = quantize_weight(direction, 0, scale=pair_safe_scale(direction, 0) if pair_safe else None)
        codes.append(found.T)
        scales.append(scale)
    return np.stack(codes), np.stack(scales)


def _replace_all(graph: Graph, op: Op, result: Op) -> None:
    names = [value.name for value in op.outputs]
    for old, new in zip(op.outputs, result.outputs, strict=True):
        if old.name:
            graph.replace_uses(old, new)
    graph.remove_unused(op.outputs[:1] if op.outputs[0].name else [value for value in op.outputs if value.name][:1])
    for name, new in zip(names, result.outputs, strict=True):
        if name and new.name and not graph.has_name(name):
            graph.rename(new, name)
