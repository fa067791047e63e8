"""inline-if: the branch that is always taken."""

import numpy as np

from nncomp.testing import graph
from nncomp_cleanup.inline_if import InlineIf

BRANCHES = """
    then_branch = t () => (float[2] p) <float[2] w = {1, 2}> { c = Add (x, w)  p = Mul (c, a) },
    else_branch = e () => (float[2] q) { c = Neg (a)  q = Exp (c) }
"""


def test_the_taken_branch_replaces_the_if(check):
    check(
        InlineIf(),
        f"g (float[2] x) => (float[2] y) <bool b = {{1}}> {{ a = Relu (x)  y = If (b) <{BRANCHES}> }}",
        """
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
        { a = Relu (x)  c = Add (x, w)  y = Mul (c, a) }
        """,
    )


def test_the_other_branch_when_the_condition_is_false(check):
    text = f"g (float[2] x) => (float[2] y) <bool[1] b = {{0}}> {{ a = Relu (x)  y = If (b) <{BRANCHES}> }}"
    assert check(InlineIf(), text).kinds == ["Relu", "Neg", "Exp"]


def test_names_that_are_taken_are_made_free(check):
    text = """
    g (float[2] x) => (float[2] y, float[2] z) <bool b = {1}>
    {
       i = If (b) <then_branch = t () => (p) { h = Neg (x)  p = Exp (h) }, else_branch = e () => (q) { q = Exp (x) }>
       j = If (b) <then_branch = t () => (r) { k = Relu (x)  r = Exp (k) }, else_branch = e () => (s) { s = Exp (x) }>
       y = Neg (i)  z = Abs (j)
    }
    """
    before = graph(text)
    inner = before.ops()[1].bodies["then_branch"]
    inner.rename(inner.find("k"), "h")  # legal: the branches are no part of each other
    found = check(InlineIf(), before)
    assert len({value.name for value in found.graph.values()}) == len(found.graph.values())
    assert found.kinds.count("Exp") == 2


def test_a_branch_may_give_what_it_captures(check):
    text = """
    g (float[2] x) => (float[2] y, float[2] z) <bool b = {1}, float[2] w = {1, 2}>
    {
       y, i, z = If (b) <
          then_branch = t () => (p, q, r) { p = Identity (x)  q = Identity (w)  r = Exp (x) },
          else_branch = e () => (p2, q2, r2) { p2 = Neg (x)  q2 = Neg (x)  r2 = Neg (x) }
       >
    }
    """
    assert sorted(check(InlineIf(), text).kinds) == ["Exp", "Identity"]


def test_an_outer_branch_brings_the_next_if(check):
    text = """
    g (bool k, float[2] x) => (float[2] y) <bool b = {1}, bool n = {0}>
    {
       y = If (b) <
          then_branch = t () => (p)
          {
             i = If (n) <then_branch = tt () => (u) { u = Exp (x) }, else_branch = te () => (v) { v = Neg (x) }>
             p = If (k) <then_branch = kt () => (o) { o = Abs (i) }, else_branch = ke () => (m) { m = Sqrt (i) }>
          },
          else_branch = e () => (q) { q = Relu (x) }
       >
    }
    """
    found = check(InlineIf(), text)
    assert found.kinds == ["Neg", "If", "Abs", "Sqrt"]
    assert found.declined == ["its condition is computed"]


def test_an_if_in_a_loop_is_inlined_there(check):
    text = """
    g (float[2] x) => (float[2] y) <int64 n = {3}, bool go = {1}, bool b = {1}>
    {
       y = Loop (n, go, x) <
          body = body (int64 i, bool c, float[2] s) => (bool c2, float[2] s2)
          {
             c2 = Identity (c)
             s2 = If (b) <then_branch = t () => (p) { p = Add (s, x) }, else_branch = e () => (q) { q = Neg (s) }>
          }
       >
    }
    """
    assert check(InlineIf(), text).kinds == ["Loop", "Identity", "Add"]


def test_a_condition_that_the_caller_may_override_stays(check):
    text = f"""
    g (float[2] x, bool b) => (float[2] y) <bool b = {{1}}> {{ a = Relu (x)  y = If (b) <{BRANCHES}> }}
    """
    feeds = [{"x": np.ones(2, np.float32), "b": np.array(value)} for value in (True, False)]
    assert check(InlineIf(), text, None, feeds=feeds).declined == ["its condition is computed"]


def test_a_branch_that_makes_the_runtime_round_stays(check):
    text = """
    g (float16[2] x) => (float16[2] y) <bool b = {1}>
    {
       i = If (b) <then_branch = t () => (p) { p = Exp (x) }, else_branch = e () => (q) { q = Neg (x) }>
       y = Sin (i)
    }
    """
    assert check(InlineIf(), text, None).declined == ["its border makes ONNX Runtime round to float16"]
