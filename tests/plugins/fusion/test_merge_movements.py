"""merge-movements: pairs that become one op, or none, bit for bit."""

import re

import numpy as np
import pytest

import nncomp
from nncomp import print_graph
from nncomp.runtime import run
from nncomp.testing import graph
from nncomp_fusion.movements import MergeMovements


def test_transposes_compose(check):
    before = """
    g (float[2,3,4,5] x) => (float[5,4,2,3] y)
    {
       t = Transpose <perm = [0, 2, 3, 1]> (x)
       y = Transpose <perm = [2, 1, 0, 3]> (t)
    }
    """
    expected = """
    g (float[2,3,4,5] x) => (float[5,4,2,3] y)
    {
       y = Transpose <perm = [3, 2, 0, 1]> (x)
    }
    """
    assert check(MergeMovements(), before, expected, exact=True).fired == ["merge-transposes"]


def test_transposes_that_undo_each_other_vanish(check):
    before = """
    g (float[2,3,4] x) => (float[2,3,4] y)
    {
       r = Relu (x)
       t = Transpose (r)
       u = Transpose <perm = [2, 1, 0]> (t)
       y = Neg (u)
    }
    """
    expected = "g (float[2,3,4] x) => (float[2,3,4] y) { r = Relu (x) y = Neg (r) }"
    check(MergeMovements(), before, expected, exact=True)


def test_the_interface_keeps_its_names(check):
    before = """
    g (float[2,3] x) => (float[2,3] y)
    {
       t = Transpose (x)
       y = Transpose (t)
    }
    """
    assert check(MergeMovements(), before, None, exact=True).declined == ["the graph interface needs this name"]


def test_a_tapped_transpose_is_not_lost(check):
    text = """
    g (float[2,3,4] x) => (float[3,4,2] t, float[{shape}] y)
    {{
       r = Relu (x)
       t = Transpose <perm = [1, 2, 0]> (r)
       u = Transpose <perm = [{second}]> (t)
       y = Neg (u)
    }}
    """
    outcome = check(MergeMovements(), text.format(shape="4,2,3", second="1, 2, 0"), None, exact=True)
    assert outcome.declined == ["the value between them is a graph output"]
    outcome = check(MergeMovements(), text.format(shape="2,3,4", second="2, 0, 1"), exact=True)
    assert [op.kind for op in outcome.graph.ops()] == ["Relu", "Transpose", "Neg"]


RESHAPES = """
g (float[N,6,4] x) => ({result} y)
<int64[{rank}] s = {first}{constants}>
{{
   r = Reshape (x, s)
   y = {last}
}}
"""


@pytest.mark.parametrize(
    ("first", "constants", "last", "result", "expected"),
    [
        ("{0, 2, -1}", ", int64[2] t = {-1, 24}", "Reshape (r, t)", "float[N,24]", "{-1, 24}"),
        ("{0, 2, -1}", ", int64[2] t = {0, 24}", "Reshape (r, t)", "float[N,24]", "{0, 24}"),
        ("{0, -1}", ", int64[3] t = {0, 2, -1}", "Reshape (r, t)", "float[N,2,12]", "{0, 2, -1}"),
        ("{-1, 8}", ", int64[2] t = {4, -1}", "Reshape (r, t)", "float[4,M]", "{4, -1}"),
        ("{0, 24}", ", int64[1] a = {1}", "Unsqueeze (r, a)", "float[N,1,24]", "{0, 1, 24}"),
        ("{0, 1, 24}", ", int64[1] a = {1}", "Squeeze (r, a)", "float[N,24]", "{0, 24}"),
        ("{0, 8, 3}", "", "Flatten <axis = 2> (r)", "float[M,3]", "{-1, 3}"),
    ],
)
def test_only_the_last_shape_counts(check, first, constants, last, result, expected):
    rank = first.count(",") + 1
    before = RESHAPES.format(rank=rank, first=first, constants=constants, last=last, result=result)
    outcome = check(MergeMovements(), before, exact=True)
    (op,) = outcome.graph.ops()
    found = outcome.graph.array(op.inputs[1]).tolist()
    assert (op.kind, "{" + ", ".join(map(str, found)) + "}") == ("Reshape", expected)


def test_a_flatten_behind_a_squeeze_stays_a_flatten(check):
    before = """
    g (float[N,8,1,1] x) => (float[N,8] y)
    <int64[2] axes = {2, 3}>
    {
       s = Squeeze (x, axes)
       y = Flatten (s)
    }
    """
    expected = "g (float[N,8,1,1] x) => (float[N,8] y) { y = Flatten <axis = 1> (x) }"
    check(MergeMovements(), before, expected, exact=True)


