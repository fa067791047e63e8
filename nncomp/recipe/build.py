"""From a recipe to passes: every name and option is checked, and contradictions are found, before any work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from nncomp.errors import NncompError, RecipeError, Where
from nncomp.options import inline_table, parse_spec
from nncomp.passes import Pass
from nncomp.pipeline import Pipeline
from nncomp.plugins import Registry
from nncomp.recipe.schema import Recipe
from nncomp.targets import Capabilities


def build_passes(recipe: Recipe, registry: Registry, target: Capabilities | None = None) -> list[Pass]:
    """Return the passes of ``recipe``.

    Raises:
        RecipeError: a pass or option is unknown or wrong (NNC-R003, NNC-R010), or passes contradict each other or
            the target (NNC-R012).
        PluginError: a pass is unknown, and a plugin that may provide it is broken.
    """
    passes: list[Pass] = []
    for index, spec in enumerate(recipe.passes):
        where = _place(recipe, index)
        try:
            step = _build(spec, recipe.options, registry, where)
            objection = step.objection(target)
            if objection:
                raise RecipeError(f"pass {step.name!r}: {objection}", code="NNC-R012", where=where)
        except NncompError as error:
            raise _located(error, where) from None
        passes.append(step)
    for name in sorted(recipe.options.keys() - {step.name for step in passes}):
        raise _located(RecipeError(f"options.{name}: the recipe has no pass {name!r}"), Where(file=recipe.source.file))
    try:
        Pipeline(passes)
    except NncompError as error:
        raise _located(error, Where(file=recipe.source.file)) from None
    return passes


def full_spec(step: Pass) -> str:
    """Return the pass with all its options, defaults too: what a locked recipe holds."""
    values = {key: to_jsonable_python(getattr(step, key)) for key in type(step).model_fields}
    return f"{step.name}{inline_table(values)}" if values else step.name


def _build(spec: str, instead: Mapping[str, Mapping[str, Any]], registry: Registry, where: Where) -> Pass:
    name, given = parse_spec(spec, where=where)
    options = {**given, **instead.get(name, {})}
    if not name:
        raise RecipeError(f"pass {spec!r} has no name", code="NNC-R003", where=where)
    _refuse_not_finite(name, options)
    if name not in registry.passes and "(" in name:
        raise RecipeError(
            f"unknown pass {spec!r}", hint=f'options go in braces, as in {name.partition("(")[0]}{{key="text"}}'
        )
    if name not in registry.passes and "," in name:
        first, second = (part.strip() for part in name.split(",")[:2])
        raise RecipeError(f"unknown pass {name!r}", hint=f"one pass at a time: -p {first} -p {second}")
    return registry.pass_type(name).from_options(options, where=where)


def _refuse_not_finite(name: str, options: Mapping[str, Any]) -> None:
    pending: list[tuple[str, Any]] = list(options.items())
    while pending:
        key, value = pending.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{name}.{key}: expected a finite number, got {value}", code="NNC-R003")
        if isinstance(value, Mapping):
            pending += [(f"{key}.{inner}", item) for inner, item in value.items()]
        elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
            pending += [(key, item) for item in value]


def _place(recipe: Recipe, index: int) -> Where:
    lines = recipe.source.pass_lines
    return Where(file=recipe.source.file, line=lines[index] if index < len(lines) else None)


def _located(error: NncompError, where: Where) -> NncompError:
    """Put the place in front of the message of ``error``, unless it is there."""
    if where.file:
        place = where.file if where.line is None else f"{where.file}:{where.line}"
        error.message = f"{place}: {error.message}"
        error.args = (error.message,)
        error.where = where
    return error
