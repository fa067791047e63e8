"""Options: what a pass or a target can be told, typed and checked, and the one spelling ``name{key=value, ...}``.

The options are the fields of a pydantic model; the part in braces is a TOML inline table, the same in Python, on the
command line and in recipes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import PydanticUndefined, to_jsonable_python

from nncomp.errors import RecipeError, Where
from nncomp.validation import refusal

M = TypeVar("M", bound=BaseModel)

_CONTROL_CHARACTERS: Final = (*range(0x20), 0x7F)  # TOML takes none of them as it is
_TOML_ESCAPES: Final = str.maketrans(
    {**{code: f"\\u{code:04x}" for code in _CONTROL_CHARACTERS}, "\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
)
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def option(default: Any = PydanticUndefined, *, help: str, **constraints: Any) -> Any:
    """Declare an option: a pydantic field with a help text and, if wanted, bounds (``ge=2, le=8``)."""
    return Field(default, description=help, **constraints)


def read_options(kind: type[M], given: Mapping[str, object], *, owner: str, where: Where | None = None) -> M:
    """Return the model ``kind`` with the fields that are given; the others keep their defaults.

    Args:
        kind: A model that forbids extra fields.
        given: Values by field.
        owner: Name of the pass or target, for messages.
        where: Where the options were written, for messages.

    Raises:
        RecipeError: an option is unknown, of the wrong type, or out of range (NNC-R010).
    """
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        refused = refusal(error, kind)
        raise RecipeError(refused.told(owner, noun="option"), where=where, hint=refused.hint("options")) from None


def spec_of(name: str, options: BaseModel) -> str:
    """Return ``name{key=value, ...}`` with the options that are not at their defaults: ``quantize{bits=4}``."""
    changed = {
        key: to_jsonable_python(getattr(options, key))
        for key, info in type(options).model_fields.items()
        if getattr(options, key) != info.get_default(call_default_factory=True)
    }
    return f"{name}{inline_table(changed)}" if changed else name


def inline_table(values: Mapping[str, object]) -> str:
    """Return ``values`` as a TOML inline table; None entries, which TOML cannot write, are left out."""
    return "{" + ", ".join(f"{_key(key)}={_toml(value)}" for key, value in values.items() if value is not None) + "}"


def toml_text(text: str) -> str:
    """Return ``text`` as a TOML basic string."""
    return '"' + text.translate(_TOML_ESCAPES) + '"'


def parse_spec(text: str, *, where: Where | None = None) -> tuple[str, dict[str, object]]:
    """Split ``name{key=value, ...}``; the part in braces is a TOML inline table.

    Raises:
        RecipeError: the text has another form (NNC-R003).
    """
    name, brace, _ = text.strip().partition("{")
    name = name.strip()
    if not brace:
        return name, {}
    try:
        table = tomllib.loads("options = " + text.strip()[text.strip().index("{") :])
        if len(table) > 1:
            raise tomllib.TOMLDecodeError("text behind the closing brace")
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            f"{text!r} is not of the form name{{key=value, ...}}: {str(error).partition(' (at ')[0]}",
            code="NNC-R002" if "overwrite" in str(error).lower() or "duplicate" in str(error).lower() else "NNC-R003",
            where=where,
            hint='text goes in quotes, as in quantize{method="mse"}',
        ) from None
    return name, table["options"]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else toml_text(key)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return toml_text(value)
    if isinstance(value, Mapping):
        return inline_table(value)
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
