"""Acme's plugin: an op of its own domain, a pass that does without it, a target, and the target's recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import nncomp

if TYPE_CHECKING:
    from nncomp import OpSemantics, Pass, Target

NNCOMP_API = 1


@nncomp.hookimpl
def nncomp_passes() -> Iterable[type[Pass]]:
    """Return ``unpack-dense``."""
    from nncomp_acme.dense import UnpackDense

    return [UnpackDense]


@nncomp.hookimpl
def nncomp_ops() -> Iterable[OpSemantics]:
    """Return what is to be known of ``ai.acme.PackedDense``."""
    from nncomp_acme.dense import PACKED_DENSE

    return [PACKED_DENSE]


@nncomp.hookimpl
def nncomp_targets() -> Iterable[type[Target]]:
    """Return ``acme-npu``."""
    from nncomp_acme.npu import Npu

    return [Npu]


@nncomp.hookimpl
def nncomp_recipes() -> Mapping[str, Path]:
    """Return the recipe that ``acme-npu`` follows by default."""
    return {"acme-npu": Path(__file__).parent / "recipes" / "acme-npu.toml"}
