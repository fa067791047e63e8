"""Described accelerators as a target: what zeros, narrow operands and decompositions are worth in time and energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from nncomp.hookspecs import hookimpl
from nncomp.targets import Target

NNCOMP_API: Final = 1


@hookimpl
def nncomp_targets() -> Iterable[type[Target]]:
    """Return the target ``sparse``."""
    from nncomp_sparse.target import SparseTarget

    return [SparseTarget]


@hookimpl
def nncomp_recipes() -> Mapping[str, Path]:
    """Return the recipes of this target, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
