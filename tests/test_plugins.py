"""The registry: plugins are asked one by one, committed all or none, and never take each other down."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from nncomp.errors import NncompError, PluginError, RecipeError
from nncomp.hookspecs import hookimpl
from nncomp.ir import Graph
from nncomp.ops import OpSemantics
from nncomp.passes import Context, Effect, Pass
from nncomp.plugins import PluginState, Registry
from nncomp.targets import Artifact, Capabilities, Finding, Target
from nncomp.testing import graph


def made_pass(called: str) -> type[Pass]:
    class Made(Pass):
        name: ClassVar[str] = called
        effect: ClassVar[Effect] = Effect.EXACT

        def run(self, graph: Graph, ctx: Context) -> None:
            """Do nothing."""

    return Made


class Toy(Target):
    """A target."""

    name: ClassVar[str] = "toy"
    summary: ClassVar[str] = "runs nothing"
    capabilities: ClassVar[Capabilities] = Capabilities(max_ir_version=10, opsets=(7, 21))
    default_recipe: ClassVar[str] = ""

    def missing(self) -> str:
        """See Target."""
        return ""

    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """See Target."""
        return []

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """See Target."""
        raise NotImplementedError


def plugin(*, api: object = 1, **hooks: Callable[[], object]) -> ModuleType:
    module = ModuleType("acme")
    if api is not None:
        module.NNCOMP_API = api  # type: ignore[attr-defined]
    for name, hook in hooks.items():
        setattr(module, f"nncomp_{name}", hookimpl(hook))
    return module


def loaded(*modules: ModuleType) -> Registry:
    """A registry with plugins called p0, p1, ..."""
    registry = Registry()
    for number, module in enumerate(modules):
        registry.load(f"p{number}", lambda module=module: module, origin=f"dist{number} 1.0")  # type: ignore[misc]
    return registry


def warnings(registry: Registry) -> list[tuple[str, str]]:
    return [(warning.code, warning.message) for warning in registry.warnings]


# ---------------------------------------------------------------- what a plugin brings


def test_everything_that_a_plugin_brings_is_found_by_name() -> None:
    first, watcher, source = made_pass("first"), type("W", (), {"name": "watch"}), type("D", (), {"name": "camera"})
    row = OpSemantics(kind="Dense", domain="com.acme")
    registry = loaded(
        plugin(
            passes=lambda: [first],
            targets=lambda: [Toy],
            recipes=lambda: {"quick": "/recipes/quick.toml"},
            instruments=lambda: [watcher],
            data_sources=lambda: [source],
            ops=lambda: [row],
        )
    )
    assert registry.pass_type("first") is first
    assert isinstance(registry.target("toy"), Toy)
    assert registry.recipe_path("quick") == Path("/recipes/quick.toml")
    assert (registry.instruments, registry.data_sources) == ({"watch": watcher}, {"camera": source})
    op = graph("g (float[2] x) => (y) { y = com.acme.Dense (x) }").ops()[0]
    assert registry.ops.row(op, {"com.acme": 1}) is row
    assert registry.plugins == [
        PluginState(
            "p0",
            "dist0 1.0",
            "ok",
            brings=(
                ("pass", ("first",)),
                ("target", ("toy",)),
                ("recipe", ("quick",)),
                ("instrument", ("watch",)),
                ("data source", ("camera",)),
                ("op", ("com.acme.Dense",)),
            ),
        )
    ]
    assert warnings(registry) == []


def test_the_owner_of_a_name_is_known() -> None:
    registry = loaded(plugin(passes=lambda: [made_pass("first")]))
    assert (registry.owner("pass", "first"), registry.owner("pass", "second")) == ("p0", "")


def test_a_plugin_that_brings_nothing_is_a_plugin() -> None:
    assert loaded(plugin()).plugins == [PluginState("p0", "dist0 1.0", "ok")]


def test_two_registries_share_nothing() -> None:
    one, other = loaded(plugin(passes=lambda: [made_pass("first")])), Registry()
    assert (list(one.passes), list(other.passes)) == (["first"], [])


# ---------------------------------------------------------------- what goes wrong


def broken_import() -> object:
    raise ImportError("libfoo.so: cannot open\nand a second line")


def exits() -> object:
    sys.exit(3)


@pytest.mark.parametrize(
    ("load", "code", "line"),
    [
        (broken_import, "NNC-P001", "ImportError: libfoo.so: cannot open"),
        (exits, "NNC-P001", "plugin 'acme' called sys.exit"),
        (lambda: plugin(api=2), "NNC-P002", "plugin 'acme' speaks plugin API 2, this nncomp speaks 1"),
        (lambda: plugin(api=None), "NNC-P002", "plugin 'acme' speaks plugin API None, this nncomp speaks 1"),
        (lambda: plugin(passes=lambda: 1 / 0), "NNC-P001", "ZeroDivisionError: division by zero"),
        (
            lambda: plugin(passes=lambda: ["first"]),
            "NNC-P001",
            "a hook returned 'first', expected a Pass class with a name",
        ),
        (
            lambda: plugin(targets=lambda: [object]),
            "NNC-P001",
            "a hook returned <class 'object'>, expected a Target class with a name",
        ),
        (lambda: plugin(ops=lambda: ["Dense"]), "NNC-P001", "nncomp_ops returned 'Dense', expected OpSemantics"),
        (
            lambda: plugin(passes=lambda: [made_pass("a"), made_pass("a")]),
            "NNC-P003",
            "'a' is returned twice",
        ),
        (
            lambda: plugin(ops=lambda: [OpSemantics(kind="Relu")]),
            "NNC-P003",
            "op semantics for ai.onnx.Relu are given twice",
        ),
    ],
    ids=["import", "exit", "api", "no api", "raises", "no class", "no target", "no row", "twice", "known op"],
)  # fmt: skip
def test_a_broken_plugin_costs_one_warning_and_is_listed(load: Callable[[], object], code: str, line: str) -> None:
    registry = Registry()
    registry.load("acme", load, origin="acme 1.0")
    assert registry.plugins == [PluginState("acme", "acme 1.0", "broken", line, code)]
    assert warnings(registry) == [(code, f"plugin 'acme' is left out: {line}")]


def test_a_hook_that_nncomp_does_not_have_is_an_error() -> None:
    registry = loaded(plugin(passez=lambda: []))
    assert registry.plugins[0].state == "broken"
    assert registry.plugins[0].error.startswith("PluginValidationError: unknown hook 'nncomp_passez' in plugin")


def test_a_plugin_is_committed_all_or_none() -> None:
    registry = loaded(
        plugin(passes=lambda: [made_pass("first")], targets=lambda: [Toy], ops=lambda: [OpSemantics(kind="Relu")])
    )
    assert (registry.passes, registry.targets, registry.owners) == ({}, {}, {})


def test_a_broken_plugin_does_not_stop_the_next_one() -> None:
    registry = loaded(plugin(api=9), plugin(passes=lambda: [made_pass("first")]))
    assert [state.state for state in registry.plugins] == ["broken", "ok"]
    assert list(registry.passes) == ["first"]


def test_the_first_owner_of_a_name_keeps_it_and_both_are_named() -> None:
    mine, yours, other = made_pass("dup"), made_pass("dup"), made_pass("other")
    registry = loaded(plugin(passes=lambda: [mine]), plugin(passes=lambda: [yours, other]))
    assert registry.pass_type("dup") is mine
    assert registry.pass_type("other") is other
    assert registry.owner("pass", "dup") == "p0"
    assert registry.plugins[1].brings == (("pass", ("other",)),)
    assert warnings(registry) == [
        ("NNC-P003", "pass 'dup' of plugin 'p1' is ignored: plugin 'p0' provides it"),
    ]  # fmt: skip


def test_a_pass_and_a_target_may_have_one_name() -> None:
    registry = loaded(plugin(passes=lambda: [made_pass("toy")], targets=lambda: [Toy]))
    assert warnings(registry) == []


# ---------------------------------------------------------------- looking up


def lookup(registry: Registry, sort: str, name: str) -> NncompError:
    look: dict[str, Callable[[str], object]] = {
        "pass": registry.pass_type,
        "target": registry.target,
        "recipe": registry.recipe_path,
    }
    with pytest.raises(NncompError) as error:
        look[sort](name)
    return error.value


def test_an_unknown_name_gets_the_nearest_one() -> None:
    registry = loaded(plugin(passes=lambda: [made_pass("fold-batchnorm"), made_pass("quantize")]))
    error = lookup(registry, "pass", "fold-batchnrm")
    assert isinstance(error, RecipeError)
    assert (error.code, error.message) == ("NNC-R010", "unknown pass 'fold-batchnrm'")
    assert error.hint == "did you mean 'fold-batchnorm'?"


@pytest.mark.parametrize("sort", ["pass", "target", "recipe"])
def test_an_unknown_name_that_is_near_nothing_gets_the_list(sort: str) -> None:
    registry = loaded(plugin(passes=lambda: [made_pass("b"), made_pass("a")], targets=lambda: [Toy]))
    error = lookup(registry, sort, "zzzzzz")
    known = {"pass": "a, b", "target": "toy", "recipe": "none"}[sort]
    assert (error.message, error.hint) == (f"unknown {sort} 'zzzzzz'", f"known: {known}")


def test_a_broken_plugin_is_mentioned_where_it_may_explain_the_miss() -> None:
    registry = loaded(plugin(passes=lambda: [made_pass("first")]), plugin(api=9))
    error = lookup(registry, "pass", "zzzzzz")
    assert isinstance(error, PluginError)
    assert (error.code, error.exit_status) == ("NNC-P002", 7)
    assert error.hint == "known: first; plugin 'p1' failed to load and might provide it: see `nncomp plugins`"


def test_a_slip_of_the_pen_is_one_even_with_a_broken_plugin() -> None:
    registry = loaded(plugin(passes=lambda: [made_pass("first")]), plugin(api=9))
    error = lookup(registry, "pass", "frist")
    assert isinstance(error, RecipeError)
    assert error.hint == (
        "did you mean 'first'?; plugin 'p1' failed to load and might provide it: see `nncomp plugins`"
    )


# ---------------------------------------------------------------- finding


def test_the_built_ins_come_in_by_their_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {"cleanup": "nncomp_cleanup", "fusion": "nncomp_fusion", "quant": "nncomp_quant", "ort": "nncomp_ort"}
    points = [EntryPoint(name, value, "nncomp") for name, value in modules.items()]

    def found(**wanted: Any) -> Iterable[EntryPoint]:
        assert wanted == {"group": "nncomp"}
        return points

    monkeypatch.setattr("nncomp.plugins.entry_points", found)
    registry = Registry.discover()
    assert [(state.name, state.state) for state in registry.plugins] == [
        ("cleanup", "ok"),
        ("fusion", "ok"),
        ("ort", "ok"),
        ("quant", "ok"),
    ]
    assert warnings(registry) == []


def test_modules_that_are_asked_for_come_after_the_installed_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "asked_for.py").write_text("NNCOMP_API = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("nncomp.plugins.entry_points", lambda **_: [])
    registry = Registry.discover(["asked_for", "not_there"])
    assert registry.plugins == [
        PluginState("asked_for", "--plugin asked_for", "ok"),
        PluginState(
            "not_there",
            "--plugin not_there",
            "broken",
            "ModuleNotFoundError: No module named 'not_there'; is its folder in PYTHONPATH?",
            "NNC-P001",
        ),
    ]
    importlib.invalidate_caches()
    sys.modules.pop("asked_for", None)
