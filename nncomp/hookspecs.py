"""The plugin API: hooks declare what a plugin brings, they never act.

A plugin is a module (or object) with functions of these names marked ``@nncomp.hookimpl``, found through an entry point
of group ``nncomp``. Hooks return classes and import nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import typer

    from nncomp.data import DataSource
    from nncomp.ops import OpSemantics
    from nncomp.passes import Pass
    from nncomp.pipeline import Instrument
    from nncomp.targets import Target

API_VERSION: Final = 1
"""A plugin module says ``NNCOMP_API = 1``; an incompatible change of hooks or base classes raises it."""

hookspec = pluggy.HookspecMarker("nncomp")
hookimpl = pluggy.HookimplMarker("nncomp")


@hookspec
def nncomp_passes() -> Iterable[type[Pass]]:  # type: ignore[empty-body]
    """Return passes."""


@hookspec
def nncomp_targets() -> Iterable[type[Target]]:  # type: ignore[empty-body]
    """Return targets."""


@hookspec
def nncomp_ops() -> Iterable[OpSemantics]:  # type: ignore[empty-body]
    """Return rows of op semantics, for custom domains or ops that nncomp does not know."""


@hookspec
def nncomp_recipes() -> Mapping[str, Path]:  # type: ignore[empty-body]
    """Return recipe files by name."""


@hookspec
def nncomp_instruments() -> Iterable[type[Instrument]]:  # type: ignore[empty-body]
    """Return instruments: watchers of a pipeline."""


@hookspec
def nncomp_data_sources() -> Iterable[type[DataSource]]:  # type: ignore[empty-body]
    """Return kinds of calibration data."""


@hookspec
def nncomp_commands() -> Iterable[typer.Typer]:  # type: ignore[empty-body]
    """Return command groups, each a ``typer.Typer`` with a name."""
