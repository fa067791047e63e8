"""simplify-shapes: computed targets of Reshape, and the sizes for which a constant would not mean the same."""

import numpy as np
import pytest

import nncomp
from nncomp.errors import NncompError
from nncomp.runtime import run
from nncomp.testing import assert_same_function, graph
from nncomp_cleanup.reshape_target import reshape_target
from nncomp_cleanup.simplify_shapes import SimplifyShapes

INTS = """int64 zero = {0}, int64 one = {1}, int64[1] axis0 = {0}, int64[1] end1 = {1}, int64[1] end2 = {2},
    int64[1] rest = {-1}, int64[1] six = {6}, int64[1] two = {2}, int64 twelve = {12}"""


def target_of(graph):
    return next(graph.array(op.inputs[1]).tolist() for op in graph.ops() if op.kind == "Reshape")


def test_the_way_in_which_exporters_flatten(check):
    found = check(
        SimplifyShapes(),
        """
        g (float[N,3,1,1] x) => (float[N,3] y) <int64 zero = {0}, int64[1] axis0 = {0}, int64[1] rest = {-1}>
        {
           s = Shape (x)  n = Gather (s, zero)  u = Unsqueeze (n, axis0)  t = Concat <axis = 0> (u, rest)
           y = Reshape (x, t)
        }
        """,
        "g (float[N,3,1,1] x) => (float[N,3] y) <int64[2] y_shape = {0, -1}> { y = Reshape (x, y_shape) }",
    )
    assert found.fired == ["simplify-shapes"]


@pytest.mark.parametrize(
    ("x", "chain", "target"),
    [
        ("N,3,2", "n = Slice (s, axis0, end1)  t = Concat <axis = 0> (n, six)", [0, 6]),
        ("N,S,6", "n = Slice (s, axis0, end2)  t = Concat <axis = 0> (n, two, rest)", [0, 0, 2, -1]),
        ("2,3,N", "n = Slice (s, axis0, end2)  t = Concat <axis = 0> (n, rest)", [2, 3, -1]),
        ("N,4", "n = Gather (s, axis0)  m = Add (n, zero)  t = Concat <axis = 0> (m, two, two)", [0, 2, 2]),
        ("N,12", "n = Gather (s, axis0)  m = Mul (n, two)  t = Concat <axis = 0> (m, six)", [-1, 6]),
        ("N,12", "n = Gather (s, end1)  m = Div (n, two)  t = Concat <axis = 0> (rest, m)", [-1, 6]),
    ],
)
def test_targets(check, x, chain, target):
    text = f"g (float[{x}] x) => (y) <{INTS}> {{ s = Shape (x)  {chain}  y = Reshape (x, t) }}"
    assert target_of(check(SimplifyShapes(), text).graph) == target


def test_one_open_entry_follows_from_the_others(check):
    text = """
    g (float[S,2] x, int64[1] k) => (float[a,2] y) <int64[1] two = {2}>
    { k2 = Abs (k)  t = Concat <axis = 0> (k2, two)  y = Reshape (x, t) }
    """
    feeds = [{"x": np.ones((size, 2), np.float32), "k": np.array([given])} for size, given in ((3, 3), (3, -3), (0, 0))]
    found = check(SimplifyShapes(), text, feeds=feeds)
    assert target_of(found.graph) == [-1, 2]


def test_one_open_entry_does_not_follow_beside_a_size_that_may_be_zero(check):
    text = """
    g (float[N,4] x, int64[1] k) => (float[N,b] y) <int64[1] axis0 = {0}, int64[1] end1 = {1}>
    { s = Shape (x)  n = Slice (s, axis0, end1)  t = Concat <axis = 0> (n, k)  y = Reshape (x, t) }
    """
    feeds = [{"x": np.ones((size, 4), np.float32), "k": np.array([4])} for size in (2, 0)]
    found = check(SimplifyShapes(), text, None, feeds=feeds)
    assert found.declined == ["entry 1 of its target does not follow from the others, of which one may be 0"]


def test_a_dimension_of_another_value_is_no_copy(check):
    text = """
    g (float[S,4] x, float[N,2] z) => (float[a,b] y) <int64[1] axis0 = {0}, int64[1] end1 = {1}, int64[1] rest = {-1}>
    { s = Shape (z)  n = Slice (s, axis0, end1)  t = Concat <axis = 0> (n, rest)  y = Reshape (x, t) }
    """
    feeds = [{"x": np.ones((4, 4), np.float32), "z": np.ones((2, 2), np.float32)}]
    found = check(SimplifyShapes(), text, None, feeds=feeds)
    assert found.declined == ["entry 0 of its target does not follow from the others, of which one may be 0"]


