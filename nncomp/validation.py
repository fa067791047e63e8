"""What pydantic refuses, as one line of ours: which field, what was expected, and what was found.

Recipes, options of passes and targets, data options and files of plugins are all read by pydantic models; what they
refuse reads the same everywhere: ``quantize.bits: expected at most 8, got 9``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_LONGEST_VALUE: Final = 60

_EXPECTED: Final = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a table",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer of fewer digits",
    "int_type": "an integer",
    "list_type": "a list",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "string_type": "text",
    "tuple_type": "a list",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "union_tag_invalid": "one of {expected_tags}",
}
"""By pydantic's type of error; what is missing here is told in pydantic's own words."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a model refuses first of what it was given.

    Attributes:
        path: Keys and positions that lead to the field; empty where the whole is wrong.
        unknown: There is no such field.
        missing: There is a field of this name, and it was not given.
        reason: What was expected and what was found; "" when the field is unknown or missing.
        known: Fields there are in this place.
    """

    path: tuple[str, ...]
    unknown: bool
    missing: bool
    reason: str
    known: tuple[str, ...]

    @property
    def field(self) -> str:
        """The path, joined by dots."""
        return ".".join(self.path)

    def told(self, owner: str = "", *, noun: str = "key") -> str:
        """Return the line.

        Args:
            owner: What the fields belong to, such as the name of a pass; in front of the line.
            noun: What a field is called.
        """
        where = f"{owner}: " if owner else ""
        if self.unknown:
            return f"{where}unknown {noun} {self.field!r}"
        if self.missing:
            return f"{where}{self.field!r} is missing"
        place = ".".join(part for part in (owner, self.field) if part)
        return f"{place}: {self.reason}" if place else self.reason

    def hint(self, nouns: str = "known") -> str:
        """Return what an unknown field may have been meant to be, else which there are; "" for other errors."""
        if not self.unknown:
            return ""
        near = difflib.get_close_matches(self.path[-1], self.known, 1)
        return f"did you mean {near[0]!r}?" if near else f"{nouns}: {', '.join(self.known) or 'none'}"


def refusal(error: ValidationError, model: type[BaseModel]) -> Refusal:
    """Return what ``model`` refuses first; of all errors an unknown field, as a misspelt one is a missing one, too."""
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    path, known = _place(first, model)
    kind = first["type"]
    unknown, missing = kind == "extra_forbidden", kind in ("missing", "union_tag_not_found")
    return Refusal(path, unknown, missing, "" if unknown or missing else _reason(first), known)


def _place(error: ErrorDetails, model: type[BaseModel]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return where the error is, and which fields there are.

    Among the steps that lead there pydantic puts names of its own, such as the tag of a union's member, or ``[key]``
    behind the key of a table. Nobody wrote these, so they are left out.
    """
    here: Any = model
    path: list[str] = []
    known: tuple[str, ...] = ()
    for step in error["loc"]:
        fields = {name: info for one in _models(here) for name, info in one.model_fields.items()}
        if isinstance(step, str) and step in fields:
            known, here = tuple(fields), fields[step].annotation
        elif error["type"] == "extra_forbidden" and step == error["loc"][-1]:
            known = tuple(fields)
        elif isinstance(step, str) and (step == "[key]" or not _is_table(here)):
            here = next((one for one in _models(here) if _has_tag(one, step)), here)
            continue
        path.append(str(step))
    if error["type"].startswith("union_tag_"):
        path.append(error["ctx"]["discriminator"].strip("'"))
    return tuple(path), known


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that a type is made of: ``tuple[Level, ...]`` of Level."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _is_table(annotation: Any) -> bool:
    return get_origin(annotation) in (dict, Mapping) or any(_is_table(part) for part in get_args(annotation))


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in get_args(info.annotation) for info in model.model_fields.values())


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])  # a validator's own words
    context: Mapping[str, Any] = error.get("ctx", {})
    if error["type"] in _EXPECTED:
        said = "expected " + _EXPECTED[error["type"]].format(**{key: _number(value) for key, value in context.items()})
    else:
        said = re.sub(r"^Input should be", "expected", error["msg"])
        said = said[:1].lower() + said[1:]
    if 1 in (context.get("min_length"), context.get("max_length")):
        said = said.replace("entries", "entry").replace("characters", "character")
    found = context["tag"] if error["type"] == "union_tag_invalid" else error["input"]
    return f"{said}, got {_short(found)}"


def _number(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
