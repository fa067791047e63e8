"""``nncomp passes``, ``targets`` and ``plugins``: what is there, and what it takes.

JSON: ``passes``: ``[{name, summary, effect, plugin, after}]``; ``passes NAME``: ``{name, doc, effect, plugin, after,
options: {name: JSON schema}}``; ``targets``: ``[{name, summary, plugin, default_recipe, missing}]``; ``plugins``:
``[{name, origin, state, error, code, brings: {sort: [name]}}]``.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nncomp.cli.completion import pass_names
from nncomp.cli.options import Debug, Json, Plugins

if TYPE_CHECKING:
    from nncomp.passes import Pass

PassName = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="Show this pass and its options.", show_default=False, autocompletion=pass_names
    ),
]


def passes(name: PassName = None, plugin: Plugins = None, json: Json = False, debug: Debug = False) -> None:
    """List the passes, or show one with its options."""
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import show_json, show_table

    registry = load_registry(plugin)
    if name is not None:
        shown = _pass(registry.pass_type(name), registry.owner("pass", name))
        show_json(shown) if json else _show_pass(shown)
        return
    rows = [
        {
            "name": key,
            "summary": _summary(found),
            "effect": found.effect.value,
            "plugin": registry.owner("pass", key),
            "after": list(found.after),
        }
        for key, found in sorted(registry.passes.items())
    ]
    if json:
        show_json(rows)
        return
    show_table("", ("pass", "effect", "what it does"), [(row["name"], row["effect"], row["summary"]) for row in rows])


def targets(plugin: Plugins = None, json: Json = False, debug: Debug = False) -> None:
    """List the targets."""
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import show_json, show_table

    registry = load_registry(plugin)
    rows = [
        {
            "name": key,
            "summary": found.summary,
            "plugin": registry.owner("target", key),
            "default_recipe": found.default_recipe,
            "missing": found().missing(),
        }
        for key, found in sorted(registry.targets.items())
    ]
    if json:
        show_json(rows)
        return
    show_table(
        "",
        ("target", "ready", "what it is"),
        [(row["name"], row["missing"] or "yes", row["summary"]) for row in rows],
    )


def plugins(plugin: Plugins = None, json: Json = False, debug: Debug = False) -> None:
    """List the plugins and what each brings."""
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import show_json, show_table

    registry = load_registry(plugin)
    rows: list[dict[str, Any]] = [
        {
            "name": state.name,
            "origin": state.origin,
            "state": state.state,
            "error": state.error,
            "code": state.code,
            "brings": {sort: list(names) for sort, names in state.brings},
        }
        for state in registry.plugins
    ]
    if json:
        show_json(rows)
        return
    show_table(
        "",
        ("plugin", "from", "state", "brings"),
        [(row["name"], row["origin"], _state(row), _brings(row["brings"])) for row in rows],
    )


def _state(row: dict[str, Any]) -> str:
    return f"{row['state']}: {row['code']} {row['error']}" if row["error"] else str(row["state"])


def _brings(brings: dict[str, list[str]]) -> str:
    return "; ".join(f"{sort} {', '.join(names)}" for sort, names in brings.items() if names)


def _summary(found: type[Pass]) -> str:
    return (inspect.getdoc(found) or "").partition("\n")[0]


def _pass(found: type[Pass], owner: str) -> dict[str, Any]:
    return {
        "name": found.name,
        "doc": inspect.getdoc(found) or "",
        "effect": found.effect.value,
        "plugin": owner,
        "after": list(found.after),
        "options": found.model_json_schema().get("properties", {}),
        "definitions": found.model_json_schema().get("$defs", {}),
    }


def _show_pass(shown: dict[str, Any]) -> None:
    from nncomp.cli.tables import say, show_table

    say(f"{shown['name']} ({shown['effect']}, plugin {shown['plugin']})")
    say()
    for line in shown["doc"].splitlines():
        say(line)
    say()
    rows = [
        (name, _type(schema, shown["definitions"]), _value(schema.get("default")), schema.get("description", ""))
        for name, schema in shown["options"].items()
    ]
    if rows:
        show_table("", ("option", "type", "default", "what it does"), rows)
    else:
        say("It has no options.")


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the allowed values of an option in words."""
    if "$ref" in schema:
        return _type(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    if "enum" in schema:
        return " | ".join(_value(item) for item in schema["enum"])
    if "const" in schema:
        return _value(schema["const"])
    for several in ("anyOf", "allOf"):
        if several in schema:
            return " | ".join(_type(item, definitions) for item in schema[several])
    if schema.get("type") == "array":
        items = schema.get("items") or (schema.get("prefixItems") or [{}])[0]
        return f"list of {_type(items, definitions)}"
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return " ".join([str(schema.get("type", "value")), ", ".join(bounds)]).strip()


def _value(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
