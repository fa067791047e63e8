from __future__ import annotations

import json
from types import MappingProxyType

import numpy as np
import pytest

from nncomp.diff import Change, ConstantChange, GraphDiff, diff
from nncomp.ir import DataType, Graph, TensorType, tensor
from nncomp.testing import graph

TEXT = """
g (float[N,3,8,8] x) => (float[N,4,6,6] y)
<float[4,3,3,3] w, float[4] s = {1, 1, 1, 1}, float[4] b = {0, 0, 0, 0},
 float[4] mean = {0, 0, 0, 0}, float[4] var = {1, 1, 1, 1}>
{
   c = Conv <pads = [0, 0, 0, 0]> (x, w)
   [bn] y = BatchNormalization <epsilon = 1e-5> (c, s, b, mean, var)
}
"""


def changed(old: str, new: str, text: str = TEXT) -> GraphDiff:
    """What a change of the text makes."""
    assert old in text
    return diff(graph(text), graph(text.replace(old, new)))


def test_a_graph_does_not_differ_from_itself_or_its_clone() -> None:
    g = graph(TEXT)
    for other in (g, g.clone(), graph(TEXT)):
        found = diff(g, other)
        assert found.is_empty
        assert found == GraphDiff()
        assert found.lines() == ()


def test_a_folded_batchnorm_is_a_removed_op_and_one_that_became_another() -> None:
    g = graph(TEXT)
    after = g.clone()
    conv, bn = after.ops()
    after.set_outputs([])
    after.remove(bn)
    weights = after.add_constant("w_folded", np.ones((4, 3, 3, 3), np.float32))
    y = after.add_op("Conv", [after.inputs[0], weights], [("y", TensorType(DataType.FLOAT, ("N", 4, 6, 6)))]).output
    after.remove(conv)
    after.set_outputs([y])
    for name in ("w", "s", "b", "mean", "var"):
        after.remove_unused([after.find(name)])
    lines = diff(g, after).lines()
    assert [line.partition("  # ")[0] for line in lines] == [
        "- constant float[4,3,3,3] w",
        "- constant float[4] s",
        "- constant float[4] b",
        "- constant float[4] mean",
        "- constant float[4] var",
        "+ constant float[4,3,3,3] w_folded",
        "- c = Conv <pads = [0, 0, 0, 0]> (x, w)",
        "~ y = Conv (x, w_folded)",
        "    ~ operator: BatchNormalization -> Conv",
        "    - name: 'bn'",
        "    ~ inputs: (c, s, b, mean, var) -> (x, w_folded)",
        "    - attribute epsilon: 1e-05",
    ]


def test_a_renamed_op_is_found_by_its_structure() -> None:
    found = diff(graph(TEXT), graph(TEXT.replace("c = Conv", "d = Conv").replace("(c, s", "(d, s")))
    assert found.lines() == (
        "~ d = Conv <pads = [0, 0, 0, 0]> (x, w)",
        "    ~ outputs: (c) -> (d)",
    )


def test_a_chain_of_renamed_ops_is_found() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Neg (x) b = Abs (a) c = Neg (b) y = Add (c, a) }"
    other = "g (float[2] x) => (float[2] y) { p = Neg (x) q = Abs (p) r = Neg (q) y = Add (r, p) }"
    found = diff(graph(text), graph(other))
    assert [change.changes for change in found.ops_changed] == [
        (Change("outputs", "(a)", "(p)"),),
        (Change("outputs", "(b)", "(q)"),),
        (Change("outputs", "(c)", "(r)"),),
    ]
    assert not (found.ops_added or found.ops_removed)


def test_an_op_that_took_the_name_of_another_is_no_equal() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Neg (x) y = Abs (a) }"
    other = "g (float[2] x) => (float[2] y) { a = Sin (x) b = Neg (x) y = Abs (a) }"
    found = diff(graph(text), graph(other))
    assert found.lines() == (
        "+ a = Sin (x)",
        "~ b = Neg (x)",
        "    ~ outputs: (a) -> (b)",
        "~ y = Abs (a)",
        "    ~ inputs: (a) -> (a)",
    )


