"""The report: facts about graphs counted by hand, accuracy summed by hand, and JSON that any reader takes."""

import json
import math

import numpy as np
import pytest

from nncomp.infer import infer_types
from nncomp.ops import builtin_table
from nncomp.passes import Note
from nncomp.report import (
    SCHEMA,
    Report,
    Warned,
    compare_runs,
    grouped,
    model_facts,
    parameter_count,
    peak_activation_bytes,
    plain,
)
from nncomp.testing import graph

TABLE = builtin_table()


def facts(text, shapes=None, **options):
    return model_facts(graph(text, **options), TABLE, shapes)


# ------------------------------------------------------------------ facts


def test_ops_kinds_parameters_and_multiplications_are_counted():
    found = facts(
        """
        g (float[N,4] x) => (float[N,3] y) <float[4,3] w, float[3] b>
        { a = MatMul (x, w)
          c = Add (a, b)
          y = Relu (c) }
        """,
        {"x": (2, 4)},
    )
    assert found.ops == 3
    assert found.kinds == {"Add": 1, "MatMul": 1, "Relu": 1}
    assert found.params == 15
    assert found.weight_bytes == 60
    assert found.macs == 2 * 4 * 3
    assert found.traffic_bytes == 4 * ((8 + 12 + 6) + (6 + 3 + 6) + (6 + 6))
    assert (found.unpriced, found.unsized) == ({}, 0)
    assert found.opsets == {"ai.onnx": 17}


def test_what_nobody_knows_is_listed_and_not_guessed():
    found = facts(
        """
        <ir_version: 10, opset_import: ["": 17, "acme": 1]>
        g (float[2,4] x) => (y) { y = acme.Magic (x) }
        """
    )
    assert found.unpriced == {"acme.Magic": 1}
    assert found.unsized == 1
    assert found.macs == 0


def test_symbolic_sizes_leave_costs_unknown_without_shapes():
    text = "g (float[N,4] x) => (float[N,3] y) <float[4,3] w> { y = MatMul (x, w) }"
    assert facts(text).unpriced == {"MatMul": 1}
    assert facts(text, {"x": (1, 4)}).macs == 12


def test_a_run_finds_the_sizes_that_cannot_be_inferred():
    net = graph(
        """
        g (float[N,4] x) => (float[M,3] y) <float[4,3] w, bool[2] keep = {1, 1}>
        { some = Compress <axis = 0> (x, keep)
          y = MatMul (some, w) }
        """
    )
    feeds = {"x": np.eye(4, dtype=np.float32)[:2]}
    assert model_facts(net, TABLE, {"x": (2, 4)}).unpriced
    found = model_facts(net, TABLE, feeds=feeds)
    assert (found.unpriced, found.unsized) == ({}, 0)
    assert found.macs == 2 * 4 * 3


def test_a_run_that_fails_leaves_sizes_unknown():
    text = '<ir_version: 10, opset_import: ["": 17, "acme": 1]> g (float[N] x) => (float[N] y) { y = acme.Magic (x) }'
    assert model_facts(graph(text), TABLE, feeds={"x": np.ones(2, np.float32)}).unpriced == {"acme.Magic": 1}


def test_what_a_constant_node_makes_is_no_activation():
    found = facts(
        "g (float[1] x) => (float[1] y) { c = Constant <value = float[1] {2.0}> () a = Add (x, c) y = Relu (a) }"
    )
    assert found.peak_activation_bytes == 8
    assert found.weight_bytes == 4


def test_a_weight_that_two_ops_share_counts_once():
    net = graph("g (float[2,3] x) => (float[2,3] y) <float[3,3] w> { a = MatMul (x, w) y = MatMul (a, w) }")
    assert parameter_count(net, TABLE) == 9


def test_weights_of_constant_nodes_count_once_each_however_often_they_are_read():
    given = "<value_floats = [1.0, 2.0, 3.0]> ()"
    net = graph(
        f"""
        g (float[3] x) => (float[3] y)
        {{
            a = Constant {given}
            b = Constant {given}
            c = Constant {given}
            d = Add (x, a)
            e = Add (d, b)
            f = Add (e, c)
            y = Mul (f, a)
        }}
        """
    )
    assert parameter_count(net, TABLE) == 9


