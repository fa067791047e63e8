"""Quantization that needs no data: dynamic INT8 matrix products, and INT8 embedding tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.ir import DataType, Graph, Op, Scratch, Value
from nncomp_quant.insert import frozen, require_finite
from nncomp_quant.plan import QuantPlan
from nncomp_quant.scales import FloatArray, chunks, pair_safe_scale, quantize_weight


def insert_dynamic(graph: Graph, plan: QuantPlan, scratch: Scratch, *, pair_safe: bool = True) -> None:
    """Rewrite the plan's matrix products and tables; what is large is kept in ``scratch``."""
    activations: dict[Value, tuple[Value, Value, Value]] = {}
    weights: dict[tuple[Value, bool], tuple[Value, Value]] = {}
    for op in plan.dynamic:
        _dynamic_matmul(graph, op, activations, weights, pair_safe=pair_safe)
    tables: dict[Value, tuple[Value, Value]] = {}
    for op in plan.tables:
        quantize_table(graph, op, tables, scratch)


def _dynamic_matmul(
    graph: Graph,
    op: Op,
    activations: dict[Value, tuple[Value, Value, Value]],
    weights: dict[tuple[Value, bool], tuple[Value, Value]],
    *,
    pair_safe: bool,
) -> None:
    """MatMul(x, W) -> Cast(MatMulInteger(q(x), q(W))) * (s_x * s_W), W (K, N) with one scale a column.

    Gemm(x, W, b) likewise, and then + b; with transB, what is written is W^T.

    ONNX Runtime fuses this form into DynamicQuantizeMatMul or, where several products share x, MatMulIntegerToFloat.
    """
    x, weight, bias = *op.inputs[:2], op.input(2)
    assert x is not None and weight is not None
    if x not in activations:
        quantize = graph.add_op(
            "DynamicQuantizeLinear",
            [x],
            [f"{x.name}_quantized", f"{x.name}_scale", f"{x.name}_zero_point"],
            name=f"{x.name}_DynamicQuantizeLinear",
        )
        activations[x] = (quantize.outputs[0], quantize.outputs[1], quantize.outputs[2])
    codes, scale, zero = activations[x]
    key = weight, bool(op.attr("transB", 0))
    if key not in weights:
        array = graph.array(weight)
        assert array is not None
        array = array.T if key[1] else array
        require_finite(array, weight.name, op)
        quantized, scales = quantize_weight(array, 1, scale=pair_safe_scale(array, 1) if pair_safe else None)
        weights[key] = (
            graph.add_constant(f"{weight.name}_quantized", frozen(quantized)),
            graph.add_constant(f"{weight.name}_scale", frozen(scales)),
        )
    weight_codes, weight_scale = weights[key]
    name = op.output.name
    sums = graph.add_op("MatMulInteger", [codes, weight_codes, zero], [f"{name}_sums"], name=f"{op.label}_integer")
    real = graph.add_op("Cast", [sums.output], [f"{name}_cast"], attrs={"to": DataType.FLOAT.value})
    unit = graph.add_op("Mul", [scale, weight_scale], [f"{name}_unit"])
    result = graph.add_op(
        "Mul", [real.output, unit.output], [(f"{name}_scaled", op.output.type)], name=f"{op.label}_scaled", like=op
    )
    if bias is not None:
        result = graph.add_op(
            "Add", [result.output, bias], [(f"{name}_biased", op.output.type)], name=f"{op.label}_biased", like=op
        )
    replace_op(graph, op, result.output)


def quantize_table(graph: Graph, op: Op, tables: dict[Value, tuple[Value, Value]], scratch: Scratch) -> None:
    """Gather(T, i) -> Cast(Gather(q(T), i)) * Gather(s, i), T (V, D) with one scale a row.

    Rows of an embedding differ in size far more than its columns do, so the scale is gathered along.
    """
    table, index = op.inputs
    assert table is not None and index is not None
    if table not in tables:
        codes, scale = _quantized_rows(graph, table, op)
        tables[table] = (
            graph.add_constant(f"{table.name}_quantized", scratch.keep(frozen(codes))),
            graph.add_constant(f"{table.name}_scale", scratch.keep(frozen(scale))),
        )
    codes_value, scale_value = tables[table]
    name = op.output.name
    rows = graph.add_op("Gather", [codes_value, index], [f"{name}_codes"], name=f"{op.label}_int8")
    scales = graph.add_op("Gather", [scale_value, index], [f"{name}_scales"])
    real = graph.add_op("Cast", [rows.output], [f"{name}_cast"], attrs={"to": DataType.FLOAT.value})
    result = graph.add_op("Mul", [real.output, scales.output], [(f"{name}_scaled", op.output.type)], like=op)
    replace_op(graph, op, result.output)


def _quantized_rows(graph: Graph, table: Value, op: Op) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Return codes (V, D) and scales (V, 1), a few rows at a time: tables are the largest tensors there are."""

    def read() -> npt.NDArray[Any]:
        array = graph.array(table)
        assert array is not None
        return array

    shape = read().shape
    codes, scale = np.empty(shape, np.int8), np.empty((shape[0], 1), np.float32)
    for start, rows in chunks(read):
        require_finite(rows, table.name, op)
        stop = start + len(rows)
        codes[start:stop], scale[start:stop, 0] = quantize_weight(rows, 0)
    return codes, scale


def replace_op(graph: Graph, op: Op, result: Value) -> None:
    """Let ``result`` stand for the output of ``op``, which goes; it takes over the name."""
    old = op.output
    name = old.name
    graph.replace_uses(old, result)
    graph.remove_unused([old])
    if not graph.has_name(name):
        graph.rename(result, name)
