"""A GPU as the device that anchors are matched for."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors import Anchor
from nncomp_tvm.kernels.extents import Extent, product
from nncomp_tvm.kernels.gpu.contraction import write_contraction
from nncomp_tvm.kernels.gpu.elementwise import write_elementwise
from nncomp_tvm.kernels.gpu.packing import pack, start_values
from nncomp_tvm.kernels.gpu.tiling import candidates
from nncomp_tvm.kernels.gpu.window import is_float, source_of, write_window
from nncomp_tvm.kernels.gpu.window import pack as pack_window
from nncomp_tvm.kernels.graph import dtype_of, shape_of
from nncomp_tvm.kernels.products import Product
from nncomp_tvm.kernels.rows import Rows, RowWork
from nncomp_tvm.kernels.tiling import Contraction
from nncomp_tvm.kernels.window import Window
from nncomp_tvm.library import relax

_BLOCKS: Final = 65535
"""The most in the second and third dimension of a grid."""


class GpuDevice:
    """An NVIDIA GPU with dot products of bytes (from compute capability 6.1 on)."""

    halves: ClassVar[bool] = True

    def multiplies_bytes(self, channels: int) -> bool:
        """Return that any number will do: those that fill up a word are zero."""
        return True

    def contraction(
        self, x: Any, weights: NDArray[Any], shape: Contraction, output: tuple[Extent, ...], *, zero: Any = None
    ) -> Anchor | None:
        """Return a contraction, of bytes with any number of channels."""
        source = shape_of(x)
        if source is None or max(shape.groups, shape.columns) > _BLOCKS or not _countable(source, output):
            return None
        start = [relax.const(start_values(shape, weights))] if shape.integer else []
        padding = [zero] if zero is not None and any(shape.pads) else []
        zero_shape = shape_of(zero) if padding else None
        return Anchor(
            (shape, source, output, zero_shape, dtype_of(x)),
            "int32" if shape.integer else "float32",
            output,
            lambda tile: [x, relax.const(pack(shape, tile, weights)), *start, *padding],
            lambda program, tile: write_contraction(
                shape,
                program,
                tile,
                input_shape=source,
                output_shape=output,
                input_type=dtype_of(x),
                zero_shape=zero_shape,
            ),
            candidates(shape),
            integer=shape.integer,
            macs=shape.macs,
        )

    def window(self, work: Window, x: Any, weights: NDArray[Any] | None, output: tuple[Extent, ...]) -> Anchor | None:
        """Return a window; sums of bytes are int32."""
        source = shape_of(x)
        if source is None or not _countable(source, output):
            return None
        operands = [x] if weights is None else [x, relax.const(pack_window(work, weights))]
        return Anchor(
            (work, source, output),
            source_of(work),
            output,
            lambda tile: operands,
            lambda program, tile: write_window(work, program, input_shape=source, output_shape=output),
            integer=not is_float(work),
            macs=work.shape.macs,
        )

    def product(self, shape: Product, left: Any, right: Any) -> Anchor | None:
        """Leave products of activations to TVM."""
        return None

    def rows(self, shape: Rows, x: Any, tensor: tuple[Extent, ...], output: tuple[Extent, ...]) -> Anchor | None:
        """Return a kernel of a program alone; leave work along rows to TVM."""
        if shape.work is not RowWork.MAP or not _countable(output):
            return None
        return Anchor(
            (shape, tensor, output),
            "float32",
            output,
            lambda tile: [],
            lambda program, tile: write_elementwise(
                program, rows=shape.rows, columns=shape.columns, output_shape=output
            ),
        )


def _countable(*shapes: tuple[Extent, ...]) -> bool:
    """Whether 32 bits count the elements, as the kernels do; open sizes are taken for small ones."""
    counts = [product(shape) for shape in shapes]
    return all(count < 1 << 31 for count in counts if isinstance(count, int))
