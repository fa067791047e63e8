"""Low rank: layers replaced by sequences of smaller ones, by matrix and tensor decompositions that see the data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nncomp.hookspecs import hookimpl
from nncomp.passes import Pass

NNCOMP_API: Final = 1


@hookimpl
def nncomp_passes() -> Iterable[type[Pass]]:
    """Return the passes of this plugin."""
    from nncomp_lowrank.decompose import Decompose

    return [Decompose]
