"""Plugins and a model for a command; what could not be loaded is told once, on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nncomp.cli.streams import message, one_line

if TYPE_CHECKING:
    from pathlib import Path

    from nncomp.ir import Graph
    from nncomp.plugins import Registry


def load_registry(extra: Sequence[str] | None = None) -> Registry:
    """Return all installed plugins and the modules in ``extra``; a broken one costs one line."""
    from nncomp.plugins import Registry

    registry = Registry.discover(extra or ())
    for warning in registry.warnings:
        message(f"warning {warning.code}: {one_line(warning.message)}")
    return registry


def load_verified(model: Path, extra: Sequence[str] | None = None) -> tuple[Registry, Graph]:
    """Return all plugins, and the graph of a model file that is valid.

    Raises:
        ModelError: it is not.
    """
    from nncomp import onnx_io
    from nncomp.verify import verify

    registry, graph = load_registry(extra), onnx_io.load(model)
    verify(graph)
    return registry, graph
