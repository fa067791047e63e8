"""Registry: plugins found, asked one by one, and committed all or none; a broken one costs one warning.

pluggy's own loader stops at the first plugin that fails to import, so the loop over entry points is ours. Each plugin
gets a pluggy manager of its own, which validates its hooks against :mod:`nncomp.hookspecs`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

import pluggy

from nncomp import hookspecs
from nncomp.errors import NncompError, NncompWarning, PluginError, RecipeError
from nncomp.hookspecs import API_VERSION
from nncomp.ops import OpSemantics, OpTable, builtin_table
from nncomp.options import parse_spec
from nncomp.passes import Pass
from nncomp.targets import Target

GROUP: Final = "nncomp"
T = TypeVar("T")


class PluginWarning(NncompWarning):
    """A plugin could not be loaded, or something that it brings is taken."""


@dataclass(frozen=True, slots=True)
class PluginState:
    """A row of ``nncomp plugins``.

    Attributes:
        name: of the entry point.
        origin: distribution and version, or the module given with ``--plugin``.
        state: ``ok`` or ``broken``.
        error: what went wrong, one line.
        code: stable code of the error.
        brings: what it registered, by sort.
    """

    name: str
    origin: str
    state: str
    error: str = ""
    code: str = ""
    brings: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass
class Registry:
    """What all plugins together provide. Created, passed and thrown away; nothing is global.

    Attributes:
        passes, targets, recipes, instruments, data_sources: by name.
        owners: which plugin provides a name, by (sort, name).
        ops: built-in rows and plugins' rows.
        plugins: one state a plugin, the broken ones too.
        warnings: one a broken plugin or clash.
    """

    passes: dict[str, type[Pass]] = field(default_factory=dict)
    targets: dict[str, type[Target]] = field(default_factory=dict)
    recipes: dict[str, Path] = field(default_factory=dict)
    instruments: dict[str, type[Any]] = field(default_factory=dict)
    data_sources: dict[str, type[Any]] = field(default_factory=dict)
    commands: dict[str, Any] = field(default_factory=dict)
    owners: dict[tuple[str, str], str] = field(default_factory=dict)
    ops: OpTable = field(default_factory=builtin_table)
    plugins: list[PluginState] = field(default_factory=list)
    warnings: list[PluginWarning] = field(default_factory=list)

    @classmethod
    def discover(cls, extra: Iterable[str] = ()) -> Registry:
        """Load all plugins installed under the entry-point group ``nncomp``, then the modules named in ``extra``."""
        registry = cls()
        for point in sorted(entry_points(group=GROUP), key=_load_order):
            origin = f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
            registry.load(point.name, point.load, origin=origin)
        for module in extra:
            registry.load(module, partial(importlib.import_module, module), origin=f"--plugin {module}")
        return registry

    @property
    def flags(self) -> str:
        """The options that load the modules named in ``discover(extra)``, each with a space in front."""
        return "".join(f" {state.origin}" for state in self.plugins if state.origin.startswith("--plugin "))

    def load(self, name: str, load: Callable[[], object], *, origin: str = "") -> None:
        """Load one plugin and register all that it brings, or nothing."""
        try:
            self._commit(name, origin, _asked(name, load()))
        except Exception as error:  # noqa: BLE001  a plugin may fail in any way; it is recorded, not hidden
            self._record_failure(name, origin, error)
        except SystemExit:
            self._record_failure(name, origin, PluginError(f"plugin {name!r} called sys.exit"))

    def pass_type(self, name: str) -> type[Pass]:
        """Return the pass called ``name``.

        Raises:
            RecipeError: nobody provides it (NNC-R010).
        """
        return self._lookup(self.passes, "pass", name)

    def target(self, spec: str, options: Mapping[str, object] = MappingProxyType({})) -> Target:
        """Return the target that ``spec`` names, as ``name`` or ``name{option=value, ...}``, with more ``options``.

        Raises:
            RecipeError: nobody provides it, or it has no such option (NNC-R010).
        """
        name, given = parse_spec(spec)
        return self._lookup(self.targets, "target", name).from_options({**given, **options})

    def recipe_path(self, name: str) -> Path:
        """Return the recipe called ``name``.

        Raises:
            RecipeError: nobody provides it (NNC-R010).
        """
        return self._lookup(self.recipes, "recipe", name)

    def owner(self, sort: str, name: str) -> str:
        """Return which plugin provides ``name``."""
        return self.owners.get((sort, name), "")

    def _lookup(self, table: dict[str, T], sort: str, name: str) -> T:
        if name in table:
            return table[name]
        near = difflib.get_close_matches(name, table, 1)
        hints = [f"did you mean {near[0]!r}?"] if near else [f"known: {', '.join(sorted(table)) or 'none'}"]
        broken = [state for state in self.plugins if state.state == "broken"]
        if broken:
            names = ", ".join(repr(state.name) for state in broken)
            hints.append(f"plugin {names} failed to load and might provide it: see `nncomp plugins`")
            if not near:
                raise PluginError(f"unknown {sort} {name!r}", code=broken[0].code or "NNC-P001", hint="; ".join(hints))
        raise RecipeError(f"unknown {sort} {name!r}", hint="; ".join(hints))

    def _commit(self, name: str, origin: str, found: _Found) -> None:
        brings: list[tuple[str, tuple[str, ...]]] = []
        extended = self.ops.extended(found.ops) if found.ops else self.ops
        sorts: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("pass", self.passes, found.passes),
            ("target", self.targets, found.targets),
            ("recipe", self.recipes, found.recipes),
            ("instrument", self.instruments, found.instruments),
            ("data source", self.data_sources, found.data_sources),
            ("command", self.commands, found.commands),
        ]
        for sort, table, items in sorts:
            clashes = [key for key in items if key in table]
            for key in clashes:
                self.warnings.append(
                    PluginWarning(
                        f"{sort} {key!r} of plugin {name!r} is ignored: plugin {self.owners[sort, key]!r} provides it",
                        code="NNC-P003",
                    )
                )
            for key, item in items.items():
                if key not in table:
                    table[key] = item
                    self.owners[sort, key] = name
            if items:
                brings.append((sort, tuple(key for key in items if key not in clashes)))
        if found.ops:
            brings.append(("op", tuple(f"{row.domain or 'ai.onnx'}.{row.kind}" for row in found.ops)))
        self.ops = extended
        self.plugins.append(PluginState(name, origin, "ok", brings=tuple(brings)))

    def _record_failure(self, name: str, origin: str, error: Exception) -> None:
        code = error.code if isinstance(error, NncompError) else "NNC-P001"
        text = str(error).strip().splitlines()[0] if str(error).strip() else ""
        line = text if isinstance(error, NncompError) else f"{type(error).__name__}: {text}"
        if isinstance(error, ModuleNotFoundError) and error.name == name and origin.startswith("--plugin "):
            line += "; is its folder in PYTHONPATH?"
        self.plugins.append(PluginState(name, origin, "broken", line, code))
        self.warnings.append(PluginWarning(f"plugin {name!r} is left out: {line}", code=code))


@dataclass
class _Found:
    passes: dict[str, Any] = field(default_factory=dict)
    targets: dict[str, Any] = field(default_factory=dict)
    recipes: dict[str, Any] = field(default_factory=dict)
    instruments: dict[str, Any] = field(default_factory=dict)
    data_sources: dict[str, Any] = field(default_factory=dict)
    commands: dict[str, Any] = field(default_factory=dict)
    ops: list[OpSemantics] = field(default_factory=list)


def _asked(name: str, plugin: object) -> _Found:
    version = getattr(plugin, "NNCOMP_API", None)
    if version != API_VERSION:
        raise PluginError(
            f"plugin {name!r} speaks plugin API {version!r}, this nncomp speaks {API_VERSION}",
            code="NNC-P002",
            hint=f"install a version of it that says NNCOMP_API = {API_VERSION}",
        )
    manager = pluggy.PluginManager("nncomp")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, name)
    manager.check_pending()
    hook = manager.hook
    found = _Found(
        passes=_by_name(hook.nncomp_passes(), Pass),
        targets=_by_name(hook.nncomp_targets(), Target),
        recipes={key: Path(path) for mapping in hook.nncomp_recipes() for key, path in mapping.items()},
        instruments=_by_name(hook.nncomp_instruments(), object),
        data_sources=_by_name(hook.nncomp_data_sources(), object),
        commands={app.info.name or name: app for apps in hook.nncomp_commands() for app in apps},
        ops=[row for rows in hook.nncomp_ops() for row in rows],
    )
    for row in found.ops:
        if not isinstance(row, OpSemantics):
            raise PluginError(f"nncomp_ops returned {row!r}, expected OpSemantics")
    return found


def _by_name(results: Iterable[Iterable[type[Any]]], base: type[Any]) -> dict[str, type[Any]]:
    items: dict[str, type[Any]] = {}
    for result in results:
        for item in result:
            if not (isinstance(item, type) and issubclass(item, base) and isinstance(getattr(item, "name", None), str)):
                raise PluginError(f"a hook returned {item!r}, expected a {base.__name__} class with a name")
            if item.name in items:
                raise PluginError(f"{item.name!r} is returned twice", code="NNC-P003")
            items[item.name] = item
    return items


def _load_order(point: EntryPoint) -> tuple[bool, str, str]:
    ours = point.dist is not None and point.dist.name == "nncomp"
    return (not ours, point.dist.name if point.dist is not None else "", point.name)
