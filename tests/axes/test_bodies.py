"""Bodies of control-flow ops: captured labels go in, what both branches or all iterations share comes out."""

import numpy as np

from nncomp.axes import analyse, remove_checked
from nncomp.gate import Gate
from nncomp.ir import Graph
from nncomp.testing import graph

BRANCHES = """
g (float[2,3] x, bool c) => (float[2,5] y) <float[3,8] w1, float[8,5] w2>
{
   h = MatMul (x, w1)
   m = If (c) <
      then_branch = t () => (float[2,8] a) { a = Relu (h) },
      else_branch = e () => (float[2,8] b) { k = Constant <value = float {2.0}> () b = Mul (h, k) }
   >
   y = MatMul (m, w2)
}
"""
INSIDE = """
g (float[2,3] x, bool c) => (float[2,5] y)
{
   y = If (c) <
      then_branch = t () => (float[2,5] a) <float[3,8] w1, float[8,5] w2>
         { h = MatMul (x, w1) r = Relu (h) a = MatMul (r, w2) },
      else_branch = e () => (float[2,5] b) <float[3,5] w3> { b = MatMul (x, w3) }
   >
}
"""
LOOP = """
g (float[2,3] x) => (float[2,5] y) <float[3,8] w1, float[8,8] w2, float[8,5] w3, int64 n = {3}, bool on = {1}>
{
   h = MatMul (x, w1)
   m = Loop (n, on, h) <
      body = b (int64 i, bool c, float[2,8] s) => (bool d, float[2,8] t)
         { d = Identity (c) u = MatMul (s, w2) t = Tanh (u) }
   >
   y = MatMul (m, w3)
}
"""


def held(model: Graph, count: int, *, condition: bool | None = None) -> Graph:
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)}
    if condition is not None:
        feeds["c"] = np.array(condition)
    found = analyse(model)
    (one,) = found.dimensions
    assert len(one) == count
    deviation = remove_checked(found, one.atoms[1::2], Gate([feeds]))
    assert deviation is not None
    return model


def test_labels_go_through_both_branches() -> None:
    for condition in (True, False):
        assert held(graph(BRANCHES), 8, condition=condition).find("w1").shape == (3, 4)


def test_weights_inside_a_branch_can_go() -> None:
    for condition in (True, False):
        held(graph(INSIDE), 8, condition=condition)


def test_what_a_loop_carries_is_one_dimension() -> None:
    assert held(graph(LOOP), 8).find("w2").shape == (4, 4)
