"""Passes: options that are checked, one spelling for all places, and notes that can be counted."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nncomp.errors import NncompWarning, RecipeError, Where
from nncomp.ir import Graph
from nncomp.options import inline_table, option, parse_spec, toml_text
from nncomp.passes import Context, Effect, Note, Pass, Silence, counted


class Shake(Pass):
    """Shake the graph."""

    name: ClassVar[str] = "shake"
    effect: ClassVar[Effect] = Effect.LOSSY

    bits: int = option(8, help="width", ge=2, le=8)
    factor: float = option(0.5, help="how much")
    per_channel: bool = option(True, help="one an axis")
    method: str = option("minmax", help="which way")
    skip: tuple[str, ...] = option((), help="ops to leave")
    sizes: dict[str, int] = option({}, help="by name")
    limit: int | None = option(None, help="none is no limit")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Do nothing."""


class Plain(Pass):
    """Has no options."""

    name: ClassVar[str] = "plain"
    effect: ClassVar[Effect] = Effect.EXACT

    def run(self, graph: Graph, ctx: Context) -> None:
        """Do nothing."""


def refusal(options: dict[str, Any], kind: type[Pass] = Shake) -> RecipeError:
    with pytest.raises(RecipeError) as error:
        kind.from_options(options, where=Where(file="r.toml", line=3))
    return error.value


# ---------------------------------------------------------------- options


def test_options_have_defaults_help_and_a_schema() -> None:
    assert Shake().bits == 8
    properties = Shake.model_json_schema()["properties"]
    assert properties["bits"] == {
        "default": 8,
        "description": "width",
        "maximum": 8,
        "minimum": 2,
        "title": "Bits",
        "type": "integer",
    }


def test_a_pass_is_frozen() -> None:
    with pytest.raises(ValueError, match="Instance is frozen"):
        Shake().bits = 4  # type: ignore[misc]


def test_equal_options_make_equal_passes() -> None:
    assert Shake(bits=4) == Shake(bits=4) != Shake()


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"bit": 4}, "shake: unknown option 'bit'", "did you mean 'bits'?"),
        (
            {"colour": 4},
            "shake: unknown option 'colour'",
            "options: bits, factor, per_channel, method, skip, sizes, limit",
        ),
        ({"bits": 1}, "shake.bits: expected at least 2, got 1", ""),
        ({"bits": 9}, "shake.bits: expected at most 8, got 9", ""),
        (
            {"bits": "many"},
            "shake.bits: expected an integer, got 'many'",
            "",
        ),
        (
            {"per_channel": 7},
            "shake.per_channel: expected true or false, got 7",
            "",
        ),
        ({"skip": ["a", 1]}, "shake.skip.1: expected text, got 1", ""),
        (
            {"sizes": {"a": "x"}},
            "shake.sizes.a: expected an integer, got 'x'",
            "",
        ),
    ],
)
def test_an_option_that_is_wrong_is_refused(options: dict[str, Any], message: str, hint: str) -> None:
    error = refusal(options)
    assert (error.code, error.message, error.hint) == ("NNC-R010", message, hint)
    assert error.where == Where(file="r.toml", line=3)


def test_a_pass_without_options_says_so() -> None:
    error = refusal({"bits": 4}, Plain)
    assert (error.message, error.hint) == ("plain: unknown option 'bits'", "options: none")


def test_a_pass_has_no_objection_to_a_target_unless_it_says_so() -> None:
    assert Shake().objection(None) == ""


# ---------------------------------------------------------------- the one spelling


@pytest.mark.parametrize(
    ("step", "spec"),
    [
        (Plain(), "plain"),
        (Shake(), "shake"),
        (Shake(bits=4, method="mse"), 'shake{bits=4, method="mse"}'),
        (Shake(per_channel=False, factor=1e-5), "shake{factor=1e-05, per_channel=false}"),
        (Shake(skip=("a", 'b"c')), 'shake{skip=["a", "b\\"c"]}'),
        (Shake(sizes={"a": 1, "b c": 2}), 'shake{sizes={a=1, "b c"=2}}'),
        (Shake(limit=3), "shake{limit=3}"),
    ],
)
def test_a_spec_says_what_is_not_at_its_default(step: Pass, spec: str) -> None:
    assert step.spec == spec


