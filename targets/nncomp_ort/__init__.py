"""ONNX Runtime's CPU provider as a target: INT8 that it really executes in INT8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from nncomp.hookspecs import hookimpl
from nncomp.targets import Target

NNCOMP_API: Final = 1


@hookimpl
def nncomp_targets() -> Iterable[type[Target]]:
    """Return the target ``ort``."""
    from nncomp_ort.target import OrtTarget

    return [OrtTarget]


@hookimpl
def nncomp_recipes() -> Mapping[str, Path]:
    """Return the recipes of this target, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
