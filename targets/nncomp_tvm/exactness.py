"""What a graph's last operators give, computed in float64.

ONNX Runtime rounds, too: its sigmoid of -11 is 1.672e-5 instead of 1.670e-5, and of -20 it is 0. Where all outputs are
as small, a build that is nearer to the truth lies far from ONNX Runtime's result. What comes behind the last product is
cheap to compute exactly, from what ONNX Runtime has there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from nncomp.ir import Graph, Op, Value
from nncomp.onnx_io import graph_to_proto
from nncomp.ops import Role, builtin_table
from nncomp.runtime import Feeds, RuntimeFailure, Session

Array = npt.NDArray[Any]

_MULTIPLYING: Final = frozenset({Role.COMPUTE, Role.BARRIER})


def exactly(graph: Graph, feeds: Feeds, name: str, *, optimize: bool = False) -> Array | None:
    """Return an output as its last operators give it in float64, rounded once; from what ONNX Runtime has before them.

    Args:
        graph: A model's own graph.
        feeds: Its inputs.
        name: An output, of floats.
        optimize: Let ONNX Runtime rewrite what comes before.

    Returns:
        The array, None where the output is no tensor of floats, is a product's, or cannot be computed so.
    """
    output = graph.find(name)
    tail = _tail(graph, output)
    if not tail or output.tensor_type is None or not output.tensor_type.dtype.is_floating_point():
        return None
    piece = graph.extract(tail, [output])
    fed = {value.name: feeds[value.name] for value in piece.inputs if value.name in feeds}
    inner = [value.name for value in piece.inputs if value.name not in fed]
    try:
        captured = Session(graph, outputs=inner, optimize=optimize).run(feeds) if inner else {}
        found = _evaluated(piece, {**fed, **captured})
    except RuntimeFailure:
        return None
    return found.astype(output.tensor_type.dtype.numpy())


def _tail(graph: Graph, output: Value) -> list[Op]:
    """Return the operators behind products and conversions, in order."""
    table, taken, waiting = builtin_table(), set[Op](), [output]
    while waiting:
        op = waiting.pop().producer
        if op is None or op in taken or op.bodies or table.quant(op, graph.opsets).role in _MULTIPLYING:
            continue
        taken.add(op)
        waiting.extend(value for value in op.inputs if value is not None)
    return [op for op in graph.ops() if op in taken]


def _evaluated(piece: Graph, feeds: Feeds) -> Array:
    model = graph_to_proto(piece)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(_wide(numpy_helper.to_array(tensor)), tensor.name))
    try:
        with np.errstate(all="ignore"):
            (found,) = ReferenceEvaluator(model).run(None, {name: _wide(array) for name, array in feeds.items()})
    except Exception as error:  # it raises whatever numpy does where it has no kernel
        raise RuntimeFailure(f"onnx's evaluator does not run it: {error}") from error
    return np.asarray(found)


def _wide(value: Any) -> Array:
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind in "fV" else array
