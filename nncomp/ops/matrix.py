"""Compute ops as matrices: what a weight multiplies, as rows that can be added up, solved and factored.

For a convolution or a product with a constant operand, a :class:`MatrixView` gives, for each of G groups,

    rows(y)[g] = unfold(x)[g] @ matrix(w)[g].T + bias

with one row an output position of one sample: x rows (G, N, K), weight (G, O, K), output rows (G, N, O). The K columns
are in the weight's own order: (in channel of the group, kernel axes...) for convolutions, the contracted axis for
products. So an in channel is a run of ``kernel`` neighbouring columns, and output channel ``g * O + o`` is row o of
group g.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from nncomp.ir import Graph, Op
from nncomp.ops.geometry import ConvGeometry, conv_geometry, pads_for

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixView(ABC):
    """A linear op seen as G matrices of shape (O, K).

    Attributes:
        groups, outputs, columns: G, O and K.
        data: Input slot of the operand that is unfolded.
        weight: Input slot of the constant one.
        shape: Shape of the weight as it is stored.
        kernel: Columns that one in channel takes; 1 for products.
    """

    groups: int
    outputs: int
    columns: int
    data: int
    weight: int
    shape: tuple[int, ...]
    kernel: int = 1

    @abstractmethod
    def matrix(self, weight: Array) -> Doubles:
        """Return the weight as (G, O, K), a factor of the product (Gemm's alpha) included."""

    @abstractmethod
    def restore(self, matrix: Array) -> Floats:
        """Return the weight, in its stored shape, whose :meth:`matrix` is ``matrix``, rounded to float32."""

    @abstractmethod
    def positions(self, shape: Sequence[int]) -> int:
        """Return how many output positions data of ``shape`` has for :meth:`unfold` to choose from.

        A convolution's are the spatial positions of one sample, chosen alike in all samples of a batch; a product's
        are all its rows.
        """

    @abstractmethod
    def unfold(self, data: Array, positions: Positions | None = None) -> Array:
        """Return the rows of ``data`` that meet the weight, (G, N, K), in the type of ``data``.

        Only what is asked for is copied: cost and memory are those of the result.

        Args:
            data: The data operand, batch axis included.
            positions: Which output positions to give; all by default.
        """

    @abstractmethod
    def rows(self, output: Array, positions: Positions | None = None) -> Array:
        """Return the op's output as (G, N, O): the same rows as :meth:`unfold` for the same ``positions``."""


def conv_view(op: Op, graph: Graph) -> MatrixView | None:
    """Return the view of a Conv or ConvTranspose.

    Returns:
        None when the weight is computed or not known, and for a ConvTranspose whose padding follows from its output.
    """
    geometry, weight = conv_geometry(op), graph.constant(op.input(1))
    if geometry is None or weight is None or not weight.dtype.is_floating_point():
        return None
    if geometry.transposed and geometry.pads is None:
        return None
    kernel = math.prod(geometry.kernel)
    return (TransposedConvView if geometry.transposed else ConvView)(
        groups=geometry.group,
        outputs=geometry.out_channels // geometry.group,
        columns=geometry.in_channels // geometry.group * kernel,
        data=0,
        weight=1,
        shape=weight.shape,
        kernel=kernel,
        op=op,
        geometry=geometry,
    )


def product_view(op: Op, graph: Graph) -> MatrixView | None:
    """Return the view of a MatMul or Gemm with one constant operand.

    Returns:
        None when both operands are computed, or both constant; for an ``alpha`` of zero; and for batches of weights
        that are broadcast along an axis behind one that is not.
    """
    constants = [graph.constant(op.input(slot)) for slot in (0, 1)]
    left = constants[1] is None
    weight, other = constants[0 if left else 1], constants[1 if left else 0]
    alpha = float(op.attr("alpha", 1.0))
    if weight is None or other is not None or not weight.dtype.is_floating_point() or not weight.shape or alpha == 0:
        return None
    batch = _without_leading_ones(weight.shape[:-2])
    if 1 in batch:
        return None
    transposed = bool(op.attr("transA" if left else "transB", 0))
    last = weight.shape[-2:] if len(weight.shape) > 1 else (1, *weight.shape) if left else (*weight.shape, 1)
    outputs, columns = last if left != transposed else last[::-1]
    return ProductView(
        groups=math.prod(batch),
        outputs=outputs,
        columns=columns,
        data=1 if left else 0,
        weight=0 if left else 1,
        shape=weight.shape,
        left=left,
        swap_weight=left == transposed,
        swap_data=left != bool(op.attr("transB" if left else "transA", 0)),
        alpha=alpha,
        batch=batch,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvView(MatrixView):
    """Conv with any number of spatial axes.

    Attributes:
        op: The op; its padding may depend on the size of the data.
        geometry: Its geometry.
    """

    op: Op
    geometry: ConvGeometry

    def matrix(self, weight: Array) -> Doubles:
        """See :class:`MatrixView`."""
        return np.asarray(weight, np.float64).reshape(self.groups, self.outputs, self.columns)

    def restore(self, matrix: Array) -> Floats:
        """See :class:`MatrixView`."""
        return np.ascontiguousarray(matrix, np.float32).reshape(self.shape)

    def positions(self, shape: Sequence[int]) -> int:
        """See :class:`MatrixView`."""
        begins, ends = self._frame(shape[2:])
        sizes = [size + begin + end for size, begin, end in zip(self._spread(shape[2:]), begins, ends, strict=True)]
        found = zip(sizes, self._windows(), self._strides(), strict=True)
        return math.prod((size - window) // stride + 1 for size, window, stride in found)

    def unfold(self, data: Array, positions: Positions | None = None) -> Array:
        """See :class:`MatrixView`."""
        padded = _pad(self._stuffed(data), *self._frame(data.shape[2:]))
        view = sliding_window_view(padded, self._windows(), axis=tuple(range(2, data.ndim)))
        steps = [slice(None, None, step) for step in (*self._strides(), *self.geometry.dilations)]
        return self._as_rows(self._oriented(view[(slice(None), slice(None), *steps)]), positions)

    def rows(self, output: Array, positions: Positions | None = None) -> Array:
        """See :class:`MatrixView`."""
        return self._as_rows(output.reshape(*output.shape, *(1,) * (output.ndim - 2)), positions)

    def _as_rows(self, patches: Array, positions: Positions | None) -> Array:
        """Turn (B, C, out..., kernel...) into (G, B * positions, C / G * kernel)."""
        spatial = (patches.ndim - 2) // 2
        sizes, kernel = patches.shape[2 : 2 + spatial], patches.shape[2 + spatial :]
        count = math.prod(sizes)
        if positions is not None:
            places: tuple[Any, ...] = np.unravel_index(positions, sizes)
            patches, count = patches[(slice(None), slice(None), *places)], len(positions)
        parts = patches.reshape(patches.shape[0], self.groups, -1, count, math.prod(kernel))
        return parts.transpose(1, 0, 3, 2, 4).reshape(self.groups, patches.shape[0] * count, -1)

    def _windows(self) -> tuple[int, ...]:
        g = self.geometry
        return tuple(step * (size - 1) + 1 for size, step in zip(g.kernel, g.dilations, strict=True))

    def _strides(self) -> tuple[int, ...]:
        return self.geometry.strides

    def _frame(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        found = pads_for(self.op, sizes)
        assert found is not None
        return found[: len(sizes)], found[len(sizes) :]

    def _spread(self, sizes: Sequence[int]) -> tuple[int, ...]:
        return tuple(sizes)

    def _stuffed(self, data: Array) -> Array:
        return data

    def _oriented(self, patches: Array) -> Array:
        return patches


@dataclass(frozen=True, slots=True, kw_only=True)
class TransposedConvView(ConvView):
    """ConvTranspose: a convolution with stride 1 and a turned kernel of the data with zeros between its elements."""

    def matrix(self, weight: Array) -> Doubles:
        """See :class:`MatrixView`."""
        parts = np.asarray(weight, np.float64).reshape(self.groups, -1, self.outputs, self.kernel)
        return np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(self.groups, self.outputs, self.columns)

    def restore(self, matrix: Array) -> Floats:
        """See :class:`MatrixView`."""
        parts = np.asarray(matrix, np.float32).reshape(self.groups, self.outputs, -1, self.kernel)
        return np.ascontiguousarray(parts.swapaxes(1, 2)).reshape(self.shape)

    def _strides(self) -> tuple[int, ...]:
        return (1,) * len(self.geometry.strides)

    def _frame(self, sizes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        given = self.geometry.pads
        assert given is not None
        more: Sequence[int] = self.op.attr("output_padding") or (0,) * len(sizes)
        reach = [window - 1 for window in self._windows()]
        begins = tuple(far - pad for far, pad in zip(reach, given[: len(sizes)], strict=True))
        ends = tuple(far - pad + extra for far, pad, extra in zip(reach, given[len(sizes) :], more, strict=True))
        return begins, ends

    def _spread(self, sizes: Sequence[int]) -> tuple[int, ...]:
        return tuple((size - 1) * step + 1 for size, step in zip(sizes, self.geometry.strides, strict=True))

    def _stuffed(self, data: Array) -> Array:
        stuffed = np.zeros((*data.shape[:2], *self._spread(data.shape[2:])), data.dtype)
        stuffed[(slice(None), slice(None), *(slice(None, None, step) for step in self.geometry.strides))] = data
        return stuffed

    def _oriented(self, patches: Array) -> Array:
        return np.flip(patches, tuple(range(-len(self.geometry.kernel), 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductView(MatrixView):
    """MatMul or Gemm; a weight with batch axes has a group for each of its matrices.

    Attributes:
        left: The weight is the left operand, so a row is a column of the output.
        swap_weight: The stored matrix is (K, O).
        swap_data: The stored data is (..., K, N).
        alpha: Factor of the product.
        batch: Batch axes of the weight.
    """

    left: bool
    swap_weight: bool
    swap_data: bool
    alpha: float
    batch: tuple[int, ...]

    def matrix(self, weight: Array) -> Doubles:
        """See :class:`MatrixView`."""
        stored = (self.columns, self.outputs) if self.swap_weight else (self.outputs, self.columns)
        parts = np.asarray(weight, np.float64).reshape(self.groups, *stored) * self.alpha
        return np.ascontiguousarray(parts.swapaxes(1, 2)) if self.swap_weight else parts

    def restore(self, matrix: Array) -> Floats:
        """See :class:`MatrixView`."""
        parts = np.asarray(matrix, np.float64) / self.alpha
        return np.ascontiguousarray(parts.swapaxes(1, 2) if self.swap_weight else parts, np.float32).reshape(self.shape)

    def positions(self, shape: Sequence[int]) -> int:
        """See :class:`MatrixView`."""
        if len(shape) == 1:
            return 1
        lead = np.broadcast_shapes(tuple(shape[:-2]), self.batch)
        return math.prod(lead) // self.groups * shape[-1 if self.swap_data else -2]

    def unfold(self, data: Array, positions: Positions | None = None) -> Array:
        """See :class:`MatrixView`."""
        return self._as_rows(data[None] if data.ndim == 1 else data, positions, swap=self.swap_data and data.ndim > 1)

    def rows(self, output: Array, positions: Positions | None = None) -> Array:
        """See :class:`MatrixView`."""
        if len(self.shape) == 1:  # the product with a vector has no axis for its one channel
            return self._as_rows(np.atleast_2d(output[..., None]), positions, swap=False)
        if output.ndim < len(self.shape):  # the data was a vector: there is no axis for its one row
            return self._as_rows(output[..., None, :], positions, swap=False)
        return self._as_rows(output, positions, swap=self.left)

    def _as_rows(self, parts: Array, positions: Positions | None, *, swap: bool) -> Array:
        """Turn (batch..., N, K) or, to be swapped, (batch..., K, N) into (G, rows, K)."""
        parts = parts.swapaxes(-1, -2) if swap else parts
        if self.batch:
            parts = np.broadcast_to(parts, (*np.broadcast_shapes(parts.shape[:-2], self.batch), *parts.shape[-2:]))
            parts = parts.reshape(-1, self.groups, *parts.shape[-2:]).swapaxes(0, 1)
        rows = parts.reshape(self.groups, -1, parts.shape[-1])
        return rows if positions is None else rows[:, positions]


def _without_leading_ones(sizes: tuple[int, ...]) -> tuple[int, ...]:
    first = next((axis for axis, size in enumerate(sizes) if size != 1), len(sizes))
    return sizes[first:]


def _pad(data: Array, begins: Sequence[int], ends: Sequence[int]) -> Array:
    """Pad the spatial axes with zeros; a negative padding cuts off."""
    spatial = list(zip(begins, ends, strict=True))
    if any(begin < 0 or end < 0 for begin, end in spatial):
        cuts = [
            slice(max(-begin, 0), size - max(-end, 0))
            for (begin, end), size in zip(spatial, data.shape[2:], strict=True)
        ]
        data = data[(slice(None), slice(None), *cuts)]
    widths = [(max(begin, 0), max(end, 0)) for begin, end in spatial]
    return np.pad(data, [(0, 0), (0, 0), *widths]) if any(map(any, widths)) else data