@pytest.mark.parametrize(("first", "second"), [("Squeeze", "Unsqueeze"), ("Unsqueeze", "Squeeze")])
def test_squeeze_and_unsqueeze_undo_each_other(check, first, second):
    before = f"""
    g (float[N,1,H] x) => (float[N,1,H] y)
    <int64[1] a = {{1}}, int64[1] b = {{{-2 if first == "Squeeze" else 1}}}>
    {{
       r = Relu (x)
       s = {first} (r, a)
       t = {second} (s, b)
       y = Neg (t)
    }}
    """
    expected = "g (float[N,1,H] x) => (float[N,1,H] y) { r = Relu (x) y = Neg (r) }"
    check(MergeMovements(), before, expected, exact=True)


def test_axes_are_attributes_before_opset_13(check):
    before = """
    g (float[2,3,4] x) => (float[2,1,3,4,1] y)
    {
       s = Unsqueeze <axes = [1]> (x)
       y = Unsqueeze <axes = [4]> (s)
    }
    """
    outcome = check(MergeMovements(), before, exact=True, opset=11)
    assert [op.kind for op in outcome.graph.ops()] == ["Reshape"]


def test_a_reshape_to_where_it_came_from_vanishes(check):
    before = """
    g (float[2,6] x) => (float[2,6] y)
    <int64[3] s = {2, 3, 2}, int64[2] t = {2, 6}>
    {
       r = Relu (x)
       a = Reshape (r, s)
       b = Reshape (a, t)
       y = Neg (b)
    }
    """
    check(MergeMovements(), before, "g (float[2,6] x) => (float[2,6] y) { r = Relu (x) y = Neg (r) }", exact=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            """g (float[N,6] x, int64[2] t) => (float[P,Q] y) <int64[3] s = {0, 3, 2}>
            { r = Reshape (x, s) y = Reshape (r, t) }""",
            "the shape is not constant",
        ),
        (
            """g (float[N,6] x) => (float[N,3,2] r, float[N,6] y) <int64[3] s = {0, 3, 2}, int64[2] t = {0, 6}>
            { r = Reshape (x, s) y = Reshape (r, t) }""",
            "the value between them is a graph output",
        ),
        (
            """g (float[N,6] x) => (float[N,6] y) <int64[3] s = {0, 3, 2}, int64[2] t = {-1, 6}>
            { r = Reshape (x, s) y = Reshape <allowzero = 1> (r, t) }""",
            "it makes empty tensors (allowzero=1)",
        ),
        (
            """g (float[N,6,4] x) => (float[M,8] y) <int64[2] s = {-1, 8}, int64[2] t = {0, -1}>
            { r = Reshape (x, s) y = Reshape (r, t) }""",
            "2 dimensions of the result are not known",
        ),
        (
            """g (float[N,S,W] x) => (float[P,Q,1] y) <int64[1] a = {2}>
            { r = Flatten <axis = 2> (x) y = Unsqueeze (r, a) }""",
            "2 dimensions of the result are not known",
        ),
        (
            """g (float[N,6] x, int64[1] a) => (float[P,Q,R,S] y) <int64[3] s = {0, 3, 2}>
            { r = Reshape (x, s) y = Unsqueeze (r, a) }""",
            "the axes of Unsqueeze are not known",
        ),
        (
            """g (float[0,6] x) => (float[0,6] y) <int64[3] s = {0, 3, 2}, int64[1] a = {1}, int64[2] t = {0, 6}>
            { r = Reshape (x, s) q = Relu (r) u = Unsqueeze (q, a) y = Reshape (u, t) }""",
            "the result is empty",
        ),
    ],
)
def test_shapes_that_cannot_be_proven_equal_stay(text, reason):
    after, ctx = graph(text), nncomp.Context()
    nncomp.Pipeline([MergeMovements()]).run(after, ctx)
    assert [note.reason for note in ctx.notes] == [reason]


CASTS = """
g ({start}[2,3] x) => ({end}[2,3] y)
{{
   m = Cast <to = {middle_number}> (x)
   y = Cast <to = {end_number}> (m)
}}
"""
NUMBERS = {"float": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "double": 11}


def casts(start, middle, end):
    return CASTS.format(start=start, end=end, middle_number=NUMBERS[middle], end_number=NUMBERS[end])