def test_attribute_changes_are_named() -> None:
    found = changed("<pads = [0, 0, 0, 0]>", '<pads = [1, 1, 1, 1], auto_pad = "SAME">')
    assert found.lines() == (
        '~ c = Conv <pads = [1, 1, 1, 1], auto_pad = "SAME"> (x, w)',
        "    ~ attribute pads: [0, 0, 0, 0] -> [1, 1, 1, 1]",
        '    + attribute auto_pad: "SAME"',
    )


def test_node_names_differ() -> None:
    assert changed("[bn]", "[other]").ops_changed[0].changes == (Change("name", "'bn'", "'other'"),)


def test_a_changed_constant_has_distance_and_sqnr() -> None:
    g, other = Graph("g"), Graph("g")
    for target, data in ((g, [3, 4, np.inf]), (other, [3, 4.5, np.inf])):
        target.set_outputs([target.add_constant("w", np.array(data, np.float32))])
    found = diff(g, other)
    (change,) = found.constants_changed
    assert change.max_difference == 0.5
    assert change.sqnr_db is not None
    assert abs(change.sqnr_db - 20) < 1e-9  # 25 / 0.25
    assert found.lines()[0] == "~ constant w"
    assert found.lines()[2] == "    max difference 0.5, SQNR 20.0 dB"


def test_sqnr_is_unknown_without_signal_and_for_integers() -> None:
    g, other = Graph("g"), Graph("g")
    g.set_outputs([g.add_constant("z", np.zeros(2, np.float32)), g.add_constant("i", np.zeros(2, np.int8))])
    other.set_outputs([other.add_constant("z", np.ones(2, np.float32)), other.add_constant("i", np.ones(2, np.int8))])
    zero, integer = diff(g, other).constants_changed
    assert (zero.max_difference, zero.sqnr_db) == (1.0, None)
    assert (integer.max_difference, integer.sqnr_db) == (None, None)


def test_constants_of_narrow_floats_are_compared_by_value() -> None:
    g, other = Graph("g"), Graph("g")
    g.set_outputs([g.add_constant("w", np.ones(2, np.float32))])
    half = tensor(np.array([1, 1], DataType.BFLOAT16.numpy()))
    other.set_outputs([other.add_constant("w", half)])
    (change,) = diff(g, other).constants_changed
    assert change.changes[0] == Change("type", "float[2]", "bfloat16[2]")
    assert (change.max_difference, change.sqnr_db) == (0.0, None)


def test_a_renamed_constant_is_found_by_its_data() -> None:
    found = diff(graph(TEXT), graph(TEXT.replace("float[4] s =", "float[4] scale =").replace("c, s,", "c, scale,")))
    assert found.constants_changed == (ConstantChange("scale", (Change("name", "s", "scale"),)),)
    assert found.ops_changed == ()


def test_shared_data_is_not_read() -> None:
    g = graph(TEXT)
    other = g.clone()
    assert g.find("w").const is other.find("w").const
    assert diff(g, other).is_empty


def test_interface_changes_are_named() -> None:
    text = "g (float[2] x, float[2] a) => (float[2] y, float[2] z) { y = Neg (x) z = Neg (a) }"
    assert changed("(float[2] x, float[2] a)", "(float[2] a, float[3] x)", text).interface == (
        Change("input x", "float[2]", "float[3]"),
        Change("order of inputs", "x, a", "a, x"),
    )
    assert changed("(float[2] y, float[2] z)", "(float[2] y)", text).interface == (
        Change("output z", "float[2]", None),
    )
    found = changed("2] a)", "2] a = {1, 2})", text).interface
    assert [(change.what, change.before) for change in found] == [("default of input a", None)]


