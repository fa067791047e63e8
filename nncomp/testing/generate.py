"""Hypothesis strategies for graphs that are valid by construction, with the oddities that exporters leave behind.

For testing passes, ours and plugin authors'::

    @given(graphs())
    def test_my_pass(graph):
        assert_lawful(MyPass(), graph)

Every value has a static shape, so any step may follow any other. Weights may be shared, values read many times or given
out in the middle of a pattern, nodes have no names, optional inputs are skipped, constants hide behind Constant,
Identity and ConstantOfShape, inputs have defaults, branches capture, axes may be empty. Needs the package hypothesis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nncomp.ir import DataType, Graph
from nncomp.testing.growing import Builder, Draw, st
from nncomp.testing.steps import STEPS

OPSETS: Final = (7, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23, 24, 26)
FLOATS: Final = (DataType.FLOAT, DataType.FLOAT, DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE)

MIX: Final = (
    "unary", "unary", "binary", "binary", "neutral", "clip", "hard_swish", "matmul", "gemm", "conv", "conv",
    "batchnorm", "pad", "pool", "concat", "split", "transpose", "transpose", "reshape", "reshape", "unsqueeze",
    "reduce", "cut", "resize", "cast", "branch", "tap",
)  # fmt: skip
"""Steps to draw from, by their names in :mod:`nncomp.testing.steps`; what stands twice comes twice as often."""


@st.composite
def graphs(
    draw: Draw,
    *,
    opsets: Sequence[int] = OPSETS,
    dtypes: Sequence[DataType] = FLOATS,
    max_ops: int = 12,
    steps: Sequence[str] = (),
) -> Graph:
    """Return a strategy of graphs for :func:`nncomp.testing.feeds`; ONNX Runtime runs nearly all, see ``lawful.runs``.

    Args:
        draw: Given by hypothesis.
        opsets: Versions of ONNX's own opset to draw from, 7 to 26.
        dtypes: Element types to draw from; repeat what should come more often.
        max_ops: Most steps of a graph; a step adds one to six ops.
        steps: Names of steps to draw from; default: all, in a mix that models are made of.
    """
    builder = Builder(draw, draw(st.sampled_from(list(opsets))), draw(st.sampled_from(list(dtypes))))
    chosen = [STEPS[name] for name in steps or MIX]
    for step in draw(st.lists(st.sampled_from(chosen), min_size=1, max_size=max_ops)):
        step(builder)
    return builder.finished()
