"""Bias correction: take out of each layer's bias the mean error that quantizing this layer alone brings in.

Rounding weights and rounding or clipping activations shifts the mean of a layer's outputs, channel by channel; later
layers see that shift as signal. With x the float activations and Q(.) quantized tensors, per output channel

    b' = b - E[conv(Q(x), Q(w)) - conv(x, w)]

(Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019, section 4.2, with
the expectation taken over calibration data.) The layer is fed with *float* activations: each layer corrects what it
adds itself. Fed with quantized ones, all layers would correct the same shift once each, and overshoot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from nncomp.errors import NncompWarning
from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.ops import OpTable
from nncomp.passes import Context
from nncomp.statistics import exposed, observe
from nncomp_quant.plan import QuantPlan
from nncomp_quant.scales import QuantParams
from nncomp_quant.weights import WeightQuantizer


class BiasCorrectionWarning(NncompWarning):
    """Some of the data says nothing of a layer's mean error."""


@dataclass
class MeanVector:
    """Mean of the finite ones among vectors, one a sample; the same bits whatever the order in which they come."""

    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)

    def update(self, array: npt.NDArray[Any]) -> None:
        """Add one sample's vector, (C,), or several stacked along other axes in front."""
        self.vectors.extend(np.array(array, np.float32).reshape(-1, array.shape[-1]))

    def merge(self, other: Self) -> None:
        """Add what ``other`` saw."""
        self.vectors.extend(other.vectors)

    def finite(self) -> list[npt.NDArray[np.float32]]:
        """Return the vectors that are finite: a sample with a NaN, or with no elements, has no mean."""
        return [vector for vector in self.vectors if np.isfinite(vector).all()]

    def mean(self) -> npt.NDArray[np.float64]:
        """Return the mean; sorting first makes the order of summation the data's own."""
        return np.asarray(np.sort(np.stack(self.finite()).astype(np.float64), axis=0).mean(axis=0))


def correct_biases(
    graph: Graph,
    plans: Mapping[Graph, QuantPlan],
    params: Mapping[Value, QuantParams],
    weights: WeightQuantizer,
    ctx: Context,
    *,
    samples: int,
) -> int:
    """Change the float biases of static layers, before quantization is inserted.

    Args:
        graph: A model's own float graph.
        plans: What will be quantized of it and of its bodies.
        params: Scale and zero point by value.
        weights: How weights will be quantized.
        ctx: Gives data, threads and progress.
        samples: Calibration samples to take the mean over.

    Returns:
        How many layers were corrected.
    """
    layers = {op: part for part, plan in plans.items() for op in plan.static if _correctable(op, ctx.ops, part)}
    if not layers or ctx.data is None:
        return 0
    twin, mapping = graph.clone_with_map()
    weights = weights.mapped(mapping)
    twins = dict(zip(graph.graphs(), twin.graphs(), strict=True))
    errors: dict[Op, tuple[Graph, Value]] = {}
    for op, part in layers.items():
        copy, data = mapping[op], plans[part].leader(_data(op))
        assert isinstance(copy, Op)
        errors[op] = twins[part], _add_error_branch(twins[part], copy, params[data], weights, ctx.ops)
    names = {value: value.name for _, value in errors.values()}
    if any(part is not twin for part, _ in errors.values()):
        twin, names = exposed(twin, errors.values())
    found = observe(twin, ctx, list(names.values()), lambda name: MeanVector(), samples=samples)
    means = {op: found[names[value]] for op, (_, value) in errors.items()}
    for op, mean in means.items():
        left_out = len(mean.vectors) - len(mean.finite())
        if left_out:
            what = f"{left_out} of {len(mean.vectors)} samples are NaN, infinite or empty here: "
            then = "the bias is corrected without them" if mean.finite() else "the bias stays as it is"
            ctx.warn(BiasCorrectionWarning(what + then, code="NNC-W034"), node=op.label)
    corrected = {op: mean for op, mean in means.items() if mean.finite()}
    for op, mean in corrected.items():
        shift_bias(layers[op], op, mean.mean(), ctx.ops)
    return len(corrected)


def _correctable(op: Op, ops: OpTable, graph: Graph) -> bool:
    role = ops.quant(op, graph.opsets)
    rank = len(op.output.shape) if op.output.shape is not None else 0
    return role.weight is not None and role.bias is not None and rank >= 2 and role.data[0] == 0


def _data(op: Op) -> Value:
    value = op.inputs[0]
    assert value is not None
    return value


def _add_error_branch(graph: Graph, op: Op, params: QuantParams, weights: WeightQuantizer, ops: OpTable) -> Value:
    """Add E = mean over all but the channel axis of op(Q(x), Q(w)) - op(x, w); return E."""
    role = ops.quant(op, graph.opsets)
    assert role.weight is not None
    weight = op.inputs[role.weight]
    array = graph.array(weight)
    assert weight is not None and array is not None
    name = op.output.name
    scale = graph.add_constant(f"{name}_error_scale", np.array(params.scale, np.float32))
    zero = graph.add_constant(f"{name}_error_zero_point", np.array(params.zero_point))
    codes = graph.add_op("QuantizeLinear", [_data(op), scale, zero], [f"{name}_error_codes"]).output
    rounded = graph.add_op("DequantizeLinear", [codes, scale, zero], [f"{name}_error_x"]).output
    operands = [rounded, *op.inputs[1:]]
    operands[role.weight] = graph.add_constant(f"{name}_error_w", weights.rounded(op, array, role))
    quantized = graph.add_op(op.kind, operands, [(f"{name}_error_y", op.output.type)], attrs=op.attrs).output
    error = graph.add_op("Sub", [quantized, op.output], [(f"{name}_error", op.output.type)]).output
    assert op.output.shape is not None
    axes = [axis for axis in range(len(op.output.shape)) if axis != 1]
    return _reduce_mean(graph, error, axes, f"{name}_error_mean")


def _reduce_mean(graph: Graph, value: Value, axes: list[int], name: str) -> Value:
    type_ = TensorType(DataType.FLOAT, (None,))
    if graph.opsets.get("", 0) >= 18:
        inputs = [value, graph.add_constant(f"{name}_axes", np.array(axes, np.int64))]
        return graph.add_op("ReduceMean", inputs, [(name, type_)], attrs={"keepdims": 0}).output
    return graph.add_op("ReduceMean", [value], [(name, type_)], attrs={"axes": axes, "keepdims": 0}).output


def shift_bias(graph: Graph, op: Op, error: npt.NDArray[np.float64], ops: OpTable) -> None:
    """Take a mean error of each output channel, (C,), out of the bias of a layer; without one it gets one."""
    slot = ops.quant(op, graph.opsets).bias
    assert slot is not None
    old = op.input(slot)
    before = graph.array(old)
    shifted = (0.0 if before is None else before.astype(np.float64)) - error
    hint = old.name if old is not None else f"{op.output.name}_bias"
    graph.set_input(op, slot, graph.add_constant(f"{hint}_corrected", shifted.astype(np.float32)))
    graph.remove_unused([old])
