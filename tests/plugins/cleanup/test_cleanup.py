"""cleanup: the passes together."""

import pytest

import nncomp
from nncomp.errors import RecipeError
from nncomp.gate import Gate
from nncomp_cleanup.cleanup import Cleanup

# What torch writes before the classifier of a CNN, with everything else that exporters leave behind.
EXPORTED = """
g (float[N,3,8,8] x) => (float[N,10] y) <float[8,3,3,3] w, float[8] b, float[8,10] v, float[10] z, float[8] unused>
{
   p0 = Constant <value_ints = [0, 0, 0, 0]> ()  c8 = Constant <value = int64[1] {4}> ()
   filler = ConstantOfShape <value = int64[1] {0}> (c8)  pairs = Concat <axis = 0> (p0, filler)
   m = Constant <value_ints = [-1, 2]> ()  grid = Reshape (pairs, m)  turned = Transpose <perm = [1, 0]> (grid)
   flat_shape = Constant <value_ints = [-1]> ()  pads = Reshape (turned, flat_shape)  pads64 = Cast <to = 7> (pads)
   padded = Pad (x, pads64)  c = Conv (padded, w, b)  r = Relu (c)  d, mask = Dropout (r)  i = Identity (d)
   g1 = GlobalAveragePool (i)  s1 = Shape (g1)  zero = Constant <value = int64 {0}> ()  n = Gather (s1, zero)
   axes = Constant <value_ints = [0]> ()  u = Unsqueeze (n, axes)  rest = Constant <value_ints = [-1]> ()
   t = Concat <axis = 0> (u, rest)  flat = Reshape (g1, t)
   yes = Constant <value = bool {1}> ()
   h = If (yes) <
      then_branch = then () => (o1) { o1 = MatMul (flat, v) },
      else_branch = other () => (o2) { o2 = Identity (z) }
   >
   dup1 = Relu (h)  dup2 = Relu (h)  sum = Add (dup1, dup2)  y = Add (sum, z)
}
"""


def test_an_exported_network_is_left_with_what_computes(check):
    found = check(Cleanup(), EXPORTED)
    assert found.kinds == ["Conv", "Relu", "GlobalAveragePool", "Reshape", "MatMul", "Relu", "Add", "Add"]
    assert sorted(value.name for value in found.graph.constants()) == ["b", "flat_shape", "v", "w", "z"]


def test_level_dead_removes_and_changes_nothing_else(check):
    found = check(Cleanup(level="dead"), EXPORTED)
    assert set(found.fired) <= {"remove-op", "remove-constant", "nobody reads output 1"}
    assert "Identity" in found.kinds


def test_level_shapes_leaves_weights_and_branches(check):
    text = """
    g (float[N,4] x) => (float[N,4] y) <float[4,200] a, float[200,4] b, bool yes = {1}>
    {
       t = Transpose (a)  u = Transpose (b)  h = MatMul (x, u)
       y = If (yes) <then_branch = p () => (o) { o = Identity (x) }, else_branch = q () => (r) { r = Neg (x) }>
       z = MatMul (h, t)
    }
    """
    assert "If" in check(Cleanup(level="shapes"), text, feeds=None).kinds


def test_the_gate_holds_it_to_its_bits():
    from nncomp.testing import graph

    before, ctx = graph(EXPORTED), nncomp.Context()
    (record,) = nncomp.Pipeline([Cleanup()], gate=Gate()).run(before, ctx)
    assert record.gate is not None
    assert record.gate.deviation is not None
    assert record.gate.deviation.identical


def test_what_was_declined_is_said_once(check):
    text = """
    g (bool b, float[2] x) => (float[2] y) <float[2] w>
    {
       v = Exp (w)  n = Neg (v)  z = Add (x, n)
       y = If (b) <then_branch = t () => (p) { p = Identity (z) }, else_branch = e () => (q) { q = Neg (z) }>
    }
    """
    found = check(Cleanup(), text)
    assert found.declined.count("its condition is computed") == 1


def test_an_unknown_level_is_refused_in_words():
    with pytest.raises(RecipeError, match=r"cleanup\.level: expected 'dead', 'shapes' or 'all', got 'some'"):
        Cleanup.from_options({"level": "some"})


def test_the_budget_reaches_folding(check):
    text = "g (float[8] x) => (float[8] y) <float[8] w> { e = Exp (w)  y = Add (x, e) }"
    assert check(Cleanup(max_bytes=16), text).kinds == ["Exp", "Add"]
