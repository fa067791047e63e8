"""merge-duplicates: equal ops and constants become one, those that only look equal do not."""

import ml_dtypes
import numpy as np
import pytest

import nncomp
from nncomp.onnx_io import graph_from_proto, graph_to_proto
from nncomp.testing import graph
from nncomp_cleanup.merge_duplicates import MergeDuplicates


def test_equal_ops_are_computed_once_and_what_follows_too(check):
    check(
        MergeDuplicates(),
        """
        g (float[2] x) => (float[2] y)
        { a = Exp (x)  b = Exp (x)  c = Neg (a)  d = Neg (b)  y = Add (c, d) }
        """,
        "g (float[2] x) => (float[2] y) { a = Exp (x)  c = Neg (a)  y = Add (c, c) }",
    )


def test_ops_with_several_outputs_are_merged_output_by_output(check):
    text = """
    g (float[4] x) => (float[2] y) { a, b = Split (x)  c, d = Split (x)  e = Add (a, d)  y = Sub (e, b) }
    """
    assert check(MergeDuplicates(), text).kinds == ["Split", "Add", "Sub"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("LeakyRelu <alpha = 0.1> (x)", "LeakyRelu <alpha = 0.2> (x)"),
        ("LeakyRelu <alpha = 0.01> (x)", "LeakyRelu (x)"),
        ("Sub (x, z)", "Sub (z, x)"),
        ("Clip (x, lo)", "Clip (x, , lo)"),
        ("Exp (x)", "Neg (x)"),
        ("RandomNormalLike <seed = 1.0> (x)", "RandomNormalLike <seed = 1.0> (x)"),
    ],
)
def test_what_only_looks_equal_stays(check, first, second):
    text = f"""
    g (float[2] x, float[2] z) => (float[2] a, float[2] b) <float lo = {{0.5}}> {{ a = {first}  b = {second} }}
    """
    check(MergeDuplicates(), text, None, feeds=[] if "Random" in first else None)


def test_equal_attributes_of_every_sort_are_equal(check):
    text = """
    g (int64[1] s, float[1,4,4] x) => (float[n] y, float[m] z)
    {
       a = ConstantOfShape <value = float[1] {2.0}> (s)  b = ConstantOfShape <value = float[1] {2.0}> (s)
       c = ConstantOfShape <value = float[1] {3.0}> (s)  d = Add (a, b)  y = Add (d, c)
       p = Transpose <perm = [0, 2, 1]> (x)  q = Transpose <perm = [0, 2, 1]> (x)  z = Add (p, q)
    }
    """
    feeds = [{"s": np.array([3]), "x": np.ones((1, 4, 4), np.float32)}]
    assert sorted(check(MergeDuplicates(), text, feeds=feeds).kinds) == [
        "Add",
        "Add",
        "Add",
        *["ConstantOfShape"] * 2,
        "Transpose",
    ]


def test_equal_constants_become_one(check):
    check(
        MergeDuplicates(),
        """
        g (float[2] x) => (float[2] y) <float[2] v = {1, 2}, float[2] w = {1, 2}, float[2] u = {1, 3}>
        { a = Add (x, v)  b = Mul (a, w)  y = Sub (b, u) }
        """,
        """
        g (float[2] x) => (float[2] y) <float[2] v = {1, 2}, float[2] u = {1, 3}>
        { a = Add (x, v)  b = Mul (a, v)  y = Sub (b, u) }
        """,
    )


@pytest.mark.parametrize(
    "arrays",
    [
        (np.zeros(2, np.float32), -np.zeros(2, np.float32)),
        (np.zeros(2, np.float32), np.zeros(2, np.int32)),
        (np.zeros((2, 1), np.float32), np.zeros((1, 2), np.float32)),
        (np.zeros(2, np.float32), np.zeros((), np.float32)),
    ],
)
def test_constants_that_compare_equal_but_differ_stay(check, arrays):
    before = nncomp.Graph()
    values = [before.add_op("Identity", [before.add_constant("c", array)]).output for array in arrays]
    before.set_outputs(values)
    check(MergeDuplicates(), before, None)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4"])
