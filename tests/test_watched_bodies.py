"""Values inside bodies, watched: one tensor each time that they are computed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.runtime import Session, run
from nncomp.statistics import Range, collect, exposed, watchable
from nncomp.testing import graph
from nncomp.verify import verify

NESTED = """
    g (float[N] x, int64 n, bool[1] flip) => (float[N] y)
    <bool yes = {1}>
    {
       y = Loop (n, yes, x) <
          body = body (int64 i, bool go, float[N] a) => (bool on, float[N] b)
          {
             on = Identity (go)
             one = Cast <to = 7> (i)
             two = Cast <to = 9> (one)
             odd = Xor (two, flip)
             [halve] b = If (odd) <
                then_branch = t () => (float[N] c) <float half = {0.5}> { c = Mul (a, half) },
                else_branch = e () => (float[N] d) { d = Add (a, a) }
             >
          }
       >
    }
"""


def inside(g, name):
    """Return the body and the value of that name."""
    return next((part, part.find(name)) for part in g.graphs() if part.has_name(name))


def seen(g, feeds, *names):
    twin, found = exposed(g, [inside(g, name) for name in names])
    verify(twin)
    outputs = list(found.values())
    got = Session(twin, outputs=outputs).run(feeds)
    np.testing.assert_array_equal(run(twin, feeds)[g.outputs[0].name], run(g, feeds)[g.outputs[0].name])
    return [got[name] for name in outputs]


def test_a_branch_tells_what_it_computed_and_the_other_nothing():
    g = graph(
        """
        g (float[2] x, bool c) => (float[2] y)
        { y = If (c) <
             then_branch = t () => (float[2] a) { p = Neg (x) a = Abs (p) },
             else_branch = e () => (float[2] b) { b = Identity (x) }
          > }
        """
    )
    x = np.array([1, -2], np.float32)
    [taken], [output] = seen(g, {"x": x, "c": np.array(True)}, "p", "a")
    np.testing.assert_array_equal(taken, -x)
    np.testing.assert_array_equal(output, abs(x))
    assert seen(g, {"x": x, "c": np.array(False)}, "p", "a") == [[], []]


def test_a_loop_tells_what_it_computed_each_time_whatever_the_shape():
    g = graph(
        """
        g (float[N] x, int64 n) => (float[M] y, float[K,1] z)
        <bool yes = {1}>
        {
           y, z = Loop (n, yes, x) <
              body = body (int64 i, bool go, float[N] a) => (bool on, float[M] b, float[1] s)
              { on = Identity (go) b = Concat <axis = 0> (a, a) s = ReduceMax <keepdims = 1> (b) }
           >
        }
        """
    )
    x = np.array([1, 2], np.float32)
    grown, inner = seen(g, {"x": x, "n": np.array(3)}, "b", "a")
    assert [len(one) for one in grown] == [4, 8, 16]
    assert [len(one) for one in inner] == [2, 4, 8]
    assert seen(g, {"x": x, "n": np.array(0)}, "b") == [[]]


def test_a_loop_that_carries_nothing():
    g = graph(
        """
        g (int64 n, float[2] x) => (float[K,2] z)
        <bool yes = {1}>
        {
           z = Loop (n, yes) <
              body = body (int64 i, bool go) => (bool on, float[2] s) { on = Identity (go) s = Exp (x) }
           >
        }
        """
    )
    x = np.array([0, 1], np.float32)
    assert len(seen(g, {"x": x, "n": np.array(3)}, "s")[0]) == 3


def test_a_scan_gives_all_iterations_stacked():
    g = graph(
        """
        g (float[T,2] x, float[2] s) => (float[2] y, float[T,2] z)
        {
           y, z = Scan (s, x) <
              num_scan_inputs = 1,
              body = body (float[2] state, float[2] one) => (float[2] next, float[2] out)
              { p = Neg (one) next = Add (state, p) out = Abs (p) }
           >
        }
        """
    )
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    [stacked] = seen(g, {"x": x, "s": np.zeros(2, np.float32)}, "p")
    np.testing.assert_array_equal(stacked, -x)


@settings(max_examples=10)
@given(st.integers(0, 5), st.booleans())
def test_an_if_in_a_loop_tells_of_the_iterations_that_took_it(count, flip):
    g = graph(NESTED)
    feeds = {"x": np.ones(1, np.float32), "n": np.array(count), "flip": np.array([flip])}
    values, halved, doubled = 1.0, [], []
    for i in range(count):
        values = values / 2 if bool(i) != flip else values * 2
        (halved if bool(i) != flip else doubled).append(values)
    got = [[float(one[0]) for one in held] for held in seen(g, feeds, "c", "d")]
    assert got == [halved, doubled]


def test_bodies_that_can_be_watched():
    g = graph(NESTED)
    assert [watchable(part) for part in g.graphs()] == [True] * 4
    scan = graph(
        """
        g (float[T,2] x, bool c) => (float[T,2] z)
        {
           z = Scan (x) <
              num_scan_inputs = 1,
              body = body (float[2] one) => (float[2] out)
              { out = If (c) <
                   then_branch = t () => (float[2] a) { a = Neg (one) },
                   else_branch = e () => (float[2] b) { b = Abs (one) }
                > }
           >
        }
        """
    )
    assert [watchable(part) for part in scan.graphs()] == [True, True, False, False]


def test_collecting_counts_each_tensor():
    g = graph(NESTED)
    twin, names = exposed(g, [inside(g, "c"), (g, g.find("y"))])
    data = [
        {"x": np.full(1, 8, np.float32), "n": np.array(n), "flip": np.array([False])} for n in (0, 3, 2)
    ]  # doubled once, then halved
    found = collect(twin, data, list(names.values()), lambda name: Range())
    inner, outer = (found[name] for name in names.values())
    assert (inner.count, inner.low, inner.high) == (3, 4.0, 8.0)
    assert outer.count == 3


@pytest.mark.parametrize("slot", [0, 1, 2])
def test_an_output_is_inserted_anywhere(slot):
    g = graph("g (float[4] x) => (float[2] a, float[2] b) { a, b = Split (x) }")
    op = g.ops()[0]
    made = g.insert_output(op, slot, "new")
    verify(g)
    assert op.outputs[slot] is made
    assert [value.index for value in op.outputs] == [0, 1, 2]
    assert [value.name for value in op.outputs if value is not made] == ["a", "b"]
