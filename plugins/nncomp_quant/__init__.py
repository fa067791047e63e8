"""Quantization: INT8 with calibration, driven by the target's capabilities."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nncomp.hookspecs import hookimpl
from nncomp.passes import Pass

NNCOMP_API: Final = 1


@hookimpl
def nncomp_passes() -> Iterable[type[Pass]]:
    """Return the passes of this plugin."""
    from nncomp_quant.correct_biases import CorrectBiases
    from nncomp_quant.equalize import Equalize
    from nncomp_quant.half_weights import HalfWeights
    from nncomp_quant.quantize import Quantize
    from nncomp_quant.smooth import Smooth
    from nncomp_quant.weight_only.quantize_weights import QuantizeWeights

    return [Equalize, Smooth, CorrectBiases, Quantize, QuantizeWeights, HalfWeights]