def test_constants_of_narrow_types_are_merged(check, dtype):
    before = nncomp.Graph()
    constants = [before.add_constant("c", np.array([1, 2, 3]).astype(getattr(ml_dtypes, dtype))) for _ in range(2)]
    casts = [before.add_op("Cast", [value], attrs={"to": 1}).output for value in constants]
    before.set_outputs([before.add_op("Add", casts).output])
    found = check(MergeDuplicates(), before, feeds=[])
    assert found.kinds == ["Cast", "Add"]
    assert len(found.graph.constants()) == 1


def test_strings_are_told_apart_by_their_borders(check):
    text = """
    g (int64 i) => (string a, string b, string c)
    <string[2] s = {"ab", "c"}, string[2] t = {"a", "bc"}, string[2] u = {"ab", "c"}>
    { a = Gather (s, i)  b = Gather (t, i)  c = Gather (u, i) }
    """
    found = check(MergeDuplicates(), text, feeds=[{"i": np.array(1)}])
    assert [value.name for value in found.graph.constants()] == ["s", "t"]


def test_two_outputs_keep_their_names(check):
    found = check(MergeDuplicates(), "g (float[2] x) => (float[2] y, float[2] z) { y = Exp (x)  z = Exp (x) }")
    assert sorted(found.kinds) == ["Exp", "Identity"]


def test_two_identities_for_two_outputs_stay(check):
    text = "g (float[2] x) => (float[2] y, float[2] z) { y = Identity (x)  z = Identity (x) }"
    assert check(MergeDuplicates(), text, None).declined == ["the graph interface needs both names"]


def test_bodies_are_merged_each_for_itself(check):
    found = check(
        MergeDuplicates(),
        """
        g (bool b, float[2] x) => (float[2] y)
        {
           a = Exp (x)  a2 = Exp (x)
           y = If (b) <
              then_branch = t () => (float[2] p) { c = Neg (a)  d = Neg (a2)  p = Mul (c, d) },
              else_branch = e () => (float[2] q) { f = Exp (x)  q = Neg (f) }
           >
        }
        """,
    )
    assert found.kinds == ["Exp", "If", "Neg", "Mul", "Exp", "Neg"]
    assert len(found.graph.ops()[1].bodies["then_branch"].captures) == 1


def test_calls_of_functions_and_unknown_ops_stay(check):
    text = """
    <ir_version: 10, opset_import: ["": 17, "local": 1, "acme": 1]>
    g (float[2] x) => (float[2] y, float[2] z)
    { a = local.Exp (x)  b = local.Exp (x)  y = Add (a, b)  c = acme.Foo (x)  d = acme.Foo (x)  z = Add (c, d) }
    <opset_import: ["": 17], domain: "local"> Exp (a) => (b) { b = RandomNormalLike (a) }
    """
    check(MergeDuplicates(), text, None, feeds=[])


def test_a_constant_that_an_annotation_names_stays(check):
    model = graph_to_proto(
        graph("g (float x) => (float y) <float v = {1}, float w = {1}> { a = Add (x, v)  y = Mul (a, w) }")
    )
    model.graph.quantization_annotation.add(tensor_name="x").quant_parameter_tensor_names.add(
        key="SCALE_TENSOR", value="w"
    )
    check(MergeDuplicates(), graph_from_proto(model), None)


def test_fifteen_thousand_equal_ops_are_merged_in_one_sweep():
    before = nncomp.Graph()
    x = before.add_input("x", nncomp.TensorType(nncomp.DataType.FLOAT, (2,)))
    values = [before.add_op("Exp", [x]).output for _ in range(15_000)]
    before.set_outputs([before.add_op("Sum", values).output])
    MergeDuplicates().run(before, nncomp.Context())
    assert len(before.ops()) == 2