def test_model_fields_are_compared() -> None:
    g, other = graph(TEXT), graph(TEXT)
    other.set_info(
        ir_version=9,
        opsets=MappingProxyType({"": 18, "my": 1}),
        metadata=MappingProxyType({"k": "v"}),
        functions=MappingProxyType({("my", "f", ""): b"x"}),
    )
    other.name = "h"
    assert diff(g, other).header == (
        Change("ir_version", "10", "9"),
        Change('opset of ""', "17", "18"),
        Change("opset of my", None, "1"),
        Change("metadata k", None, "'v'"),
        Change('function "my.f"', None, "sha256:2d711642b726"),
        Change("graph name", "'g'", "'h'"),
    )


def test_bodies_are_compared_inside_their_op() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) { y = If (c) <
        then_branch = t () => (float[2] a) { a = Neg (x) }, else_branch = e () => (float[2] b) { b = Abs (x) }> }"""
    found = changed("a = Neg (x)", "a = Sin (x)", text)
    assert found.lines() == (
        "~ y = If (c) <",
        "    then_branch",
        "        ~ a = Sin (x)",
        "            ~ operator: Neg -> Sin",
    )
    assert json.loads(json.dumps(found.as_dict()))["ops_changed"][0]["bodies"]["then_branch"]["ops_changed"] == [
        {"op": "a = Sin (x)", "changes": [{"what": "operator", "before": "Neg", "after": "Sin"}], "bodies": {}}
    ]


def test_a_renamed_outer_value_is_no_difference_inside_a_body() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        k = Neg (x) y = If (c) <then_branch = t () => (float[2] a) { a = Neg (k) }> }"""
    found = diff(graph(text), graph(text.replace("k = Neg", "m = Neg").replace("(k)", "(m)")))
    assert found.lines() == ("~ m = Neg (x)", "    ~ outputs: (k) -> (m)")


def test_a_graph_with_a_cycle_is_compared() -> None:
    g = Graph("g")
    x = g.add_input("x", None)
    first = g.add_op("A", [x, x], ["a"])
    second = g.add_op("B", [first.output], ["b"])
    broken = g.clone()
    broken.set_input(broken.ops()[0], 1, broken.find("b"))
    assert diff(g, broken).lines() == ("~ a = A (x, b)", "    ~ inputs: (x, x) -> (x, b)")
    assert second.kind == "B"


def test_weights_are_compared_across_quantization() -> None:
    before = "g (float[2,2] x) => (float[2,3] y) <float[2,3] w> { y = MatMul (x, w) }"
    after = """
        g (float[2,2] x) => (float[2,3] y) <int8[2,3] q, float[3] s = {0.5, 0.25, 1.0}>
        { w = DequantizeLinear <axis = 1> (q, s) y = MatMul (x, w) }
        """
    w = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    q = np.array([[2, 8, 3], [8, 20, 5]], np.int8)  # the last one is off by 1
    found = diff(graph(before, constants={"w": w}), graph(after, constants={"q": q}))
    (change,) = found.weights_changed
    assert (change.op, change.slot, change.before, change.after) == ("MatMul(y)", 1, "float[2,3]", "int8[2,3]")
    assert change.max_difference == 1.0
    assert change.sqnr_db == pytest.approx(10 * np.log10(91))
    line = "~ weight of MatMul(y) (input 1): float[2,3] -> int8[2,3], max difference 1, SQNR 19.6 dB"
    assert found.lines()[-1] == line


def test_blocks_of_scales_are_multiplied_out() -> None:
    text = """
        <ir_version: 10, opset_import: ["": 21]>
        g (float[1,4] x) => (float[1,1] y) <int8[4,1] q, float[2,1] s>
        { w = DequantizeLinear <axis = 0, block_size = 2> (q, s) y = MatMul (x, w) }
        """
    one = {"q": np.array([[1], [2], [3], [4]], np.int8), "s": np.array([[1], [10]], np.float32)}
    two = {**one, "s": np.array([[1], [9]], np.float32)}
    (change,) = diff(graph(text, constants=one), graph(text, constants=two)).weights_changed
    assert change.max_difference == 4.0


def test_weights_that_are_the_same_are_no_difference() -> None:
    text = "g (float[2,2] x) => (float[2,3] y) <float[2,3] w> { y = MatMul (x, w) }"
    net = graph(text)
    assert diff(net, net.clone()).weights_changed == ()
