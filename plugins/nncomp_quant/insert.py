"""Write a plan into the graph: QuantizeLinear/DequantizeLinear pairs, INT8 weights, INT32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError, Where
from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.ops import OpTable, QuantRole
from nncomp_quant.plan import QuantPlan
from nncomp_quant.scales import FloatArray, QuantParams, activation_params, quantize_weight, without_weight
from nncomp_quant.weights import WeightQuantizer

_INT32_MAX = 2**31 - 1
_BIAS_MAX = 2**30
"""Largest bias code: the rest of INT32 is for the sum that it is added to, 255 x 127 a product."""


class Inserter:
    """Inserts QDQ for one plan; parameters that several ops need are written once.

    Args:
        graph: The graph that the plan was made for.
        ops: Roles.
        plan: What to quantize.
        params: Scale and zero point of each value of the plan that follows no other.
        weights: How weights are quantized.
    """

    def __init__(
        self,
        graph: Graph,
        ops: OpTable,
        plan: QuantPlan,
        params: Mapping[Value, QuantParams],
        weights: WeightQuantizer,
    ) -> None:
        self.graph, self.ops, self.plan, self.params = graph, ops, plan, params
        self.weights = weights
        self._dequantized: dict[Value, Value] = {}
        self._scalars: dict[Value, tuple[Value, Value]] = {}
        self._weights: dict[tuple[Value, int | None, int], tuple[Value, FloatArray]] = {}
        self._static = set(plan.static)

    def run(self) -> None:
        """Insert everything."""
        # Constant operands first: their scales need values by the names that they have now.
        for op in self.plan.static:
            role = self.ops.quant(op, self.graph.opsets)
            if role.weight is not None:
                self._quantize_weight_and_bias(op, role)
            else:
                self._quantize_constants(op, role)
        for value in self.plan.scaled:
            self._pair(value)

    def scales(self) -> dict[Value, Value]:
        """Return the scale of each value that has one of its own."""
        return {value: scale for value, (scale, _) in self._scalars.items()}

    def _pair(self, value: Value) -> None:
        graph = self.graph
        name = value.name
        scale, zero = self._scale_of(value)
        quantize = graph.add_op(
            "QuantizeLinear", [value, scale, zero], [f"{name}_quantized"], name=f"{name}_QuantizeLinear"
        )
        dequantize = graph.add_op(
            "DequantizeLinear",
            [quantize.output, scale, zero],
            [(f"{name}_dequantized", value.type)],
            name=f"{name}_DequantizeLinear",
        )
        if value in self.plan.integer:
            graph.replace_uses(value, dequantize.output)
            graph.set_input(quantize, 0, value)
        else:
            graph.replace_uses(value, dequantize.output, keep=lambda use: use.op not in self._static)

    def _scale_of(self, value: Value) -> tuple[Value, Value]:
        leader = self.plan.leader(value)
        if leader not in self._scalars:
            params = self.params[leader]
            self._scalars[leader] = (
                self.graph.add_constant(f"{leader.name}_scale", frozen(np.array(params.scale, np.float32))),
                self.graph.add_constant(f"{leader.name}_zero_point", frozen(np.array(params.zero_point))),
            )
        return self._scalars[leader]

    def _quantize_weight_and_bias(self, op: Op, role: QuantRole) -> None:
        assert role.weight is not None
        weight = op.inputs[role.weight]
        bias = op.input(role.bias) if role.bias is not None else None
        data = op.inputs[role.data[0]]
        assert weight is not None and data is not None
        input_scale = self.params[self.plan.leader(data)].scale
        dequantized, scale = self._quantized_weight(op, role, weight, bias, input_scale)
        self.graph.set_input(op, role.weight, dequantized)
        if bias is not None and role.bias is not None:
            self.graph.set_input(op, role.bias, self._quantized_bias(op, bias, input_scale, scale))
        self.graph.remove_unused([weight, bias])

    def _quantized_weight(
        self, op: Op, role: QuantRole, weight: Value, bias: Value | None, input_scale: np.float32
    ) -> tuple[Value, FloatArray]:
        array = self.graph.array(weight)
        assert array is not None
        require_finite(array, weight.name, op)
        axis = self.weights.axis(op, role)
        bits = self.weights.bits(op)
        key = (weight, axis, bits)
        scale = self.weights.scale(op, array, role)
        if bias is not None:
            widened = _room_for_bias(scale, without_weight(array, axis), self.graph.array(bias), input_scale)
            if not np.array_equal(widened, scale):
                return self._write_weight(weight, array, axis, widened, bits), widened
        if key not in self._weights:
            self._weights[key] = (self._write_weight(weight, array, axis, scale, bits), scale)
        return self._weights[key]

    def _write_weight(
        self, weight: Value, array: npt.NDArray[Any], axis: int | None, scale: FloatArray, bits: int
    ) -> Value:
        codes, scale = quantize_weight(array, axis, bits=bits, scale=scale)
        dtype = (DataType.INT4 if bits == 4 else DataType.INT8).numpy()
        return self._dequantized_constant(weight, codes.astype(dtype), scale, np.zeros(scale.shape, dtype), axis=axis)

    def _dequantized_constant(
        self,
        value: Value,
        codes: npt.NDArray[Any],
        scale: npt.NDArray[Any],
        zero_point: npt.NDArray[Any],
        *,
        axis: int | None = None,
    ) -> Value:
        """Add integers that stand for the constant ``value``, and the DequantizeLinear that reads them."""
        names = ("quantized", "scale", "zero_point")
        inputs = [
            self.graph.add_constant(f"{value.name}_{name}", frozen(array))
            for name, array in zip(names, (codes, scale, zero_point), strict=True)
        ]
        return self.graph.add_op(
            "DequantizeLinear",
            inputs,
            [(f"{value.name}_dequantized", TensorType(DataType.FLOAT, codes.shape))],
            attrs={"axis": axis},
            name=f"{value.name}_DequantizeLinear",
        ).output

    def _quantized_bias(self, op: Op, bias: Value, input_scale: np.float32, scale: FloatArray) -> Value:
        array = self.graph.array(bias)
        assert array is not None
        require_finite(array, bias.name, op)
        # The kernel adds the bias to the integer sum, whose unit is input scale times weight scale: it must be that.
        unit = np.asarray(np.float32(input_scale) * scale, np.float32)
        array = array.reshape(-1) if array.size > 1 or not unit.ndim else np.broadcast_to(array.reshape(()), unit.shape)
        codes = np.clip(np.rint(array.astype(np.float64) / unit), -_INT32_MAX, _INT32_MAX).astype(np.int32)
        zero_point = np.zeros(unit.shape, np.int32)
        return self._dequantized_constant(bias, codes, unit, zero_point, axis=0 if unit.ndim == 1 else None)

    def _quantize_constants(self, op: Op, role: QuantRole) -> None:
        slots = range(len(op.inputs)) if role.variadic else role.data
        for slot in slots:
            value = op.input(slot)
            array = self.graph.array(value)
            if value is None or array is None or array.dtype != np.float32:
                continue
            if value not in self._dequantized:
                self._dequantized[value] = self._write_activation_constant(value, array)
            self.graph.set_input(op, slot, self._dequantized[value])

    def _write_activation_constant(self, value: Value, array: npt.NDArray[Any]) -> Value:
        dtype = self.plan.code_type(value).numpy()
        params = activation_params(float(array.min(initial=0)), float(array.max(initial=0)), dtype)
        return self._dequantized_constant(
            value, params.codes(array), np.array(params.scale), np.array(params.zero_point)
        )


def require_finite(array: npt.NDArray[Any], name: str, op: Op, *, by: str = "quantize") -> None:
    """Refuse a weight that no scale can carry, on behalf of the pass ``by``.

    Raises:
        UnsupportedError: NaN or infinity (NNC-M053).
    """
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise UnsupportedError(
            f"weight {name!r} of {op.label!r} holds {bad} NaN or infinite values",
            code="NNC-M053",
            where=Where(node=op.label, tensor=name),
            hint=f'leave the op in float: {by}{{skip=["{op.label}"]}}',
        )


def _room_for_bias(
    scale: FloatArray, empty: npt.NDArray[np.bool_], bias: npt.NDArray[Any] | None, input_scale: np.float32
) -> FloatArray:
    """Return weight scales wide enough that the bias fits INT32: tiny weights beside a large bias would overflow.

    ``empty`` slices hold no weight: the bias alone needs their scale, which is as fine as it can be.
    """
    if bias is None:
        return scale
    peak = np.abs(bias.astype(np.float64)).reshape(-1)
    lowest = np.maximum(peak / _BIAS_MAX, float(np.finfo(np.float32).tiny)) / float(input_scale)
    lowest = lowest if scale.ndim == 1 else lowest.max(initial=0.0)
    widened = np.where(empty & (peak > 0 if scale.ndim == 1 else peak.any()), lowest, np.maximum(scale, lowest))
    return np.asarray(widened, np.float32)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return ``array``, read-only from now on, as data of constants is."""
    array = np.asarray(array)  # arithmetic on an array without axes gives a scalar
    array.flags.writeable = False
    return array
