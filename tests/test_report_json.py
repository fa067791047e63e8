"""The text of a report is the one that Python's own encoder writes, but for lists of numbers."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nncomp.report.jsontext import json_text

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


def spread(text: str) -> str:
    """Put each number of a list of numbers on a line of its own, as Python does."""
    return json.dumps(json.loads(text), indent=2)


@given(VALUES)
@settings(max_examples=200)
def test_it_is_json_as_python_indents_it(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert spread(text) == json.dumps(value, indent=2)


def test_a_list_of_numbers_stands_on_one_line() -> None:
    value = {"a": [1, 2.5, -1e-09], "b": [[1], [True, 2]], "c": [], "d": {}, "e": [{"f": None}], "g": "[1,\n2]"}
    assert json_text(value) == (
        '{\n  "a": [1, 2.5, -1e-09],\n  "b": [\n    [1],\n    [\n      true,\n      2\n    ]\n  ],\n  "c": [],\n'
        '  "d": {},\n  "e": [\n    {\n      "f": null\n    }\n  ],\n  "g": "[1,\\n2]"\n}'
    )


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match=f"^JSON has no number for {number!r}$"):
        json_text({"a": [number]})