def test_a_dimension_at_another_place_is_no_copy(check):
    text = """
    g (float[N,S] x) => (float[S,N] y) <int64 zero = {0}, int64 one = {1}, int64[1] axis0 = {0}>
    {
       s = Shape (x)  n = Gather (s, zero)  m = Gather (s, one)  u = Unsqueeze (n, axis0)  v = Unsqueeze (m, axis0)
       t = Concat <axis = 0> (v, u)  y = Reshape (x, t)
    }
    """
    found = check(SimplifyShapes(), text, None)
    assert found.declined == ["entries [0, 1] of its target are known only when the model runs"]


def test_a_target_that_is_computed_from_data_stays(check):
    text = "g (float[2,3] x, float[2] f) => (float[a,b] y) { t = Cast <to = 7> (f)  y = Reshape (x, t) }"
    found = check(SimplifyShapes(), text, None, feeds=[])
    assert found.declined == ["nothing is known of its target"]


def test_a_declared_shape_inside_is_not_believed(check):
    """As in fold-constants: the file says [1, 4] of what has any number of rows."""
    text = """
    g (float[N,4] x) => (float[a,b] y) <int64[1] axis0 = {0}, int64[1] end1 = {1}, int64[1] rest = {-1}>
    { r = Relu (x)  s = Shape (r)  n = Slice (s, axis0, end1)  t = Concat <axis = 0> (n, rest)  y = Reshape (r, t) }
    """
    before = graph(text)
    before.set_type(before.find("r"), nncomp.TensorType(nncomp.DataType.FLOAT, (1, 4)))
    assert target_of(check(SimplifyShapes(), before).graph) == [0, -1]


def test_allowzero_forbids_copies(check):
    text = """
    g (float[N,4] x) => (float[a,b,c] y) <int64[1] axis0 = {0}, int64[1] end1 = {1}, int64[1] two = {2}>
    {
       s = Shape (x)  n = Slice (s, axis0, end1)  t = Concat <axis = 0> (n, two, two)
       y = Reshape <allowzero = 1> (x, t)
    }
    """
    assert target_of(check(SimplifyShapes(), text).graph) == [-1, 2, 2]


def test_bodies_copy_dimensions_of_what_they_capture(check):
    text = """
    g (bool b, float[N,4] x) => (float[N,2,2] y) <int64[1] axis0 = {0}, int64[1] end1 = {1}, int64[2] twos = {2, 2}>
    {
       s = Shape (x)  n = Slice (s, axis0, end1)  t = Concat <axis = 0> (n, twos)
       y = If (b) <
          then_branch = g1 () => (p) { p = Reshape (x, t) },
          else_branch = g2 () => (q) { r = Neg (x)  q = Reshape (r, t) }
       >
    }
    """
    found = check(SimplifyShapes(), text)
    assert "Concat" not in [op.kind for body in found.graph.graphs() if body.owner for op in body.ops()]
    assert found.fired == ["simplify-shapes"] * 2


def test_arithmetic_that_something_else_reads_stays(check):
    text = """
    g (float[N,4] x) => (float[N,2,2] y, int64[3] t) <int64[1] axis0 = {0}, int64[1] end1 = {1}, int64[2] twos = {2, 2}>
    { s = Shape (x)  n = Slice (s, axis0, end1)  t = Concat <axis = 0> (n, twos)  y = Reshape (x, t) }
    """
    assert check(SimplifyShapes(), text).kinds == ["Shape", "Slice", "Concat", "Reshape"]


@pytest.mark.parametrize("batch", [0, 1, 2, 5])
@pytest.mark.parametrize(
    "entries", ["n, rest", "n, six", "n, two, rest", "six, n", "rest, six", "n, n", "two, n, rest"]
)
def test_whatever_the_batch_the_result_is_the_same_or_the_model_fails_as_before(entries, batch):
    text = f"""
    g (float[N,6] x) => (y) <{INTS}>
    {{ s = Shape (x)  n = Slice (s, axis0, end1)  t = Concat <axis = 0> ({entries})  y = Reshape (x, t) }}
    """
    before = graph(text)
    after = before.clone()
    nncomp.Pipeline([SimplifyShapes()]).run(after, nncomp.Context())
    feeds = {"x": np.random.default_rng(0).normal(size=(batch, 6)).astype(np.float32)}
    try:
        run(before, feeds)
    except NncompError:
        return  # no function to keep; it may be defined where it was not
    assert_same_function(before, after, feeds=feeds, exact=True)


def test_a_rank_that_nobody_knows_gives_no_copies():
    assert reshape_target(None, None, allow_zero=False) == (None, "nothing is known of its target")
