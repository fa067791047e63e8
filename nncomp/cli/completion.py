"""What the shell completes: passes, targets, recipes and models, by name or by file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from nncomp.plugins import Registry


def pass_names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return passes, each with what it does."""
    passes = _registry(ctx).passes
    return _fitting(((name, _summary(found)) for name, found in sorted(passes.items())), incomplete)


def target_names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return targets, each with what it is."""
    targets = _registry(ctx).targets
    return _fitting(((name, found.summary) for name, found in sorted(targets.items())), incomplete)


def recipe_names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return recipes: those of plugins by name, and files."""
    registry = _registry(ctx)
    named = ((name, f"of plugin {registry.owner('recipe', name)}") for name in sorted(registry.recipes))
    return [*_fitting(named, incomplete), *files(incomplete, ".toml")]


def model_files(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return model files, and the folders on the way to them."""
    del ctx
    return files(incomplete, ".onnx")


def files(incomplete: str, suffix: str) -> list[tuple[str, str]]:
    """Return files with a suffix, and folders, that ``incomplete`` is the beginning of."""
    head, slash, tail = incomplete.rpartition("/")
    folder = Path(f"{head}{slash}" or ".")
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(tail))
    except OSError:
        return []
    shown = [path for path in found if tail.startswith(".") or not path.name.startswith(".")]
    return [
        (f"{head}{slash}{path.name}{'/' if path.is_dir() else ''}", "")
        for path in shown
        if path.is_dir() or path.suffix == suffix
    ]


def _registry(ctx: typer.Context) -> Registry:
    from nncomp.plugins import Registry

    return Registry.discover(ctx.params.get("plugin") or ())


def _fitting(items: Iterable[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    return [(name, help_) for name, help_ in items if name.startswith(incomplete)]


def _summary(found: type) -> str:
    return (inspect.getdoc(found) or "").partition("\n")[0]