def test_settings_scales_and_zero_points_are_no_parameters():
    net = graph(
        """
        g (float[1,1,2,2] x) => (float[1,1,4,4] y)
        <float[4] sizes = {1, 1, 2, 2}, float s = {0.5}, uint8 z = {0}, int8[1,1,1,1] w, float[1] ws, int8[1] wz>
        {
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            dw = DequantizeLinear <axis = 0> (w, ws, wz)
            c = Conv (d, dw)
            y = Resize <mode = "nearest"> (c, , sizes)
        }
        """
    )
    assert parameter_count(net, TABLE) == 1


def test_peak_memory_is_the_largest_sum_alive_at_once():
    # x 4, a 8, b 4: at b, x is gone; a and b are alive: 12; y needs b 4 + y 4
    text = "g (float[1] x) => (float[1] y) { a = Concat <axis=0> (x, x) b = ReduceSum <keepdims=1> (a) y = Relu (b) }"
    net = graph(text)
    infer_types(net)
    assert peak_activation_bytes(net) == 12


def test_peak_memory_keeps_what_a_later_op_or_the_caller_needs():
    net = graph(
        """
        g (float[10] x) => (float[10] a, float[10] y)
        { a = Relu (x) b = Relu (a) c = Relu (b) y = Add (c, x) }
        """
    )
    infer_types(net)
    assert peak_activation_bytes(net) == 40 * 4  # x, a, and two of b, c, y


def test_peak_memory_counts_the_larger_branch_and_what_it_captures():
    net = graph(
        """
        g (bool c, float[10] x) => (float[10] y)
        {
            y = If (c) <
                then_branch = t () => (float[10] p) { a = Concat <axis=0> (x, x) p, r = Split <axis=0> (a) },
                else_branch = f () => (float[10] q) { q = Relu (x) }
            >
        }
        """
    )
    infer_types(net)
    assert peak_activation_bytes(net) == 1 + 40 + 40 + (80 + 80)


def test_values_between_integer_ops_count_in_integers():
    text = """
        g (float[100] x) => (float[100] y)
        <float s = {0.5}, uint8 z = {0}>
        {
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            r = Relu (d)
            q2 = QuantizeLinear (r, s, z)
            d2 = DequantizeLinear (q2, s, z)
            y = Relu (d2)
        }
        """
    found = facts(text)
    assert found.peak_activation_bytes == 500  # x (400) and q (100); later q2 (100) and y (400)
    assert found.traffic_bytes == (100 + 100) + (100 + 400)


def test_a_control_flow_op_counts_its_bodies_once():
    found = facts(
        """
        g (bool c, float[1,2] x) => (float[1,2] y) <float[2,2] w>
        {
            y = If (c) <
                then_branch = t () => (float[1,2] p) { p = MatMul (x, w) },
                else_branch = f () => (float[1,2] q) { q = Relu (x) }
            >
        }
        """
    )
    assert found.kinds == {"If": 1, "MatMul": 1, "Relu": 1}
    assert found.macs == 4
    assert found.params == 4


# ------------------------------------------------------------------ accuracy


def compare(a, b, labels=None):
    """Compare outputs given as lists of runs."""
    feeds = [{"n": np.array(index)} for index in range(len(a))]
    known = labels if labels is not None else [None] * len(a)
    return compare_runs(
        lambda feed: a[int(feed["n"])], lambda feed: b[int(feed["n"])], zip(feeds, known, strict=True), source="data"
    )


def test_equal_outputs_are_identical_and_their_sqnr_has_no_limit():
    found = compare([{"y": np.array([1.0, np.nan])}], [{"y": np.array([1.0, np.nan])}])
    assert found.identical
    assert found.sqnr_db == math.inf
    assert found.cosine == 1.0


def test_signal_and_noise_are_summed_over_samples():
    a = [{"y": np.array([3.0, 4.0])}, {"y": np.array([0.0, 5.0])}]
    b = [{"y": np.array([3.0, 4.0])}, {"y": np.array([0.5, 5.0])}]
    found = compare(a, b)
    assert found.sqnr_db == pytest.approx(10 * math.log10(50 / 0.25))
    assert found.cosine == pytest.approx((1 + 5 / math.sqrt(25.25)) / 2)
    assert not found.identical


