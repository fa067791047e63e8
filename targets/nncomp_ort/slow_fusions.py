"""Keep ONNX Runtime from a fusion that costs time: SkipLayerNormalization takes three to five times its two parts.

The fusion looks for an Add in front of LayerNormalization. ``Sum`` of two tensors is the same function, with as fast a
kernel, and is left alone.
"""

from __future__ import annotations

from typing import Final

from nncomp.ir import Graph

_SUM_OPSET: Final = 8
"""First opset whose Sum broadcasts."""


def keep_apart(graph: Graph) -> int:
    """Write each Add that LayerNormalization reads as Sum; return how many. Bodies too."""
    count = 0
    for part, op in list(graph.walk()):
        if part.opsets.get("", 0) < _SUM_OPSET or not op.is_a("Add"):
            continue
        if any(user.is_a("LayerNormalization") for user in part.users(op.output)):
            result = part.add_op("Sum", op.inputs, [(f"{op.output.name}_sum", op.output.type)], name=op.name, like=op)
            name = op.output.name
            part.replace_uses(op.output, result.output)
            part.remove(op)
            part.rename(result.output, name)  # no change where it is an output, whose name it took over
            count += 1
    return count
