"""Windows over each channel on its own: depthwise convolutions and pooling, NHWC, of bytes or float32.

A thread computes four neighbouring channels of one pixel, or one channel where they do not come in fours; threads side
by side have channels side by side, so that what a warp reads lies together. Bytes are summed as int32. Where the window
leaves the image it sees what is of no effect: the zero point in sums, the lowest number in maxima.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.emit import Expr, constant, load, vector_type
from nncomp_tvm.kernels.extents import Extent, product
from nncomp_tvm.kernels.gpu.emit import GridCode, below, parts
from nncomp_tvm.kernels.program import Epilogue, Program
from nncomp_tvm.kernels.window import Fold, Window
from nncomp_tvm.library import tirx

_THREADS: Final = 128
"""Of a block: so few that small images fill a GPU."""

_VECTOR: Final = 4

_UNROLLED: Final = 64  # pixels of a window that are written out


def is_float(work: Window) -> bool:
    """Whether a window is over float32, or 16-bit floats, which are widened."""
    return work.dtype.startswith("float")


def source_of(work: Window) -> str:
    """Return the type of a window's result."""
    return "float32" if is_float(work) else "int32"


def pack(work: Window, weights: NDArray[Any]) -> NDArray[Any]:
    """(channels, kernel rows, kernel columns) -> flat (kernel rows, kernel columns, channels)."""
    return np.ascontiguousarray(weights.transpose(1, 2, 0), np.float32 if is_float(work) else np.int8).ravel()


class _WindowKernel:
    def __init__(self, work: Window, program: Program) -> None:
        self.work, self.program, self.code = work, program, GridCode()
        self.channels = work.shape.groups
        self.lanes = _VECTOR if self.channels % _VECTOR == 0 else 1
        self.kind = source_of(work)

    def write(self, input_shape: Sequence[Extent], output_shape: Sequence[Extent]) -> Any:
        """Return the PrimFunc."""
        shape, code = self.work.shape, self.code
        self.x = code.parameter(input_shape, self.work.dtype)
        if self.work.fold is Fold.WEIGHTED:
            taps = shape.kernel[0] * shape.kernel[1]
            self.w = code.parameter((taps * self.channels,), "float32" if self.kind == "float32" else "int8")
        self.epilogue = Epilogue(self.program, code)
        self.y = code.parameter(output_shape, self.program.dtype)
        across = self.channels // self.lanes
        total = code.number(product((shape.batch, *shape.output, across)))
        with code.launch(parts(total, _THREADS), "blockIdx.x") as block, code.launch(_THREADS, "threadIdx.x") as thread:
            at = code.let(block * _THREADS + thread, "int32")
            with code.when(below(at, total, _THREADS)):
                self._pixel(code.let(at // across, "int32"), code.let(at % across * self.lanes, "int32"))
        return code.function()

    def _pixel(self, row: Expr, channel: Expr) -> None:
        shape, code, lanes = self.work.shape, self.code, self.lanes
        height, width = shape.output[0], code.number(shape.output[1])
        image, line, pixel = row // (height * width), row // width % height, row % width
        total = code.registers(lanes, self.kind)
        code.store(total, 0, constant(self._first(), self.kind, lanes), lanes)
        columns = code.number(shape.width)
        top = code.let(line * shape.strides[0] - shape.pads[0], "int32")
        left = code.let(pixel * shape.strides[1] - shape.pads[1], "int32")
        unrolled = code.unrolled if shape.kernel[0] * shape.kernel[1] <= _UNROLLED else code.loop
        with unrolled(shape.kernel[0]) as kh, unrolled(shape.kernel[1]) as kw:
            y, x = top + kh * shape.dilations[0], left + kw * shape.dilations[1]
            at = ((image * shape.height + y) * columns + x) * self.channels + channel
            value: Expr = load(self.x, at, lanes)
            if any(shape.pads):
                inside = tirx.all(y >= 0, y < shape.height, x >= 0, x < columns)
                value = tirx.if_then_else(inside, value, constant(self._outside(), self.work.dtype, lanes))
            value = self._wide(value)
            weight = (kh * shape.kernel[1] + kw) * self.channels + channel
            code.store(total, 0, self._fold(load(total, 0, lanes), value, weight), lanes)
        self._finish(total, row, channel)

    def _first(self) -> float:
        """What a sum begins with, or a maximum."""
        if self.work.fold is Fold.MAX:
            return 0 if self.kind == "int32" else -3.402823466e38
        if self.work.fold is Fold.SUM and self.kind == "int32":
            return -self.work.shape.zero_point * self.work.shape.kernel[0] * self.work.shape.kernel[1]
        return 0

    def _outside(self) -> float:
        if self.work.fold is Fold.MAX:
            return self._first()
        return self.work.shape.zero_point if self.kind == "int32" else 0

    def _wide(self, value: Expr) -> Expr:
        return value if str(value.ty.dtype) == self.kind else tirx.Cast(vector_type(self.kind, self.lanes), value)

    def _fold(self, total: Expr, value: Expr, weight: Expr) -> Expr:
        if self.work.fold is Fold.MAX:
            return tirx.max(total, value)
        if self.work.fold is Fold.SUM:
            return total + value
        if self.kind == "int32" and self.work.shape.zero_point:
            value = value - constant(self.work.shape.zero_point, "int32", self.lanes)
        return total + value * self._wide(load(self.w, weight, self.lanes))

    def _finish(self, total: Any, row: Expr, channel: Expr) -> None:
        value = self.epilogue.apply(load(total, 0, self.lanes), row, channel, self.lanes)
        self.code.store(self.y, row * self.channels + channel, value, self.lanes)


def write_window(
    work: Window, program: Program, *, input_shape: Sequence[Extent], output_shape: Sequence[Extent]
) -> Any:
    """Return the PrimFunc: x, [packed weights], operands of the program, y."""
    return _WindowKernel(work, program).write(input_shape, output_shape)
