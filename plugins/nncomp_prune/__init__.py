"""Pruning: structures that leave the network for good, and zeros where a target gains from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nncomp.hookspecs import hookimpl
from nncomp.passes import Pass

NNCOMP_API: Final = 1


@hookimpl
def nncomp_passes() -> Iterable[type[Pass]]:
    """Return the passes of this plugin."""
    from nncomp_prune.sparsify import Sparsify
    from nncomp_prune.structured import PruneStructured

    return [PruneStructured, Sparsify]