def test_each_output_is_compared_and_the_worst_one_counts():
    a = [{"y": np.array([1.0]), "z": np.array([1.0])}]
    b = [{"y": np.array([1.0]), "z": np.array([1.1])}]
    found = compare(a, b)
    assert [output.name for output in found.outputs] == ["y", "z"]
    assert found.sqnr_db == pytest.approx(20)


@pytest.mark.parametrize("other", [np.array([1.0]), np.array([1.0, np.inf]), np.array([np.nan, 1.0])])
def test_other_shapes_and_new_infinities_cannot_be_compared(other):
    found = compare([{"y": np.array([1.0, 2.0])}], [{"y": other}])
    assert found.sqnr_db == -math.inf
    assert found.cosine == 0.0


def test_scores_agree_in_their_best_class_row_by_row():
    a = [{"y": np.array([[1.0, 2.0], [2.0, 1.0]])}, {"y": np.array([[0.0, 1.0]])}]
    b = [{"y": np.array([[1.0, 2.0], [1.0, 2.0]])}, {"y": np.array([[0.1, 1.0]])}]
    assert compare(a, b).agreement == pytest.approx(2 / 3)


def test_outputs_that_are_no_scores_have_no_agreement():
    for shape in ((3,), (1, 2, 3), (4, 1)):
        assert compare([{"y": np.ones(shape)}], [{"y": np.ones(shape)}]).agreement is None


def test_labels_give_the_accuracy_of_both():
    a = [{"y": np.array([[1.0, 2.0], [2.0, 1.0]])}]
    b = [{"y": np.array([[1.0, 2.0], [1.0, 2.0]])}]
    found = compare(a, b, [np.array([1, 0])])
    assert (found.labelled, found.before, found.after, found.drop) == (2, 1.0, 0.5, 0.5)


def test_integer_and_sequence_outputs_do_no_harm():
    a = [{"i": np.array([1, 2]), "s": [np.array([1.0])], "t": np.array(["a"])}]
    found = compare(a, a)
    assert [output.name for output in found.outputs] == ["i"]
    assert found.identical


# ------------------------------------------------------------------ JSON


def test_notes_that_differ_by_node_are_one_with_a_count_and_a_few_nodes():
    notes = [Note("fired", "rule", f"n{number}") for number in range(9)] + [Note("declined", "rule", "m", "too big")]
    found = grouped(notes)
    assert [(one.event, one.count, one.nodes) for one in found] == [
        ("fired", 9, ("n0", "n1", "n2", "n3", "n4")),
        ("declined", 1, ("m",)),
    ]


def test_the_json_form_is_strict_json_and_has_all_keys_of_the_schema():
    empty = facts("g (float[1] x) => (float[1] y) { y = Relu (x) }")
    accuracy = compare([{"y": np.array([1.0])}], [{"y": np.array([1.0])}])
    report = Report(
        nncomp="1",
        status="done",
        model_name="a\x00b.onnx",
        digest="0",
        seed=0,
        target="t",
        recipe=(),
        gated=True,
        before=empty,
        after=empty,
        passes=(),
        accuracy=accuracy,
        warnings=(Warned("NNC-W030", "x"),),
        results={"p": {"n": np.float32(1.5), "a": np.arange(2), "s": {2, 1}, "inf": math.inf}},
    )
    found = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert found["schema"] == SCHEMA
    assert list(found) == [
        "schema", "nncomp", "status", "model", "target", "recipe", "gate", "before", "after", "passes", "results",
        "accuracy", "target_report", "budget", "search", "layers", "files", "warnings", "measured",
    ]  # fmt: skip
    assert found["accuracy"]["sqnr_db"] is None
    assert found["results"] == {"p": {"n": 1.5, "a": [0, 1], "s": [1, 2], "inf": None}}


def test_unknown_objects_become_text_in_json():
    assert plain({1: object}) == {"1": "<class 'object'>"}
