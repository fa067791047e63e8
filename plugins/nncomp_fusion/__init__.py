"""Fusion: passes that fold constants into weights and several ops into one that means the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import nncomp

if TYPE_CHECKING:
    from nncomp import Pass

NNCOMP_API: Final = 1


@nncomp.hookimpl
def nncomp_passes() -> Iterable[type[Pass]]:
    """Return the fusion passes."""
    from nncomp_fusion.activations import RecognizeActivations
    from nncomp_fusion.batchnorm import FoldBatchnorm
    from nncomp_fusion.fuse import Fuse
    from nncomp_fusion.gemm import MatmulToGemm
    from nncomp_fusion.movements import MergeMovements
    from nncomp_fusion.pads import FoldPad
    from nncomp_fusion.pools import ReducemeanToPool
    from nncomp_fusion.scales import FoldScales

    return (
        FoldBatchnorm,
        FoldScales,
        MatmulToGemm,
        FoldPad,
        ReducemeanToPool,
        RecognizeActivations,
        MergeMovements,
        Fuse,
    )
