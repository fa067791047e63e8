"""``nncomp doctor``: what is installed, what works, what does not, and the line that mends it.

A target works when it builds a small product, and runs it.

JSON: ``{nncomp, python, system, processor: {machine, name, cores, features: [name] | null, int8}, parts: [{name,
wanted, version, extra, install}], targets: [{name, plugin, missing, error}], plugins: [{name, origin, state, error,
code}], cache: {folder, entries, size, writable}, problems: [{code, message, where, hint}]}``.

Exit status: 0, or that of the first problem: 4 for a package that nncomp cannot do without, or a target that does not
work although nothing is missing, 7 for a broken plugin. What is optional is no problem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from nncomp.cli.options import Debug, Json, Plugins, default_cache

if TYPE_CHECKING:
    from nncomp.errors import NncompError
    from nncomp.installation import Part
    from nncomp.plugins import Registry
    from nncomp.targets import Target


def doctor(plugin: Plugins = None, json: Json = False, debug: Debug = False) -> None:
    """Say what is installed, which targets work, and what installs the rest."""
    import platform
    from dataclasses import asdict

    from nncomp import __version__
    from nncomp.cli.tables import show_json
    from nncomp.installation import cache_state, parts, processor, python

    machine, packages = processor(), parts()
    problems = _missing_parts(packages)
    targets: list[dict[str, str]] = []
    plugins: list[dict[str, str]] = []
    if not problems:  # plugins cannot be asked without them
        registry = _registry(plugin)
        targets, plugins = _targets(registry), _plugins(registry)
        problems = [*_broken_plugins(registry), *_broken_targets(targets)]
    found: dict[str, Any] = {
        "nncomp": __version__,
        "python": python(),
        "system": platform.platform(),
        "processor": {**asdict(machine), "int8": machine.int8},
        "parts": [{**asdict(part), "install": part.install} for part in packages],
        "targets": targets,
        "plugins": plugins,
        "cache": asdict(cache_state(default_cache())),
        "problems": [error.as_dict() for error in problems],
    }
    if json:
        show_json(found)
    else:
        _show(found)
    if problems:
        raise typer.Exit(problems[0].exit_status)


def _registry(extra: list[str] | None) -> Registry:
    from nncomp.plugins import Registry

    return Registry.discover(extra or ())


def _targets(registry: Registry) -> list[dict[str, str]]:
    rows = []
    for name in sorted(registry.targets):
        missing, error = _tried(registry, name)
        rows.append({"name": name, "plugin": registry.owner("target", name), "missing": missing, "error": error})
    return rows


def _tried(registry: Registry, name: str) -> tuple[str, str]:
    """Return what a target lacks, and what goes wrong when it builds and runs a product."""
    from nncomp.errors import UnsupportedError
    from nncomp.isolation import isolated

    try:
        with isolated():
            target = registry.target(name)
            missing = target.missing()
            if not missing:
                _run_product(target, registry)
            return missing, ""
    except UnsupportedError as error:  # something beside its library, such as a linker
        return error.message, ""
    except Exception as error:  # noqa: BLE001  a target may fail in any way; finding that out is what this is for
        return "", f"{type(error).__name__}: {error}".partition("\n")[0]


def _run_product(target: Target, registry: Registry) -> None:
    import numpy as np

    from nncomp.infer import infer_types
    from nncomp.ir import DataType, Graph, ModelInfo, TensorType
    from nncomp.passes import Context

    opset = min(17, target.capabilities.opsets[1])
    graph = Graph("doctor", info=ModelInfo(ir_version=8, opsets={"": opset}))
    data = graph.add_input("x", TensorType(DataType.FLOAT, (2, 4)))
    weight = graph.add_constant("w", np.ones((4, 3), np.float32))
    graph.set_outputs([graph.add_op("MatMul", [data, weight], ["y"]).output])
    infer_types(graph, registry.ops)
    ctx = Context(ops=registry.ops, target=target.capabilities)
    found = target.build(graph, ctx).run({"x": np.ones((2, 4), np.float32)})
    if not np.array_equal(found["y"], np.full((2, 3), 4)):
        raise ArithmeticError(f"a product of ones gives {found['y'].tolist()}, expected fours")


def _plugins(registry: Registry) -> list[dict[str, str]]:
    return [
        {"name": one.name, "origin": one.origin, "state": one.state, "error": one.error, "code": one.code}
        for one in registry.plugins
    ]


def _missing_parts(packages: list[Part]) -> list[NncompError]:
    from nncomp.errors import UnsupportedError

    return [
        UnsupportedError(f"package {part.name!r} is not installed", code="NNC-T001", hint=part.install)
        for part in packages
        if not part.version and not part.extra
    ]


def _broken_plugins(registry: Registry) -> list[NncompError]:
    from nncomp.errors import PluginError

    return [
        PluginError(f"plugin {one.name!r} of {one.origin} is left out: {one.error}", code=one.code)
        for one in registry.plugins
        if one.state == "broken"
    ]


def _broken_targets(targets: list[dict[str, str]]) -> list[NncompError]:
    from nncomp.errors import UnsupportedError

    return [
        UnsupportedError(f"target {one['name']!r} does not work: {one['error']}") for one in targets if one["error"]
    ]


def _show(found: dict[str, Any]) -> None:
    from nncomp.cli.streams import message, one_line
    from nncomp.cli.tables import bytes_text, say, show_table

    processor, targets, cache = found["processor"], found["targets"], found["cache"]
    say(f"nncomp {found['nncomp']}, python {found['python']}, {found['system']}")
    say(f"processor: {processor['name'] or processor['machine']}, {processor['cores']} cores; {_features(processor)}")
    say()
    show_table(
        "",
        ("package", "wanted", "installed", "for"),
        [
            (part["name"], part["wanted"], part["version"] or part["install"], part["extra"] or "nncomp itself")
            for part in found["parts"]
        ],
    )
    say()
    works = [f"no: {one['missing'] or one['error']}" if one["missing"] or one["error"] else "yes" for one in targets]
    show_table(
        "",
        ("target", "plugin", "works"),
        [(one["name"], one["plugin"], state) for one, state in zip(targets, works, strict=True)],
    )
    say()
    if cache["folder"]:
        state = "" if cache["writable"] else "; it cannot be written to, so nothing is kept"
        say(f"cache: {cache['folder']}, {cache['entries']} files, {bytes_text(cache['size'])}{state}")
    else:
        say("cache: none, for there is no home folder")
    for problem in found["problems"]:
        message(f"error {problem['code']}: {one_line(problem['message'])}")
        if problem["hint"]:
            message(problem["hint"], prefix="  hint: ")
    if not found["problems"]:
        say("all that nncomp needs is there")


def _features(processor: dict[str, Any]) -> str:
    if processor["features"] is None:
        return "the system does not tell what it can do"
    has = ", ".join(processor["features"]) or "none of the features that matter here"
    return f"{has}; {'with' if processor['int8'] else 'without'} instructions for INT8 products"