TEXT = st.text(st.characters(codec="utf-8"))


@given(
    st.builds(
        Shake,
        bits=st.integers(2, 8),
        factor=st.floats(allow_nan=False),
        per_channel=st.booleans(),
        method=TEXT,
        skip=st.lists(TEXT).map(tuple),
        sizes=st.dictionaries(TEXT, st.integers(-(2**63), 2**63 - 1)),
        limit=st.none() | st.integers(0),
    )
)
@example(Shake(method="\x00\x08\x1f\x7f\r\n\t\\\"'é\u2028"))
@example(Shake(sizes={"": 0, "a.b": 1, '"': 2}))
@example(Shake(factor=float("inf")))
def test_a_spec_reads_back_as_the_same_pass(step: Shake) -> None:
    name, options = parse_spec(step.spec)
    assert name == "shake"
    assert Shake.from_options(options) == step


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("cleanup", "cleanup", {}),
        ("  cleanup  ", "cleanup", {}),
        ("q{}", "q", {}),
        ("q {bits=4}", "q", {"bits": 4}),
        ("q{ a = [1, 2], b = {c = 'd'} }", "q", {"a": [1, 2], "b": {"c": "d"}}),
        ('q{skip=["{", "}"]}', "q", {"skip": ["{", "}"]}),
    ],
)
def test_a_spec_is_a_name_and_a_toml_table(text: str, name: str, options: dict[str, object]) -> None:
    assert parse_spec(text) == (name, options)


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("q{bits=4", "NNC-R003", "Unclosed inline table"),
        ("q{method=mse}", "NNC-R003", "Invalid value"),
        ("q{bits:4}", "NNC-R003", "Expected '=' after a key in a key/value pair"),
        ("q{bits=4} more", "NNC-R003", "Expected newline or end of document after a statement"),
        ("q{bits=4}\nmore=1", "NNC-R003", "text behind the closing brace"),
        ("q{bits=4, bits=5}", "NNC-R002", "Duplicate inline table key 'bits'"),
    ],
)
def test_a_spec_of_another_form_is_refused(text: str, code: str, reason: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse_spec(text, where=Where(line=2))
    assert error.value.code == code
    assert error.value.message == f"{text!r} is not of the form name{{key=value, ...}}: {reason}"
    assert (error.value.hint, error.value.where.line) == ('text goes in quotes, as in quantize{method="mse"}', 2)


def test_an_inline_table_leaves_out_what_toml_cannot_say() -> None:
    assert inline_table({"a": None, "b": True, "c": 1.5, "d": "x"}) == '{b=true, c=1.5, d="x"}'
    assert toml_text("a\x01") == '"a\\u0001"'


# ---------------------------------------------------------------- context and notes


def test_fresh_notes_are_collected_and_still_land_in_the_context() -> None:
    ctx = Context()
    ctx.note("info", "before")
    with ctx.fresh_notes() as notes:
        ctx.note("fired", "rule", node="a")
        assert notes == [Note("fired", "rule", "a")]
    assert [note.subject for note in ctx.notes] == ["before", "rule"]


def test_fresh_notes_land_in_the_context_when_something_fails() -> None:
    ctx = Context()
    with pytest.raises(KeyError), ctx.fresh_notes():
        ctx.note("fired", "rule")
        raise KeyError
    assert [note.subject for note in ctx.notes] == ["rule"]


def test_a_warning_is_a_note_with_a_code() -> None:
    ctx = Context()
    ctx.warn(NncompWarning("this is odd", code="NNC-W030"), node="w")
    assert ctx.notes == [Note("warning", "NncompWarning", "w", "this is odd", "NNC-W030")]


def test_notes_that_differ_by_node_only_are_counted_the_most_frequent_first() -> None:
    notes = [Note("declined", "r", node, "no") for node in "ab"]
    assert counted([Note("fired", "r", "z"), *notes]) == [(notes[0], 2), (Note("fired", "r", "z"), 1)]


def test_progress_that_nobody_watches_does_nothing() -> None:
    Silence().step("passes", 1, None)
