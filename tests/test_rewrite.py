"""Rules: what patterns match, what is said when a rule declines, and what a rewrite must not break."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nncomp.ir import Graph, Op, Value
from nncomp.passes import Context, Note
from nncomp.rewrite import Match, OpPattern, Rule, any_value, const, matches, op, optional, rewrite, rule
from nncomp.testing import assert_same_function, assert_text, graph
from nncomp.verify import verify


@rule(op("Relu", op("Relu", any_value("x"))))
def collapse_double_relu(m: Match) -> Value:
    """Relu(Relu(x)) = Relu(x)."""
    return m.add("Relu", [m["x"]])


@rule(op("Identity", any_value("x")))
def drop_identity(m: Match) -> Value:
    """Identity(x) = x."""
    return m.require_forwardable(m["x"])


@rule(op("Mul", any_value("x"), const("k"), commutative=True))
def double_the_factor(m: Match) -> Value:
    """A rule that always fires again."""
    return m.add("Mul", [m["x"], m.constant("k", m.array("k") * 2)])


def found(text: str, pattern: OpPattern) -> list[str]:
    """The roots that ``pattern`` matches, by output name."""
    g = graph(text)
    ctx = Context()
    return [root.output.name for root in g.ops() if matches(g, pattern, root, ctx) is not None]


def match(text: str, pattern: OpPattern, root: str = "y") -> Match:
    g = graph(text)
    start = g.find(root).producer
    assert start is not None
    result = matches(g, pattern, start, Context())
    assert result is not None
    return result


# ---------------------------------------------------------------- patterns


def test_a_pattern_matches_its_kinds_only() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Add (x, x)  b = Sub (a, x)  c = Mul (b, x)  y = Relu (c) }"
    assert found(text, op("Add|Mul", any_value("a"), any_value("b"))) == ["a", "c"]


def test_a_pattern_matches_its_domain_only() -> None:
    text = "g (float[2] x) => (float[2] y) { a = Gelu (x)  y = com.microsoft.Gelu (a) }"
    assert found(text, op("Gelu", any_value("x"))) == ["a"]
    assert found(text, op("Gelu", any_value("x"), domain="com.microsoft")) == ["y"]


def test_one_name_is_one_value() -> None:
    text = "g (float[2] x, float[2] z) => (float[2] y) { a = Mul (x, z)  b = Mul (x, x)  y = Add (a, b) }"
    assert found(text, op("Mul", any_value("v"), any_value("v"))) == ["b"]


def test_a_constant_is_an_initializer_a_constant_node_or_a_capture_of_one() -> None:
    g = graph(
        "g (bool c, float[2] x, float[2] d = {1, 2}) => (float[2] y) <float[2] w = {1, 2}> {"
        "k = Constant <value = float[2] {3, 4}> ()  a = Mul (x, w)  b = Mul (a, k)  e = Mul (b, d)  f = Mul (e, a)"
        "y = If (c) <then_branch = t () => (p) { p = Mul (f, w) }, else_branch = o () => (q) { q = Mul (f, x) }> }"
    )
    pattern = op("Mul", any_value("x"), const("k"))
    assert [one.output.name for part, one in g.walk() if matches(part, pattern, one, Context())] == ["a", "b", "p"]


@pytest.mark.parametrize(
    ("data", "fits"),
    [("float k = {1.4142}", True), ("float[1,1] k = {1.41421354}", True), ("float k = {1.415}", False),
     ("float[2] k = {1.4142, 1.4142}", False), ("int64 k = {1}", False)],
)  # fmt: skip
def test_a_constant_may_have_to_be_about_a_number(data: str, fits: bool) -> None:
    text = f"g (float[2] x) => (y) <{data}> {{ y = com.acme.Div (x, k) }}"
    assert bool(found(text, op("Div", any_value("x"), const("k", 2**0.5), domain="com.acme"))) == fits


def test_an_optional_input_is_bound_to_what_is_there_or_to_none() -> None:
    pattern = op("Clip", any_value("x"), optional(const("low")), optional(const("high")))
    text = "g (float[2] x) => (float[2] y) <float h = {6}> { y = Clip (x, , h) }"
    m = match(text, pattern)
    assert (m.get("low"), m["high"].name) == (None, "h")
    with pytest.raises(KeyError) as error:
        m["low"]
    assert error.value.args[0] == "'low' is an optional input that is not given: use get()"
    assert match("g (float[2] x) => (float[2] y) { y = Clip (x) }", pattern).get("high") is None


def test_an_optional_input_that_is_there_must_fit() -> None:
    pattern = op("Clip", any_value("x"), optional(const("low")))
    assert found("g (float[2] x, float l) => (float[2] y) { y = Clip (x, l) }", pattern) == []


def test_an_input_that_is_needed_must_be_given() -> None:
    assert found("g (float[2] x) => (float[2] y) { y = Clip (x) }", op("Clip", any_value("x"), any_value("l"))) == []


def test_operands_of_a_commutative_op_may_stand_either_way() -> None:
    ordered = op("Add", any_value("x"), const("b"))
    either = op("Add", any_value("x"), const("b"), commutative=True)
    text = "g (float[2] x) => (float[2] y) <float[2] k = {1, 2}> { a = Add (x, k)  y = Add (k, a) }"
    assert found(text, ordered) == ["a"]
    assert found(text, either) == ["a", "y"]


def test_both_orders_are_tried_at_every_depth() -> None:
    inner = op("Mul", any_value("x"), const("k"), commutative=True)
    pattern = op("Add", any_value("x"), inner, commutative=True)
    text = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { a = Mul (w, x)  y = Add (a, x) }"
    assert match(text, pattern)["x"].name == "x"


def test_a_value_of_single_use_is_read_once_and_is_no_output() -> None:
    pattern = op("Neg", op("Relu", any_value("x"), single_use=True))
    assert found("g (float[2] x) => (float[2] y) { a = Relu (x)  y = Neg (a) }", pattern) == ["y"]
    assert found("g (float[2] x) => (float[2] a, float[2] y) { a = Relu (x)  y = Neg (a) }", pattern) == []
    assert found("g (float[2] x) => (float[2] y, z) { a = Relu (x)  y = Neg (a)  z = Abs (a) }", pattern) == []


def test_attributes_must_be_as_asked() -> None:
    pattern = op("Gemm", any_value("a"), any_value("b"), attrs={"transB": 1})
    text = "g (float[2,2] x) => (y) { a = Gemm (x, x)  b = Gemm <transB = 0> (a, x)  y = Gemm <transB = 1> (b, x) }"
    assert found(text, pattern) == ["y"]


def test_more_inputs_than_the_pattern_has_are_for_open_ended_ones() -> None:
    text = "g (float[2] x) => (y) { y = Concat <axis = 0> (x, x, x) }"
    assert found(text, op("Concat", any_value("a"), any_value("b"))) == []
    assert found(text, op("Concat", any_value("a"), any_value("b"), open_ended=True)) == ["y"]


def test_only_the_first_output_of_an_op_is_looked_through() -> None:
    pattern = op("Relu", op("Split", any_value("x")))
    assert found("g (float[4] x) => (y, z) { a, b = Split (x)  y = Relu (a)  z = Relu (b) }", pattern) == ["y"]


def test_ops_that_are_bound_can_be_asked_for() -> None:
    pattern = op("Neg", op("LeakyRelu", any_value("x"), bind="act"), bind="root")
    m = match("g (float[2] x) => (float[2] y) { a = LeakyRelu <alpha = 0.25> (x)  y = Neg (a) }", pattern)
    assert (m.op("act").attr("alpha"), m.op("root") is m.root) == (0.25, True)


def test_a_bound_value_that_is_not_constant_has_no_data() -> None:
    m = match("g (float[2] x) => (float[2] y) { y = Neg (x) }", op("Neg", any_value("x")))
    with pytest.raises(KeyError) as error:
        m.array("x")
    assert error.value.args[0] == "'x' is not constant"


# ---------------------------------------------------------------- rewriting


def test_a_rule_is_named_after_its_function_and_keeps_its_docstring() -> None:
    assert [(one.name, one.doc) for one in collapse_double_relu] == [
        ("collapse-double-relu", "Relu(Relu(x)) = Relu(x).")
    ]


def test_a_function_with_several_patterns_is_several_rules_of_one_name() -> None:
    @rule(op("Abs", any_value("x")), op("Neg", any_value("x")))
    def two_ways(m: Match) -> Value:
        return m["x"]

    assert [one.name for one in two_ways] == ["two-ways", "two-ways"]


def test_rules_are_applied_until_none_fires() -> None:
    before = graph("g (float[2] x) => (float[2] y) { a = Relu (x)  b = Relu (a)  c = Relu (b)  y = Relu (c) }")
    after = before.clone()
    ctx = Context()
    assert rewrite(after, [collapse_double_relu], ctx) == 3
    assert_text(after, "g (float[2] x) => (float[2] y) { y = Relu (x) }")
    assert ctx.notes == [Note("fired", "collapse-double-relu", f"Relu({name})") for name in ("b", "c", "y")]
    assert_same_function(before, after, exact=True)


def test_a_replacement_keeps_names_doc_and_type_of_what_it_replaces() -> None:
    g = graph("g (float[2] x) => (float[2] y) <float[2] b> { a = Relu (x)  [act] b = Relu (a)  y = Neg (b) }")
    rewrite(g, [collapse_double_relu], Context())
    relu = g.ops()[0]
    assert (relu.name, relu.output.name, str(relu.output.type)) == ("act", "b", "float[2]")


def test_an_op_may_be_named_like_another_than_the_root() -> None:
    @rule(op("Neg", op("Relu", any_value("x"), bind="relu")))
    def rename(m: Match) -> Value:
        return m.add("Abs", [m["x"]], like=m.op("relu"))

    g = graph("g (float[2] x) => (float[2] y) { [r] a = Relu (x)  [n] y = Neg (a) }")
    rewrite(g, [rename], Context())
    assert [(one.kind, one.name) for one in g.ops()] == [("Abs", "r")]


def test_what_others_still_read_stays() -> None:
    g = graph("g (float[2] x) => (float[2] y, float[2] z) { a = Relu (x)  y = Relu (a)  z = Neg (a) }")
    rewrite(g, [collapse_double_relu], Context())
    assert_text(g, "g (float[2] x) => (float[2] y, float[2] z) { a = Relu (x)  z = Neg (a)  y = Relu (x) }")


def test_a_rule_may_give_several_outputs_and_leave_some() -> None:
    @rule(op("Split", any_value("x"), bind="split"))
    def halve(m: Match) -> tuple[Value | None, ...]:
        if not m.graph.uses(m.root.output):
            raise m.reject("nobody reads the first half")
        return (m.add("Neg", [m["x"]]), None)

    g = graph("g (float[4] x) => (float[2] y, float[2] z) { a, b = Split (x)  y = Relu (a)  z = Relu (b) }")
    rewrite(g, [halve], Context())
    assert [g.find(name).producer.inputs[0].producer.kind for name in "yz"] == ["Neg", "Split"]  # type: ignore[union-attr]
    verify(g)


def test_bodies_are_rewritten_too_and_no_pattern_crosses_their_border() -> None:
    text = (
        "g (bool c, float[2] x) => (float[2] y) { h = Relu (x)  y = If (c) <then_branch = t () => (p) "
        "{ a = Relu (h)  p = Relu (a) }, else_branch = e () => (q) { q = Relu (h) }> }"
    )
    before, after = graph(text), graph(text)
    assert rewrite(after, [collapse_double_relu], Context()) == 1
    then, other = after.ops()[1].bodies.values()
    assert [len(then.ops()), len(other.ops())] == [1, 1]
    verify(after)
    assert_same_function(before, after, exact=True)


def test_the_first_rule_that_fires_at_an_op_has_it() -> None:
    @rule(op("Relu", any_value("x")))
    def first(m: Match) -> Value:
        return m.add("Abs", [m["x"]])

    @rule(op("Relu", any_value("x")))
    def second(m: Match) -> Value:
        return m.add("Neg", [m["x"]])

    g = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    rewrite(g, [first, second], Context())
    assert [one.kind for one in g.ops()] == ["Abs"]


def test_new_constants_are_named_after_what_they_come_from() -> None:
    @rule(op("Mul", any_value("x"), const("k")))
    def as_sum(m: Match) -> Value:
        return m.add("Add", [m["x"], m.constant("k", m.array("k") + 1)])

    g = graph("g (float[2] x) => (float[2] y) <float[2] scale = {1, 2}> { y = Mul (x, scale) }")
    rewrite(g, [as_sum], Context())
    constant = g.constants()[0]
    assert constant.name == "scale_1"
    assert g.array(constant).tolist() == [2, 3]  # type: ignore[union-attr]


def test_a_constant_keeps_its_shape_even_as_a_scalar() -> None:
    m = match("g (float[2] x) => (float[2] y) { y = Neg (x) }", op("Neg", any_value("x")))
    assert m.constant("k", np.array(2, np.float32)).shape == ()
    assert m.constant("k", np.zeros((2, 3), np.float32).T).shape == (3, 2)


# ---------------------------------------------------------------- declining


def declining(*, after_adding: bool) -> tuple[Rule, ...]:
    @rule(op("Relu", any_value("x")))
    def no_relu(m: Match) -> Value:
        if after_adding:
            m.add("Mul", [m.add("Neg", [m["x"]]), m.constant("half", np.full(2, 0.5, np.float32))])
            m.constant("unused", np.zeros(2, np.float32))
        raise m.reject("x is too good")

    return no_relu


def test_a_rule_that_declines_says_why_once() -> None:
    g = graph("g (float[2] x) => (float[2] y) { [act] a = Relu (x)  b = Relu (a)  y = Relu (b) }")
    ctx = Context()
    assert rewrite(g, [collapse_double_relu, declining(after_adding=False)], ctx) == 2
    assert [note for note in ctx.notes if note.event == "declined"] == [
        Note("declined", "no-relu", "Relu(y)", "x is too good")
    ]


def test_a_rule_that_declines_takes_back_what_it_had_added() -> None:
    g = graph("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    assert rewrite(g, [declining(after_adding=True)], Context()) == 0
    assert [value.name for value in g.values()] == ["x", "y"]
    assert [one.kind for one in g.ops()] == ["Relu"]


def test_a_graph_without_a_match_is_not_touched() -> None:
    g = graph("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    version = g.version
    assert rewrite(g, [collapse_double_relu], Context()) == 0
    assert g.version == version


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2] x) => (float[2] y) { y = Identity (x) }",
        "g () => (float[2] y) <float[2] w = {1, 2}> { y = Identity (w) }",
        "g (float[2] x) => (float[2] z, float[2] y) { z = Relu (x)  y = Identity (z) }",
    ],
    ids=["input", "constant", "another output"],
)
def test_the_interface_is_protected(text: str) -> None:
    g = graph(text)
    ctx = Context()
    assert rewrite(g, [drop_identity], ctx) == 0
    assert ctx.notes == [Note("declined", "drop-identity", "Identity(y)", "the graph interface needs this name")]


def test_an_ordinary_value_takes_over_an_outputs_name() -> None:
    g = graph("g (float[N] x) => (float[N] y) { a = Relu (x)  y = Identity (a) }")
    rewrite(g, [drop_identity], Context())
    assert_text(g, "g (float[N] x) => (float[N] y) { y = Relu (x) }")


def test_a_rule_that_always_fires_is_stopped_and_named() -> None:
    g = graph("g (float[2] x) => (float[2] y) <float[2] k = {1, 2}> { y = Mul (x, k) }")
    ctx = Context()
    assert rewrite(g, [double_the_factor], ctx) == 64
    assert ctx.notes[-1] == Note("warning", "rewrite", reason="rules still fire after 64 sweeps of 'g'")
    assert [one.kind for one in g.ops()] == ["Mul"]
    assert len(g.constants()) == 1


def counting(seen: list[Op]) -> Callable[[Match], Value]:
    def look(m: Match) -> Value:
        seen.append(m.root)
        raise m.reject("only looking")

    return look


def test_a_sweep_tries_each_op_with_the_rules_of_its_kind_only() -> None:
    g = Graph()
    value = g.add_input("x", None)
    for number in range(100):
        value = g.add_op("Relu" if number % 10 else "Neg", [value]).output
    seen: list[Op] = []
    rewrite(g, [rule(op("Neg", any_value("x")))(counting(seen))], Context())
    assert len(seen) == 10
