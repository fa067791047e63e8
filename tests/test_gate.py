"""The gate: what a pass declares is what it may do to the numbers, and not one bit more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nncomp.errors import GateError
from nncomp.gate import Array, Gate, check_interface, compare, interface
from nncomp.ir import DataType, Graph, TensorType
from nncomp.passes import Effect
from nncomp.runtime import Session, random_feeds
from nncomp.testing import graph

TEXT = """
g (float[4,8] x) => (float[4,3] y) <float[8,5] w1, float[5,3] w2> {
   [first] a = MatMul (x, w1)
   [act] b = Relu (a)
   [second] y = MatMul (b, w2)
}
"""


def changed(g: Graph, name: str, change: Callable[[Array], Array]) -> Graph:
    """A clone whose constant ``name`` has other data."""
    copy = g.clone()
    old = copy.find(name)
    data = copy.array(old)
    assert data is not None
    copy.replace_uses(old, copy.add_constant(name, change(data)))
    copy.remove_unused([old])
    return copy


def last_bit(data: Array) -> Array:
    moved: Array = np.nextafter(data, np.float32(np.inf))
    return moved


# ---------------------------------------------------------------- the three effects


def test_a_graph_that_is_the_same_is_exact() -> None:
    g = graph(TEXT)
    result = Gate().check(g, g.clone(), Effect.EXACT)
    assert result.passed
    assert result.deviation is not None
    assert (result.deviation.identical, result.deviation.relative, result.deviation.sqnr_db) == (True, 0.0, np.inf)


def test_an_exact_pass_that_changes_the_last_bit_is_caught_at_its_first_node() -> None:
    g = graph(TEXT)
    result = Gate().check(g, changed(g, "w2", last_bit), Effect.EXACT)
    assert (result.passed, result.first_divergence) == (False, "second")
    assert result.deviation is not None
    assert result.deviation.worst_output == "y"
    assert 0 < result.deviation.relative < 1e-6


def test_the_first_node_that_diverges_is_named_not_the_last() -> None:
    g = graph(TEXT)
    assert Gate().check(g, changed(g, "w1", lambda data: data * 2), Effect.EXACT).first_divergence == "first"


def test_a_sign_of_zero_is_a_bit() -> None:
    g = graph("g (float[2] x, float k) => (float[2] y) { [zero] y = Mul (x, k) }")
    after = graph("g (float[2] x, float k) => (float[2] y) { m = Mul (x, k)  [plus] y = Abs (m) }")
    feeds = {"x": np.array([1, 2], np.float32), "k": np.array(-0.0, np.float32)}
    result = Gate([feeds]).check(g, after, Effect.EXACT)
    assert (result.passed, result.first_divergence) == (False, "plus")


def test_a_divergence_on_a_later_input_only_is_found_and_named() -> None:
    g = graph("g (float[2] x) => (float[2] y) { [act] y = Relu (x) }")
    after = graph("g (float[2] x) => (float[2] y) { [act] y = Identity (x) }")
    feeds = [{"x": np.array(data, np.float32)} for data in ([1, 2], [1, -2])]
    result = Gate(feeds).check(g, after, Effect.EXACT)
    assert (result.passed, result.first_divergence) == (False, "act")
    assert Gate(feeds[:1]).check(g, after, Effect.EXACT).passed


def test_reassociation_may_cost_rounding() -> None:
    g = graph(TEXT)
    result = Gate().check(g, changed(g, "w2", last_bit), Effect.REASSOCIATES)
    assert result.passed
    assert result.deviation is not None
    assert not result.deviation.identical


def test_reassociation_may_not_cost_more_than_rounding() -> None:
    g = graph(TEXT)
    assert Gate().check(g, changed(g, "w2", lambda data: data * np.float32(1 + 5e-6)), Effect.REASSOCIATES).passed
    result = Gate().check(g, changed(g, "w2", lambda data: data * np.float32(1 + 5e-5)), Effect.REASSOCIATES)
    assert (result.passed, result.first_divergence) == (False, "second")


def test_an_exact_pass_may_move_half_precision_by_a_rounding_and_no_more() -> None:
    g = graph("g (float16[4,8] x) => (float16[4,5] y) <float16[8,5] w> { y = MatMul (x, w) }")
    assert Gate().check(g, changed(g, "w", lambda data: data * np.float16(1.001)), Effect.EXACT).passed
    assert not Gate().check(g, changed(g, "w", lambda data: data * np.float16(1.004)), Effect.EXACT).passed


def test_half_precision_rounds_more() -> None:
    text = "g (float16[4,8] x) => (float16[4,5] y) <float16[8,5] w> { y = MatMul (x, w) }"
    g = graph(text)
    assert Gate().check(g, changed(g, "w", lambda data: data * np.float16(1.002)), Effect.REASSOCIATES).passed
    result = Gate().check(g, changed(g, "w", lambda data: data * np.float16(1.05)), Effect.REASSOCIATES)
    assert (result.passed, result.first_divergence) == (False, "MatMul(y)")


def test_where_outputs_cancel_rounding_may_cost_what_it_costs_the_original() -> None:
    weight = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    other = weight + np.float32(1e-5)
    constants = {"w": weight, "v": other}
    header = "g (float[4,64] x) => (float[4,8] y) <float[64,8] w, float[64,8] v>"
    before = graph(header + "{ a = MatMul (x, w)  b = MatMul (x, v)  y = Sub (a, b) }", constants=constants)
    merged = graph(header + "{ d = Sub (w, v)  y = MatMul (x, d) }", constants=constants)
    result = Gate().check(before, merged, Effect.REASSOCIATES)
    assert result.deviation is not None
    assert result.deviation.relative > 1e-3
    assert result.passed
    assert not Gate().check(before, changed(before, "v", lambda data: data * 2), Effect.REASSOCIATES).passed


def test_a_lossy_pass_is_measured_and_held_to_nothing_here() -> None:
    g = graph(TEXT)
    result = Gate().check(g, changed(g, "w2", lambda data: data * np.float32(1.1)), Effect.LOSSY)
    assert result.passed
    assert result.deviation is not None
    assert result.deviation.relative == pytest.approx(0.1, rel=1e-3)
    assert result.deviation.sqnr_db == pytest.approx(20, abs=0.01)
    assert result.deviation.cosine == pytest.approx(1)


def test_a_result_that_does_not_run_fails_whatever_was_declared() -> None:
    g = graph(TEXT)
    after = changed(g, "w2", lambda data: data[:4])
    result = Gate().check(g, after, Effect.LOSSY)
    assert (result.passed, result.deviation) == (False, None)
    assert result.first_divergence.startswith("the result does not run: [ONNXRuntimeError]")


def test_nan_equals_nan() -> None:
    g = graph("g (float[4] x) => (float[4] y) { y = Sqrt (x) }")
    feeds = {"x": np.array([-1, 4, np.nan, np.inf], np.float32)}
    result = Gate([feeds]).check(g, g.clone(), Effect.EXACT)
    assert result.passed
    assert result.deviation is not None
    assert result.deviation.identical


def test_the_reference_is_run_once_for_a_chain_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Graph] = []

    class Counted(Session):
        def __init__(self, g: Graph, **options: Any) -> None:
            built.append(g)
            super().__init__(g, **options)

    monkeypatch.setattr("nncomp.gate.Session", Counted)
    first = graph(TEXT)
    second, third = first.clone(), first.clone()
    checker = Gate()
    checker.check(first, second, Effect.EXACT)
    checker.check(second, third, Effect.EXACT)
    assert built == [first, second, third]


def test_a_reference_that_has_changed_is_run_again() -> None:
    g = graph(TEXT)
    checker = Gate()
    checker.check(g, g.clone(), Effect.EXACT)
    old = g.find("w2")
    g.replace_uses(old, g.add_constant("w2", np.zeros((5, 3), np.float32)))
    g.remove_unused([old])
    assert checker.check(g, g.clone(), Effect.EXACT).passed


# ---------------------------------------------------------------- inputs


def test_inputs_are_random_but_always_the_same() -> None:
    g = graph(TEXT)
    one, two = Gate(seed=3).feeds(g), Gate(seed=3).feeds(g)
    assert np.array_equal(one[0]["x"], two[0]["x"])
    assert not np.array_equal(one[0]["x"], Gate(seed=4).feeds(g)[0]["x"])


def test_inputs_that_are_given_are_used() -> None:
    feeds = [{"x": np.ones((4, 8), np.float32)}]
    assert Gate(feeds).feeds(graph(TEXT)) == feeds


def test_inputs_that_cannot_be_made_up_are_skipped_with_the_reason() -> None:
    g = graph("g (seq(float[2]) s) => (int64 y) { y = SequenceLength (s) }")
    result = Gate().check(g, g.clone(), Effect.EXACT)
    assert (result.passed, result.deviation) == (True, None)
    assert result.skipped == (
        "the graph cannot be run for comparison: "
        "input 's' is seq(float[2]): only dense numeric tensors can be generated"
    )


def test_a_graph_that_the_runtime_refuses_is_skipped_with_the_reason() -> None:
    g = graph("g (float[2] x) => (float[2] y) { y = com.acme.Foo (x) }")
    checker = Gate()
    for _ in range(2):
        result = checker.check(g, g.clone(), Effect.EXACT)
        assert result.passed
        assert result.skipped.startswith("the graph cannot be run for comparison: [ONNXRuntimeError]")


# ---------------------------------------------------------------- comparing


def run(**outputs: Any) -> dict[str, Any]:
    return outputs


def test_the_worst_output_of_all_samples_is_named() -> None:
    a = run(p=np.ones(4, np.float32), q=np.ones(4, np.float32))
    b = run(p=np.ones(4, np.float32), q=np.full(4, 1.5, np.float32))
    found = compare([a, a], [a, b])
    assert (found.identical, found.relative, found.worst_output) == (False, 0.5, "q")
    assert found.sqnr_db == pytest.approx(10 * np.log10(16 / 1))
    assert found.cosine == pytest.approx(1)


@pytest.mark.parametrize(
    "other",
    [
        np.ones(3, np.float32),
        np.ones((2, 2), np.float32),
        np.array([1, 1, 1, np.nan], np.float32),
        np.array([1, 1, 1, np.inf], np.float32),
        np.array(["a"] * 4, object),
    ],
    ids=["length", "rank", "nan", "inf", "text"],
)
def test_what_cannot_be_measured_is_infinitely_far_off(other: Any) -> None:
    found = compare([run(y=np.ones(4, np.float32))], [run(y=other)])
    assert (found.identical, found.relative, found.sqnr_db) == (False, np.inf, -np.inf)


def test_infinities_at_the_same_places_do_not_hide_the_rest() -> None:
    a, b = np.array([np.inf, 3, 4], np.float32), np.array([np.inf, 3, 4.5], np.float32)
    assert compare([run(y=a)], [run(y=b)]).relative == pytest.approx(0.1)


def test_other_element_types_are_a_difference() -> None:
    assert not compare([run(y=np.ones(2, np.float32))], [run(y=np.ones(2, np.float64))]).identical


def test_integers_booleans_and_text_are_compared_by_value() -> None:
    for data in (np.arange(3), np.array([True, False]), np.array(["a", "b"], object)):
        assert compare([run(y=data)], [run(y=data.copy())]).identical
    assert not compare([run(y=np.array(["a"], object))], [run(y=np.array(["b"], object))]).identical


def test_a_change_where_there_was_nothing_is_infinitely_large() -> None:
    assert compare([run(y=np.zeros(2, np.float32))], [run(y=np.ones(2, np.float32))]).relative == np.inf


def test_sequences_are_compared_element_by_element() -> None:
    a, b = np.ones(2, np.float32), np.ones((3, 3), np.float32)
    assert compare([run(s=[a, b])], [run(s=[a.copy(), b.copy()])]).identical
    assert compare([run(s=[a, b])], [run(s=[a, b * np.float32(1.5)])]).relative == 0.5
    assert compare([run(s=[a, b])], [run(s=[a])]).relative == 0.5  # 2 elements and 1


def test_maps_and_absent_optionals_are_compared_too() -> None:
    assert compare([run(m=[{1: 0.5}], o=None)], [run(m=[{1: 0.5}], o=None)]).identical
    assert not compare([run(m=[{1: 0.5}])], [run(m=[{2: 0.5}])]).identical
    assert not compare([run(o=None)], [run(o=np.ones(1, np.float32))]).identical


def test_a_graph_with_a_sequence_output_can_be_held_to_exactness() -> None:
    g = graph("g (float[4,2] x) => (s) { s = SplitToSequence <axis = 0> (x) }")
    assert Gate().check(g, g.clone(), Effect.EXACT).passed


# ---------------------------------------------------------------- the interface


def test_the_interface_is_names_and_types() -> None:
    g = graph("g (float[N,2] x, seq(int64[]) s) => (float[N] y, z) { y = com.acme.F (x)  z = com.acme.F (s) }")
    assert interface(g) == (("x: float[N,2]", "s: seq(int64[])"), ("y: FLOAT", "z: None"))


@pytest.mark.parametrize("name", ["renamed", "retyped", "reordered"])
def test_a_changed_input_is_refused(name: str) -> None:
    text = "g (float[2] x, float[2] z) => (float[2] y) { y = Add (x, z) }"
    before, after = graph(text), graph(text)
    if name == "renamed":
        after.rename(after.find("x"), "w")
    elif name == "retyped":
        after.set_type(after.find("x"), TensorType(DataType.FLOAT, ("N",)))
    else:
        after.swap_inputs(after.inputs[::-1])
    said = {
        "renamed": "(w: float[2], z: float[2])",
        "retyped": "(x: float[N], z: float[2])",
        "reordered": "(z: float[2], x: float[2])",
    }
    with pytest.raises(GateError) as error:
        check_interface(before, after, "shake")
    assert (error.value.code, error.value.where.pass_name) == ("NNC-G003", "shake")
    assert error.value.message == (
        f"pass 'shake' changed the graph inputs from (x: float[2], z: float[2]) to {said[name]}"
    )


def test_a_changed_output_is_refused_but_a_learned_shape_is_not() -> None:
    before = graph("g (float[2] x) => (float[N] y) { y = Relu (x) }")
    after = before.clone()
    after.set_type(after.find("y"), TensorType(DataType.FLOAT, (2,)))
    check_interface(before, after, "shake")
    after.set_outputs([after.find("y"), after.find("x")])
    with pytest.raises(GateError) as error:
        check_interface(before, after, "shake")
    assert error.value.message == "pass 'shake' changed the graph outputs from (y: FLOAT) to (y: FLOAT, x: FLOAT)"


def test_random_feeds_of_a_gate_fit_the_first_graph() -> None:
    g = graph(TEXT)
    assert {key: value.shape for key, value in random_feeds(g).items()} == {"x": (4, 8)}
