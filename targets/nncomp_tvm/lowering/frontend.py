"""TVM's own ONNX converters, asked for one op at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from nncomp.ir import Attribute, AttributeType, OptionalType, SequenceType, Tensor
from nncomp.onnx_io.writer import attribute_to_proto
from nncomp_tvm.library import Expr, onnx_frontend, relax
from nncomp_tvm.lowering.calls import Call, NotLoweredError

_TAKES_SHAPES: Final = frozenset(
    {
        "Reshape", "Resize", "ConstantOfShape", "Gather", "Slice", "Shape", "Expand", "Concat", "Equal", "Where",
        "Cast", "CastLike", "Squeeze",
    }
)  # fmt: skip
"""Converters that read a Relax shape where ONNX has a tensor of sizes; all others get the tensor."""


def from_frontend(call: Call) -> Sequence[Expr]:
    """Return what TVM's frontend makes of an op.

    Raises:
        NotLoweredError: it has no converter for it, or the converter fails.
    """
    op = call.op
    converter = onnx_frontend._get_convert_map().get(op.kind) if not op.domain else None
    if converter is None or op.bodies:
        of = f" of {op.domain}" if op.domain else ""
        raise NotLoweredError(f"TVM has nothing for this operator{of}")
    inputs = onnx_frontend.onnx_input(_operand(call, expr) for expr in call.inputs)
    attributes: dict[str, Any] = {name: _attribute(name, attr) for name, attr in op.attrs.items()}
    attributes["tvm_custom"] = {"name": op.name, "num_outputs": len(op.outputs)}
    try:
        function = converter.get_converter(call.opset)
        result = function(call.builder, inputs, attributes, [{}, {}])
        if isinstance(result, relax.Expr):
            result = call.builder.normalize(result)
    except Exception as error:
        raise NotLoweredError(_reason(error)) from error
    return _results(call, result)


def with_tensors(call: Call) -> Call:
    """Return a call whose operands are tensors where Relax has shapes."""
    shapes = [expr is not None and isinstance(expr.ty, relax.ShapeType) for expr in call.inputs]
    if not any(shapes):
        return call
    tensors = [
        call.builder.emit(relax.op.shape_to_tensor(expr)) if is_shape else expr
        for expr, is_shape in zip(call.inputs, shapes, strict=True)
    ]
    return replace(call, inputs=tensors)


def _operand(call: Call, expr: Expr | None) -> Expr | None:
    if expr is None or not isinstance(expr.ty, relax.ShapeType) or call.op.kind in _TAKES_SHAPES:
        return expr
    return call.builder.emit(relax.op.shape_to_tensor(expr))


def _results(call: Call, result: Expr) -> Sequence[Expr]:
    if len(call.op.outputs) == 1 and isinstance(call.op.output.type, OptionalType | SequenceType):
        found = [result]
    elif isinstance(result, relax.Tuple):
        found = list(result.fields)
    elif isinstance(result.ty, relax.TupleType) and call.op.output.tensor_type is not None:
        whole = call.builder.emit(result)
        found = [call.builder.emit(relax.TupleGetItem(whole, place)) for place in range(len(result.ty.fields))]
    else:
        found = [result]
    if len(found) < sum(bool(value.name) for value in call.op.outputs):
        raise NotLoweredError(f"TVM gives {len(found)} of its {len(call.op.outputs)} outputs")
    return found


def _attribute(name: str, attr: Attribute) -> Any:
    """Return an attribute as the frontend reads it: bytes for text, messages for tensors, tuples for lists."""
    value = attr.value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Tensor):
        return attribute_to_proto(name, attr).t
    if attr.type in (AttributeType.STRINGS,):
        assert isinstance(value, tuple)
        return tuple(item.encode() if isinstance(item, str) else item for item in value)
    return value


def _reason(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    text = lines[-1].strip() if lines else type(error).__name__
    return f"TVM's converter fails: {text[:200]}"
