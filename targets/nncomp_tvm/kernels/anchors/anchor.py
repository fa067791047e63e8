"""What an anchor is, what a device makes of one, and what those who match one ask of a function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.extents import Extent
from nncomp_tvm.kernels.graph import array_of, dtype_of, name_of, shape_of
from nncomp_tvm.kernels.packing import signed_bytes
from nncomp_tvm.kernels.products import Product
from nncomp_tvm.kernels.program import Program
from nncomp_tvm.kernels.rows import Rows
from nncomp_tvm.kernels.tiling import Contraction, Tile
from nncomp_tvm.kernels.window import Window


@dataclass(frozen=True)
class Anchor:
    """A kernel without its epilogue.

    Attributes:
        key: What it computes; equal keys and programs give equal code.
        source: Element type of what it computes, before ``scale`` and ``offset``.
        output: Shape of the result.
        arguments: Its operands for a tile, weights packed.
        write: Program and tile -> PrimFunc.
        tiles: The tiles to choose from, as the device cuts, the default first; one for kernels without a choice.
        scale: One factor a column, or one for all, applied first; turns integers into real numbers.
        divisor: Divides ``scale``: how many numbers an average is of.
        bound: What no sum exceeds where a float32 source is whole numbers, exactly; 0 where it may not be.
        shifts: Whether the zero point of the result is added before rounding: AveragePool of ONNX Runtime does so.
        offset: Added after ``scale``, likewise.
        shift: A zero point that is computed, and the sums of weights that are subtracted so often before all else.
        integer: Whether it multiplies bytes.
        macs: Multiplications.
    """

    key: Hashable
    source: str
    output: tuple[Extent, ...]
    arguments: Callable[[Any], list[Any]]
    write: Callable[[Program, Any], Any]
    tiles: Sequence[Any] = field(default_factory=lambda: [Tile(1, 1)])
    scale: NDArray[np.float32] | None = None
    divisor: int = 1
    bound: int = 0
    shifts: bool = False
    offset: NDArray[np.float32] | None = None
    shift: tuple[Any, NDArray[np.int32]] | None = None
    integer: bool = False
    macs: int = 0


class Device(Protocol):
    """What kernels are made for: its kernel for each kind of work, None for what is better left to TVM.

    Attributes:
        halves: Whether its kernels read and write 16-bit floats, which they widen.
    """

    halves: ClassVar[bool]

    def multiplies_bytes(self, channels: int) -> bool:
        """Return whether it has contractions of bytes over so many channels."""

    def contraction(
        self, x: Any, weights: NDArray[Any], shape: Contraction, output: tuple[Extent, ...], *, zero: Any = None
    ) -> Anchor | None:
        """Return a contraction of ``x`` with weights (groups, kernel rows, kernel columns, channels, columns).

        ``zero`` is the zero point of ``x`` where it is computed. The sums then are of x w, with ``zero`` as padding:
        what of them is ``zero`` times the sum of the weights is subtracted by the anchor's ``shift``.
        """

    def window(self, work: Window, x: Any, weights: NDArray[Any] | None, output: tuple[Extent, ...]) -> Anchor | None:
        """Return a window over ``x``, with weights (channels, kernel rows, kernel columns) where it has some."""

    def product(self, shape: Product, left: Any, right: Any) -> Anchor | None:
        """Return a product of two activations."""

    def rows(self, shape: Rows, x: Any, tensor: tuple[Extent, ...], output: tuple[Extent, ...]) -> Anchor | None:
        """Return work along the last axis of ``x``, seen as ``tensor``; of nothing but the program if x is None."""


@dataclass(frozen=True)
class Quantized:
    """A tensor that is dequantized: ``value`` are its integers; ``scale`` one number, or one a slice of ``axis``.

    ``zero`` is its zero point where that is computed; ``zero_point`` is 0 then.
    """

    value: Any
    scale: NDArray[np.float32]
    zero_point: int
    axis: int
    zero: Any = None

    @property
    def largest(self) -> int:
        """The largest absolute value of an integer without its zero point."""
        limits = np.iinfo(dtype_of(self.value))
        return int(max(self.zero_point - limits.min, limits.max - self.zero_point))


class Matcher:
    """What is known of the values of one function, and what kernels are made for."""

    def __init__(self, definitions: Mapping[Any, Any], device: Device) -> None:
        self.definitions, self.device = definitions, device

    def quantized(self, value: Any) -> Quantized | None:
        """Return what is dequantized to ``value``, by constants, or None."""
        call: Any = self.definitions.get(value)
        if name_of(call) != "dequantize" or shape_of(call.args[0]) is None:
            return None
        scale, zero = array_of(call.args[1]), array_of(call.args[2])
        if scale is None or zero is None or scale.dtype != np.float32 or np.unique(zero).size != 1:
            return None
        return Quantized(call.args[0], scale.reshape(-1), int(zero.reshape(-1)[0]), int(call.attrs.axis))

    def is_widened(self, value: Any) -> bool:
        """Whether a value is made of 16-bit floats that kernels read."""
        call: Any = self.definitions.get(value)
        return self.device.halves and name_of(call) == "astype" and dtype_of(call.args[0]) == "float16"

    def narrow(self, value: Any) -> Any:
        """Return the 16-bit floats that a value is widened from, where kernels read them; else the value."""
        return self.definitions[value].args[0] if self.is_widened(value) else value

    def computed(self, value: Any) -> Quantized | None:
        """Return what is dequantized to ``value`` by a constant scale and one zero point that is computed, or None."""
        call: Any = self.definitions.get(value)
        if name_of(call) != "dequantize" or array_of(call.args[2]) is not None or shape_of(call.args[0]) is None:
            return None
        scale, zero = array_of(call.args[1]), call.args[2]
        if scale is None or scale.dtype != np.float32 or scale.size != 1 or shape_of(zero) not in {(), (1,)}:
            return None
        return Quantized(call.args[0], scale.reshape(-1), 0, int(call.attrs.axis), zero)

    def constant(self, value: Any) -> NDArray[np.float32] | None:
        """Return float32 weights, dequantized if need be, or None if they are no constants."""
        array = array_of(value)
        if array is not None:
            return array if array.dtype == np.float32 else None
        stored = self.quantized(value)
        integers = array_of(stored.value) if stored else None
        if stored is None or integers is None:
            return None
        along = [1] * integers.ndim
        along[stored.axis] = stored.scale.size
        return (integers.astype(np.int32) - stored.zero_point).astype(np.float32) * stored.scale.reshape(along)

    def integers(
        self, x: Any, weight: Any, axis: int
    ) -> tuple[Quantized, NDArray[np.int8], NDArray[np.float32]] | None:
        """Return u8 activations, s8 weights without zero point and the scale of the product, where both are there.

        Args:
            x: Activations, quantized with one scale.
            weight: Weights with one scale, or one a slice of ``axis``, the output channels.
            axis: An axis of ``weight``.
        """
        left, right = self.quantized(x) or self.computed(x), self.quantized(weight)
        stored = array_of(right.value) if right else None
        if left is None or right is None or stored is None:
            return None
        fits = left.scale.size == 1 and (right.scale.size == 1 or right.axis % stored.ndim == axis)
        shifted = signed_bytes(stored, right.zero_point)
        if not fits or dtype_of(left.value) != "uint8" or shifted is None:
            return None
        return left, shifted, left.scale * right.scale

    def whole(self, value: Any) -> int:
        """Return what whole numbers in float32 do not exceed, 0 where they may not be whole."""
        array, stored = array_of(value), self.quantized(value)
        if array is not None:
            return int(np.abs(array).max(initial=0)) if _is_whole(array) else 0
        return stored.largest if stored is not None and (stored.scale == 1.0).all() else 0

    def whole_products(self, x: Any, weights: NDArray[np.float32]) -> int:
        """Return what sums of products do not exceed, 0 where float32 may not hold them exactly.

        Args:
            x: Activations.
            weights: (groups, kernel rows, kernel columns, channels, columns).
        """
        largest = self.whole(x)
        if not largest or not _is_whole(weights):
            return 0
        return exact(largest * int(np.abs(weights.astype(np.float64)).sum(axis=(1, 2, 3)).max(initial=0)))


def exact(bound: int) -> int:
    """Return a bound of whole numbers where float32 holds all of them, else 0."""
    return bound if bound < 1 << 24 else 0


def _is_whole(array: NDArray[Any]) -> bool:
    return array.dtype == np.float32 and bool((np.rint(array) == array).all())
