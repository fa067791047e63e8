"""Say an op in simpler ones, where TVM has nothing for it: ONNX's own definition of it, or its loop written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import onnx
import onnx.inliner
from onnx import FunctionProto, ModelProto, TypeProto

from nncomp.ir import Graph, Op, TensorType, Value
from nncomp.onnx_io import graph_from_proto
from nncomp.onnx_io.types import type_to_proto
from nncomp.onnx_io.writer import attribute_to_proto
from nncomp_tvm.lowering.control_flow import unroll_loop, unroll_scan, without_branches
from nncomp_tvm.lowering.definitions import (
    without_batch_statistics,
    without_booleans,
    without_cache_writes,
    without_integer_convolution,
    without_known_absence,
    without_lp_normalization,
    without_random_choice,
    without_reversal,
    without_unpooling,
)
from nncomp_tvm.lowering.quantized import without_codes, without_quantized_kernels
from nncomp_tvm.lowering.recurrent import without_recurrence
from nncomp_tvm.lowering.spectral import without_frames, without_transform

Expansion = Callable[[Graph, Op], "tuple[Value, ...] | None"]
"""Adds what computes the outputs of an op, and returns those; None where it cannot."""

_OWN: Final[Mapping[str, Expansion]] = MappingProxyType(
    {
        "BatchNormalization": without_batch_statistics,
        "ConvInteger": without_integer_convolution,
        "DFT": without_transform,
        "DequantizeLinear": without_codes,
        "Dropout": without_random_choice,
        "If": without_branches,
        "Loop": unroll_loop,
        "LpNormalization": without_lp_normalization,
        "MaxUnpool": without_unpooling,
        "OptionalHasElement": without_known_absence,
        "QuantizeLinear": without_codes,
        "ReduceMax": without_booleans,
        "ReduceMin": without_booleans,
        "ReverseSequence": without_reversal,
        "STFT": without_frames,
        "TensorScatter": without_cache_writes,
        "Scan": unroll_scan,
        "LSTM": without_recurrence,
        "GRU": without_recurrence,
        "RNN": without_recurrence,
        "QLinearConv": without_quantized_kernels,
        "QLinearMatMul": without_quantized_kernels,
    }
)


def expand(graph: Graph, op: Op) -> bool:
    """Replace ``op`` by simpler ones; return whether that was possible."""
    own = _OWN.get(op.kind) if not op.domain else None
    results = own(graph, op) if own is not None else _defined(graph, op)
    if results is None:
        return False
    for old, new in zip(op.outputs, results, strict=False):
        if old.name:
            graph.replace_uses(old, new)
    graph.remove(op)
    graph.remove_unused([*results, *op.inputs])
    return True


def _defined(graph: Graph, op: Op) -> tuple[Value, ...] | None:
    """Say an op as ONNX defines it, where ONNX defines it by other ops."""
    version = graph.opsets.get(op.domain, 1)
    function = _function(op, version)
    if function is None or op.bodies:
        return None
    del function.opset_import[:]
    for domain, number in {**graph.opsets, op.domain: version}.items():
        function.opset_import.add(domain=domain, version=number)
    call = onnx.NodeProto(op_type="Call", domain="nncomp.call")
    function.name, function.domain = call.op_type, call.domain
    call.input.extend("" if value is None else value.name for value in op.inputs)
    call.output.extend(value.name for value in op.outputs)
    call.attribute.extend(attribute_to_proto(name, attr) for name, attr in op.attrs.items())
    call.attribute.extend(_defaults(op, version))
    model = ModelProto(ir_version=10, functions=[function])
    model.opset_import.extend(function.opset_import)
    model.opset_import.add(domain=call.domain, version=1)
    model.graph.name = op.kind
    model.graph.node.append(call)
    given = {value.name: value for value in op.inputs if value is not None}
    for name, value in given.items():
        model.graph.input.add(name=name, type=_type(value))
    model.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in op.outputs if value.name)
    body = graph_from_proto(onnx.inliner.inline_local_functions(model))
    copied = graph.insert_copy(body, {value: given[value.name] for value in body.inputs})
    made = {value.name: copied[value] for value in body.outputs}
    return tuple(made.get(value.name, value) for value in op.outputs)


def _defaults(op: Op, version: int) -> list[onnx.AttributeProto]:
    """Return the attributes that an op leaves at ONNX's defaults: bodies of functions refer to them."""
    schema: Any = onnx.defs.get_schema(op.kind, version, op.domain)
    return [
        one.default_value for name, one in schema.attributes.items() if name not in op.attrs and one.default_value.type
    ]


def _function(op: Op, version: int) -> FunctionProto | None:
    try:
        schema: Any = onnx.defs.get_schema(op.kind, version, op.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        versions = [number for number in schema.function_opset_versions if number <= version]
        if versions:
            return _function_from(schema.get_function_with_opset_version(max(versions)))
    if schema.has_context_dependent_function:
        versions = [number for number in schema.context_dependent_function_opset_versions if number <= version]
        if versions:
            node = onnx.NodeProto(op_type=op.kind, domain=op.domain)
            node.input.extend("" if value is None else value.name for value in op.inputs)
            node.output.extend(value.name for value in op.outputs)
            node.attribute.extend(attribute_to_proto(name, attr) for name, attr in op.attrs.items())
            types = [TypeProto() if value is None else _type(value) for value in op.inputs]
            made = schema.get_context_dependent_function_with_opset_version(
                max(versions), node.SerializeToString(), [one.SerializeToString() for one in types]
            )
            return _function_from(made)
    return None


def _function_from(message: bytes) -> FunctionProto:
    function = FunctionProto()
    function.ParseFromString(message)
    return function


def _type(value: Value) -> TypeProto:
    return type_to_proto(value.type) if isinstance(value.type, TensorType) else TypeProto()
