"""Chains of elementwise operators on their own, where bytes begin or end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from nncomp_tvm.kernels.extents import Extent, product
from nncomp_tvm.kernels.gpu.emit import GridCode, below, parts
from nncomp_tvm.kernels.program import Epilogue, Program

_THREADS: Final = 256
_VECTOR: Final = 4


def write_elementwise(program: Program, *, rows: Extent, columns: Extent, output_shape: Sequence[Extent]) -> Any:
    """Return the PrimFunc: operands of the program, y; a thread computes four elements, one if they come otherwise."""
    code, lanes = GridCode(), _VECTOR if isinstance(columns, int) and columns % _VECTOR == 0 else 1
    epilogue = Epilogue(program, code)
    y = code.parameter(output_shape, program.dtype)
    wide = code.number(columns)
    across, total = wide // lanes, code.number(product((rows, columns))) // lanes
    with code.launch(parts(total, _THREADS), "blockIdx.x") as block, code.launch(_THREADS, "threadIdx.x") as thread:
        at = code.let(block * _THREADS + thread, "int32")
        with code.when(below(at, total, _THREADS)):
            row, column = code.let(at // across, "int32"), code.let(at % across * lanes, "int32")
            code.store(y, row * wide + column, epilogue.apply(None, row, column, lanes), lanes)
    return code.function()
