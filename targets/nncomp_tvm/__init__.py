"""TVM as a target: graphs become machine code, for CPU and GPU, in a library that needs no ONNX runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from nncomp.hookspecs import hookimpl
from nncomp.targets import Target

NNCOMP_API: Final = 1


@hookimpl
def nncomp_targets() -> Iterable[type[Target]]:
    """Return the targets ``tvm``, ``tvm-cpu`` and ``tvm-cuda``."""
    from nncomp_tvm.target import TvmCpuTarget, TvmCudaTarget, TvmTarget

    return [TvmTarget, TvmCpuTarget, TvmCudaTarget]


@hookimpl
def nncomp_recipes() -> Mapping[str, Path]:
    """Return the recipes of these targets, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
