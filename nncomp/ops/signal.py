"""Transforms of signals, and linear algebra that no network of ours leans on."""

from __future__ import annotations

from nncomp.ops.counting import unpriced
from nncomp.ops.coupling import stays
from nncomp.ops.roles import sensitive
from nncomp.ops.semantics import OpSemantics, rows

_SPECTRUM = sensitive("the range of a spectrum is far larger than 8 bits")

ROWS: tuple[OpSemantics, ...] = (
    *rows("DFT STFT", axes=stays("every element of a transform depends on all others"), cost=unpriced, quant=_SPECTRUM),
    *rows(
        "Rfft Irfft",
        axes=stays("every element of a transform depends on all others"),
        domain="com.microsoft",
        cost=unpriced,
        quant=_SPECTRUM,
    ),
    *rows(
        "Det",
        axes=stays("every element of a transform depends on all others"),
        cost=unpriced,
        quant=sensitive("products magnify rounding errors"),
    ),
    *rows(
        "Inverse",
        axes=stays("every element of a transform depends on all others"),
        domain="com.microsoft",
        cost=unpriced,
        quant=sensitive("an inverse magnifies rounding errors"),
    ),
)
