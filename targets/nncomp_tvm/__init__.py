"""TVM as a target: graphs become machine code, for CPU and GPU, in a library that needs no ONNX runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nncomp.errors import UnsupportedError
from nncomp.hookspecs import hookimpl
from nncomp.targets import Target

if TYPE_CHECKING:
    from nncomp_tvm.artifact import TvmArtifact

NNCOMP_API: Final = 1


def load(folder: str | Path, *, name: str = "model", threads: int = 1) -> TvmArtifact:
    """Return a compiled model from the files that its ``save`` wrote, for ``run``, ``measure`` and ``kernels``.

    The library is machine code and runs with the rights of this process: load what you trust. Sizes and SHA-256 find
    what is damaged, not what is forged. What kernels compute is not in the files: they have the names of functions.

    Args:
        folder: Where they lie.
        name: What they are called.
        threads: As many may kernels run on.

    Raises:
        ModelError: a file is not there, is damaged, or does not belong to the others (NNC-T004).
        UnsupportedError: it is for another version of TVM, kind of CPU or device (NNC-T002), or TVM is not installed
            (NNC-T001).
        UsageError: ``threads`` is less than 1.
    """
    from importlib.util import find_spec

    if find_spec("tvm") is None:
        raise UnsupportedError("a library of TVM needs apache-tvm", code="NNC-T001", hint="pip install 'nncomp[tvm]'")
    from nncomp_tvm.loading import load_artifact

    return load_artifact(Path(folder), name=name, threads=threads)


@hookimpl
def nncomp_targets() -> Iterable[type[Target]]:
    """Return the targets ``tvm``, ``tvm-cpu`` and ``tvm-cuda``."""
    from nncomp_tvm.target import TvmCpuTarget, TvmCudaTarget, TvmTarget

    return [TvmTarget, TvmCpuTarget, TvmCudaTarget]


@hookimpl
def nncomp_recipes() -> Mapping[str, Path]:
    """Return the recipes of these targets, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