@pytest.mark.parametrize(
    ("start", "middle", "end"),
    [
        ("float", "double", "float16"),
        ("float16", "float", "double"),
        ("uint8", "int32", "float"),
        ("int8", "float", "int32"),
        ("bool", "int64", "float"),
        ("int32", "int64", "int8"),
        ("int32", "double", "float16"),
        ("float", "double", "bool"),
    ],
)
def test_a_cast_that_loses_nothing_is_left_out(check, start, middle, end):
    expected = f"g ({start}[2,3] x) => ({end}[2,3] y) {{ y = Cast <to = {NUMBERS[end]}> (x) }}"
    assert check(MergeMovements(), casts(start, middle, end), expected, exact=True).fired == ["merge-casts"]


def test_casts_there_and_back_vanish(check):
    before = """
    g (float[2,3] x) => (float[2,3] y)
    {
       r = Relu (x)
       m = Cast <to = 11> (r)
       n = Cast <to = 1> (m)
       y = Neg (n)
    }
    """
    check(MergeMovements(), before, "g (float[2,3] x) => (float[2,3] y) { r = Relu (x) y = Neg (r) }", exact=True)


@pytest.mark.parametrize(
    ("start", "middle", "end", "reason"),
    [
        ("float", "float16", "float", "float16 does not hold every float"),
        ("int64", "double", "int64", "double does not hold every int64"),
        ("int8", "uint8", "float", "uint8 does not hold every int8"),
        ("float", "int32", "float", "int32 does not hold every float"),
        ("float", "double", "int8", "a float out of range of int8 may become something else"),
    ],
)
def test_a_cast_that_loses_something_stays(check, start, middle, end, reason):
    assert check(MergeMovements(), casts(start, middle, end), None, exact=True).declined == [reason]


CLIPS = """
g (float[2,30] x) => (float[2,30] y)
<float n = {{-1}}, float z = {{0}}, float h = {{0.5}}, float one = {{1}}, float six = {{6}}>
{{
   a = {first}
   y = {second}
}}
"""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("Relu (x)", "Relu (a)", "Relu (x)"),
        ("Relu (x)", "Clip (a, z, six)", "Clip (x, x_min, x_max)"),
        ("Relu (x)", "Clip (a, n, six)", "Clip (x, x_min, x_max)"),
        ("Clip (x, n, one)", "Clip (a, z, six)", "Clip (x, x_min, x_max)"),
        ("Clip (x, n)", "Clip (a, z)", "Clip (x, x_min)"),
        ("Relu (x)", "Clip (a, n)", "Clip (x, x_min)"),
        ("Clip (x, n)", "Relu (a)", "Clip (x, x_min)"),
        ("Clip (x, n, h)", "Clip (a, n)", "Clip (x, n, h)"),
        ("Clip (x, z, one)", "Relu (a)", "Clip (x, z, one)"),
        ("Clip (x, , one)", "Clip (a, n)", "Clip (x, x_min, x_max)"),
        ("Clip (x, n, z)", "Clip (a, h, one)", "Clip (x, x_min, x_max)"),
    ],
)
def test_clips_merge(check, first, second, expected):
    outcome = check(MergeMovements(), CLIPS.format(first=first, second=second), exact=True)
    assert outcome.fired == ["merge-clips"]

    assert f"y = {expected}" in print_graph(outcome.graph)


def test_a_clip_without_a_bound_still_ends_at_the_largest_number(check):
    before = CLIPS.format(first="Relu (x)", second="Clip (a, n)")
    outcome = check(MergeMovements(), before, exact=True)
    found = run(outcome.graph, {"x": np.full((2, 30), np.inf, np.float32)})
    assert (found["y"] == np.finfo(np.float32).max).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (CLIPS.format(first="Clip (x, six, z)", second="Relu (a)"), "a lower bound lies above the upper one"),
        (
            CLIPS.format(first="Relu (x)", second="Clip (a, , six)").replace("=> (", "=> (float[2,30] a, "),
            "the value between them is a graph output",
        ),
        (
            CLIPS.format(first="Clip (x, b)", second="Relu (a)").replace("x) =>", "x, float b) =>"),
            "a bound is computed at run time",
        ),
    ],
)
def test_clips_that_differ_stay(check, text, reason):
    assert check(MergeMovements(), text, None, exact=True).declined == [reason]


def test_bounds_keep_the_type_of_what_they_bound(check):
    before = CLIPS.format(first="Relu (x)", second="Clip (a, n, six)").replace("float", "float16")
    before = re.sub(r" = {[^}]*}", "", before)
    constants = {name: np.array(number, np.float16) for name, number in (("n", -1), ("six", 6), ("z", 0))}
    outcome = check(MergeMovements(), before, constants=constants, exact=True)
    (op,) = outcome.graph.ops()
    assert [outcome.graph.array(value).dtype for value in op.inputs[1:]] == [np.float16] * 2
