"""Keep float what was left float: ONNX Runtime would quantize its weights by itself, worse than anybody asked for.

Where a Conv, ConvTranspose or Gemm with float weights stands between a DequantizeLinear and a QuantizeLinear, loading
gives the weights INT8 codes with one scale a tensor, and unpacks them on every run if no integer kernel follows. There
is no switch for it in a model.
"""

from __future__ import annotations

from typing import Final

from nncomp.ir import DataType, Graph, Op

_KINDS: Final = ("Conv", "ConvTranspose", "Gemm")
_LOOKED_THROUGH: Final = ("Relu", "Clip")


def keep_float(graph: Graph) -> int:
    """Put a copy (Concat of one tensor, which nothing removes) in front of each such op; return how many."""
    found = [
        (part, op) for part, op in graph.walk() if op.kind in _KINDS and not op.domain and _would_be_quantized(part, op)
    ]
    for part, op in found:
        source = op.inputs[0]
        assert source is not None
        copy = part.add_op("Concat", [source], [(f"{source.name}_float", source.type)], attrs={"axis": 0})
        part.set_input(op, 0, copy.output)
    return len(found)


def _would_be_quantized(graph: Graph, op: Op) -> bool:
    source, weight = op.inputs[0], graph.constant(op.input(1))
    if source is None or source.producer is None or source.producer.kind != "DequantizeLinear":
        return False
    if weight is None or weight.dtype != DataType.FLOAT:
        return False
    value = op.output
    while graph.single_use(value):
        user = graph.users(value)[0]
        if user.kind not in _LOOKED_THROUGH:
            return user.kind == "QuantizeLinear"
        value = user.output
    return False
