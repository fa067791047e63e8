"""The rows that come with nncomp, all op families together."""

from __future__ import annotations

from nncomp.ops import (
    activation,
    attention,
    control_flow,
    convolution,
    elementwise,
    generation,
    indexing,
    logic,
    matmul,
    movement,
    normalization,
    pooling,
    quantization,
    random,
    recurrent,
    reduction,
    resampling,
    sequence,
    signal,
)
from nncomp.ops.table import OpTable

_FAMILIES = (
    activation,
    attention,
    control_flow,
    convolution,
    elementwise,
    generation,
    indexing,
    logic,
    matmul,
    movement,
    normalization,
    pooling,
    quantization,
    random,
    recurrent,
    reduction,
    resampling,
    sequence,
    signal,
)


def builtin_table() -> OpTable:
    """Return the table of all rows for ONNX's ops and ONNX Runtime's own."""
    return OpTable(row for family in _FAMILIES for row in family.ROWS)
