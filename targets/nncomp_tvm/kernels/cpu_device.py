"""A CPU as the device that anchors are matched for: which kernel of this package does what, and how it may be cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors import Anchor
from nncomp_tvm.kernels.contraction import write_contraction
from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.extents import Extent, likely, product
from nncomp_tvm.kernels.graph import shape_of
from nncomp_tvm.kernels.packing import pack, pack_window, start_values
from nncomp_tvm.kernels.products import Product, write_product
from nncomp_tvm.kernels.program import Program
from nncomp_tvm.kernels.rows import Rows, write_rows
from nncomp_tvm.kernels.taps import pack_taps, takes_taps, taps_candidates, write_taps
from nncomp_tvm.kernels.tiling import Contraction, Tile, candidates
from nncomp_tvm.kernels.window import Window, window_candidates, write_window
from nncomp_tvm.library import relax


@dataclass(frozen=True)
class CpuDevice:
    """A CPU, and whether its kernels run on several threads."""

    cpu: CpuTarget
    parallel: bool
    halves: ClassVar[bool] = False

    def spreads(self, work: Extent, enough: int) -> bool:
        """Whether a kernel is worth waking threads, which takes microseconds; an open size is thought to be 16."""
        return self.parallel and likely(work, 16) >= enough

    def multiplies_bytes(self, channels: int) -> bool:
        """Return whether channels come in fours."""
        return channels % 4 == 0

    def contraction(
        self, x: Any, weights: NDArray[Any], shape: Contraction, output: tuple[Extent, ...], *, zero: Any = None
    ) -> Anchor | None:
        """Return a contraction; what is padded has a zero point that is known."""
        source = shape_of(x)
        if source is None or (shape.integer and not self.multiplies_bytes(shape.channels)):
            return None
        if zero is not None and any(shape.pads):
            return None

        parallel = self.spreads(_sums(shape), _SUMS * (4 if shape.integer else 1))

        def arguments(tile: Tile) -> list[Any]:
            start = [relax.const(start_values(shape, weights))] if shape.zero_point else []
            return [x, relax.const(pack(shape, tile, self.cpu, weights)), *start]

        def write(program: Program, tile: Tile) -> Any:
            return write_contraction(
                shape, program, tile, self.cpu, input_shape=source, output_shape=output, parallel=parallel
            )

        return Anchor(
            (shape, source, output),
            "int32" if shape.integer else "float32",
            output,
            arguments,
            write,
            candidates(shape, self.cpu),
            integer=shape.integer,
            macs=shape.macs,
        )

    def window(self, work: Window, x: Any, weights: NDArray[Any] | None, output: tuple[Extent, ...]) -> Anchor | None:
        """Return a window; its sums are float32, also those of bytes, if there is no instruction for these."""
        source = shape_of(x)
        if source is None:
            return None
        if weights is not None and takes_taps(work, self.cpu):
            return self._taps(work, x, weights, source, output)
        operands = [x] if weights is None else [x, relax.const(pack_window(weights))]
        parallel = self.spreads(_sums(work.shape), _WINDOWED)

        def write(program: Program, tile: Tile) -> Any:
            return write_window(
                work, program, tile, self.cpu, input_shape=source, output_shape=output, parallel=parallel
            )

        return Anchor(
            (work, source, output),
            "float32",
            output,
            lambda tile: operands,
            write,
            window_candidates(work, self.cpu),
            integer=work.dtype != "float32",
            macs=work.shape.macs,
        )

    def _taps(
        self, work: Window, x: Any, weights: NDArray[Any], source: tuple[Extent, ...], output: tuple[Extent, ...]
    ) -> Anchor:
        shape = work.shape
        parallel = self.spreads(_sums(shape), _WINDOWED)
        packed, starts = (relax.const(array) for array in pack_taps(shape, self.cpu, weights))

        def write(program: Program, tile: Tile) -> Any:
            return write_taps(
                shape, program, tile, self.cpu, input_shape=source, output_shape=output, parallel=parallel
            )

        return Anchor(
            (work, source, output),
            "int32",
            output,
            lambda tile: [x, packed, starts] if shape.zero_point else [x, packed],
            write,
            taps_candidates(shape, self.cpu),
            integer=True,
            macs=shape.macs,
        )

    def product(self, shape: Product, left: Any, right: Any) -> Anchor | None:
        """Return a product of two activations."""
        macs = product((*shape.output, shape.left[-1]))
        parallel = self.spreads(macs, _SUMS)
        return Anchor(
            shape,
            "float32",
            shape.output,
            lambda tile: [left, right],
            lambda program, tile: write_product(shape, program, tile, self.cpu, parallel=parallel),
            shape.tiles(self.cpu),
            macs=macs if isinstance(macs, int) else 0,
        )

    def rows(self, shape: Rows, x: Any, tensor: tuple[Extent, ...], output: tuple[Extent, ...]) -> Anchor | None:
        """Return work along the last axis."""
        parallel = self.spreads(product(tensor), _ELEMENTS)
        return Anchor(
            (shape, tensor, output),
            "float32",
            output,
            lambda tile: [] if x is None else [x],
            lambda program, tile: write_rows(shape, program, self.cpu, tensor=tensor, output=output, parallel=parallel),
        )


def _sums(shape: Contraction) -> Extent:
    """Return the multiplications of a contraction or window."""
    return product((shape.batch, *shape.output, *shape.kernel, shape.channels, shape.columns, shape.groups))


_SUMS: Final = 1_000_000
_WINDOWED: Final = 300_000
_ELEMENTS: Final = 100_000
"""Work of some twenty microseconds on one core: float32 products, taps of windows, elements."""
