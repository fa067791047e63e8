"""Keep ONNX Runtime from fusions that cost time.

SkipLayerNormalization takes three to five times its two parts. A MatMul of integers with an Add behind it becomes Gemm,
where shapes are known, and is then computed in float: Gemm has an integer kernel for an integer bias only.

Both fusions look for an Add. ``Sum`` of two tensors is the same function, with as fast a kernel, and is left alone.
"""

from __future__ import annotations

from typing import Final

from nncomp.ir import Graph, Value

_SUM_OPSET: Final = 8
"""First opset whose Sum broadcasts."""


def keep_apart(graph: Graph) -> int:
    """Write Adds in front of LayerNormalization, and behind integer MatMuls, as Sum; return how many. Bodies too."""
    count = 0
    for part, op in list(graph.walk()):
        if part.opsets.get("", 0) < _SUM_OPSET or not op.is_a("Add"):
            continue
        if any(user.is_a("LayerNormalization") for user in part.users(op.output)) or any(map(_of_integers, op.inputs)):
            result = part.add_op("Sum", op.inputs, [(f"{op.output.name}_sum", op.output.type)], name=op.name, like=op)
            name = op.output.name
            part.replace_uses(op.output, result.output)
            part.remove(op)
            part.rename(result.output, name)  # no change where it is an output, whose name it took over
            count += 1
    return count


def _of_integers(value: Value | None) -> bool:
    """Tell whether ``value`` is a product of dequantized tensors."""
    product = value.producer if value is not None else None
    if product is None or not product.is_a("MatMul"):
        return False
    makers = [operand.producer if operand is not None else None for operand in product.inputs]
    return all(maker is not None and maker.is_a("DequantizeLinear") for maker in makers)
