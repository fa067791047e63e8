"""ONNX's reference evaluator as a second opinion: kernels that share nothing with those of ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy.typing as npt
from onnx.reference import ReferenceEvaluator

from nncomp.gate import compare
from nncomp.ir import DataType, Graph, TensorType
from nncomp.onnx_io import graph_to_proto
from nncomp.testing import builders

LIMIT: Final = 1e-4
"""Relative. Exact passes stay below it, too, and not at 0: constants are folded with ONNX Runtime's kernels."""

_NARROW: Final = frozenset({DataType.FLOAT16, DataType.BFLOAT16})


def assert_same_on_reference(
    before: Graph, after: Graph, *, feeds: Mapping[str, npt.NDArray[Any]] | None = None
) -> bool:
    """Assert that the reference evaluator gives the same outputs for both graphs, to 1e-4 relative.

    Args:
        before: A model's own graph, with types inferred.
        after: What a pass without loss made of it.
        feeds: Inputs; default: random ones.

    Returns:
        False when the evaluator has no opinion: it does not run ``before``, or there are 16-bit floats, which it rounds
        elsewhere than a fused op does.

    Raises:
        AssertionError: the outputs differ, or ``after`` does not run.
    """
    types = [value.type for graph in (before, after) for value in graph.values()]
    if any(isinstance(one, TensorType) and one.dtype in _NARROW for one in types):
        return False
    inputs = builders.feeds(before) if feeds is None else feeds
    try:
        expected = _outputs(before, inputs)
    except Exception:  # noqa: BLE001  it raises whatever numpy does where it has no kernel
        return False
    deviation = compare([expected], [_outputs(after, inputs)])
    assert deviation.relative <= LIMIT, f"the reference evaluator sees another function: {deviation}"
    return True


def _outputs(graph: Graph, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    evaluator = ReferenceEvaluator(graph_to_proto(graph))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of overflows that ONNX Runtime does not mention
        found = evaluator.run(None, dict(feeds))
    return dict(zip(evaluator.output_names, found, strict=True))
