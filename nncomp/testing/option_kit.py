"""What check_pass and check_target ask of options: each has a help text, and refuses what it cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

from nncomp.errors import CODES, RecipeError
from nncomp.testing.lawful import Breach

UNKNOWN: Final = "no_such_option"


def silent(options: type[BaseModel]) -> Iterator[Breach]:
    """Yield the first option without a help text."""
    keys = [key for key, info in options.model_fields.items() if not info.description]
    yield from (Breach("declared", f"option {key!r} has no help") for key in keys[:1])


def refusals(
    read: Callable[[Mapping[str, Any]], object], options: type[BaseModel], others: Sequence[object] = ()
) -> Iterator[Breach]:
    """Yield what is taken that cannot be: an option that there is not, and an object for each that there is.

    Args:
        read: ``from_options`` of a pass or a target.
        options: Its options.
        others: More values for each option, that some options take; an error they cause must name the option, too.
    """
    yield from _refusal(read, UNKNOWN, 1, must=True)
    for key in options.model_fields:
        yield from _refusal(read, key, object(), must=True)
        for value in others:
            yield from _refusal(read, key, value, must=False)


def _refusal(read: Callable[[Mapping[str, Any]], object], key: str, value: Any, *, must: bool) -> Iterator[Breach]:
    given = f"{key}={value!r}" if type(value) is not object else f"{key}=object()"
    try:
        read({key: value})
    except RecipeError as error:
        if key not in error.message or error.code not in CODES:
            yield Breach("refusals", f"{given} is refused without its name: {error.message}")
    except Exception as error:  # noqa: BLE001  a validator of somebody else's may raise anything
        yield Breach("refusals", f"{given} raises {type(error).__name__}: {error}")
    else:
        if must:
            yield Breach("refusals", f"{given} is taken without a word")
