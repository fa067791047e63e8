"""Which Relax operators start a kernel of ours, and with what shape, packed weights and scales.

An anchor is matched at one binding; operators that follow are fused by ``regions``. Where something does not fit
(symbolic dimensions, weights that are no constants, averages that leave padding out) nothing is matched, and TVM's own
code is used.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nncomp_tvm.kernels.contraction import write_contraction
from nncomp_tvm.kernels.cpu import CpuTarget
from nncomp_tvm.kernels.graph import array_of, dtype_of, name_of, shape_of
from nncomp_tvm.kernels.packing import pack, pack_window, start_values
from nncomp_tvm.kernels.products import Product, write_product
from nncomp_tvm.kernels.program import Program
from nncomp_tvm.kernels.rows import Rows, RowWork, write_rows
from nncomp_tvm.kernels.tiling import Contraction, Tile, candidates
from nncomp_tvm.kernels.window import Fold, Window, window_candidates, write_window
from nncomp_tvm.library import Constant, relax


@dataclass(frozen=True)
class Anchor:
    """A kernel without its epilogue.

    Attributes:
        key: What it computes; equal keys and programs give equal code.
        source: Element type of what it computes, before ``scale`` and ``offset``.
        output: Shape of the result.
        arguments: Its operands for a tile, weights packed.
        write: Program and tile -> PrimFunc.
        tiles: The tiles to choose from, the default first; one for kernels without a choice.
        scale: One factor a column, or one for all, applied first; turns integers into real numbers.
        offset: Added after ``scale``, likewise.
        shift: A zero point that is computed, and the sums of weights that are subtracted so often before all else.
        integer: Whether it multiplies bytes.
        macs: Multiplications.
    """

    key: Hashable
    source: str
    output: tuple[int, ...]
    arguments: Callable[[Tile], list[Any]]
    write: Callable[[Program, Tile], Any]
    tiles: list[Tile] = field(default_factory=lambda: [Tile(1, 1)])
    scale: NDArray[np.float32] | None = None
    offset: NDArray[np.float32] | None = None
    shift: tuple[Any, NDArray[np.int32]] | None = None
    integer: bool = False
    macs: int = 0


@dataclass(frozen=True)
class Quantized:
    """A tensor that is dequantized: ``value`` are its integers; ``scale`` one number, or one a slice of ``axis``."""

    value: Any
    scale: NDArray[np.float32]
    zero_point: int
    axis: int


class Matcher:
    """Matches anchors in one function."""

    def __init__(self, definitions: Mapping[Any, Any], cpu: CpuTarget, *, parallel: bool) -> None:
        self.definitions, self.cpu, self.parallel = definitions, cpu, parallel

    def match(self, variable: Any, call: Any) -> Anchor | None:
        """Return the anchor at a binding, or None."""
        handler = _ANCHORS.get(name_of(call))
        if handler is None:
            return None
        shapes = [shape_of(value) for value in (variable, *call.args) if isinstance(value, relax.Var | Constant)]
        if any(shape is None or 0 in shape for shape in shapes):
            return None
        return handler(self, variable, call)

    def quantized(self, value: Any) -> Quantized | None:
        """Return what is dequantized to ``value``, by constants, or None."""
        call: Any = self.definitions.get(value)
        if name_of(call) != "dequantize" or shape_of(call.args[0]) is None:
            return None
        scale, zero = array_of(call.args[1]), array_of(call.args[2])
        if scale is None or zero is None or scale.dtype != np.float32 or np.unique(zero).size != 1:
            return None
        return Quantized(call.args[0], scale.reshape(-1), int(zero.reshape(-1)[0]), int(call.attrs.axis))

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
        left, right = self.quantized(x), self.quantized(weight)
        stored = array_of(right.value) if right else None
        if left is None or right is None or stored is None:
            return None
        fits = left.scale.size == 1 and (right.scale.size == 1 or right.axis % stored.ndim == axis)
        shifted = stored.astype(np.int16) - right.zero_point
        if not fits or dtype_of(left.value) != "uint8" or shifted.min() < -128 or shifted.max() > 127:
            return None
        return left, shifted.astype(np.int8), left.scale * right.scale


def _convolution(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    attrs = call.attrs
    x, weight = call.args
    source, output = shape_of(x), shape_of(variable)
    if attrs.data_layout != "NHWC" or source is None or output is None or dtype_of(variable) != "float32":
        return None
    groups = int(attrs.groups)
    wshape = shape_of(weight)
    if wshape is None:
        return None
    shape = replace(
        _sliding(source, attrs, wshape[1:3]), channels=wshape[3], columns=wshape[0] // groups, groups=groups
    )
    if shape.output != output[1:3]:
        return None
    if wshape[3] == 1 and wshape[0] == groups:
        return _depthwise(matcher, call, replace(shape, columns=1), output)
    return _contraction(matcher, call, shape, output, arrange=lambda w: _grouped(w, groups), axis=0)


def _sliding(source: tuple[int, ...], attrs: Any, kernel: Any) -> Contraction:
    """Return an operator that slides over an image, each channel a group of its own."""
    height, width, *_ = (int(size) for size in kernel)
    strides, dilations = (tuple(int(v) for v in values) for values in (attrs.strides, attrs.dilation))
    top, left, bottom, right = (int(pad) for pad in attrs.padding)
    return Contraction(
        batch=source[0],
        height=source[1],
        width=source[2],
        channels=1,
        columns=1,
        kernel=(height, width),
        strides=(strides[0], strides[1]),
        dilations=(dilations[0], dilations[1]),
        pads=(top, left, bottom, right),
        groups=source[3],
    )


def _grouped(weights: NDArray[Any], groups: int) -> NDArray[Any]:
    """OHWI -> (groups, kernel rows, kernel columns, channels, columns)."""
    split = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
    return split.transpose(0, 2, 3, 4, 1)


def _contraction(
    matcher: Matcher,
    call: Any,
    shape: Contraction,
    output: tuple[int, ...],
    *,
    arrange: Callable[[NDArray[Any]], NDArray[Any]],
    axis: int,
) -> Anchor | None:
    """Return a contraction, with bytes if both operands are quantized and channels come in fours.

    Args:
        arrange: Makes (groups, kernel rows, kernel columns, channels, columns) of the weights.
        axis: The axis of the weights with the output channels.
    """
    scale, (x, weight) = None, call.args
    found = matcher.integers(x, weight, axis) if shape.channels % 4 == 0 else None
    if found is not None:
        quantized, stored, scale = found
        x = quantized.value
        shape = replace(shape, integer=True, zero_point=quantized.zero_point)
        weights: NDArray[Any] = arrange(stored)
    else:
        constant = matcher.constant(weight)
        if constant is None:
            return None
        weights = arrange(constant)
    return replace(_packed(matcher, x, weights, shape, output), scale=scale)


def _packed(matcher: Matcher, x: Any, weights: NDArray[Any], shape: Contraction, output: tuple[int, ...]) -> Anchor:
    """Return a contraction of ``x`` with weights (groups, kernel rows, kernel columns, channels, columns)."""
    cpu, source, flat = matcher.cpu, shape_of(x), shape.flattened()
    assert source is not None

    def arguments(tile: Tile) -> list[Any]:
        start = [relax.const(start_values(flat, weights))] if flat.zero_point else []
        return [x, relax.const(pack(flat, tile, cpu, weights)), *start]

    def write(program: Program, tile: Tile) -> Any:
        return write_contraction(
            flat, program, tile, cpu, input_shape=source, output_shape=output, parallel=matcher.parallel
        )

    return Anchor(
        (flat, source, output),
        "int32" if flat.integer else "float32",
        output,
        arguments,
        write,
        candidates(flat, cpu),
        integer=flat.integer,
        macs=flat.macs,
    )


def _depthwise(matcher: Matcher, call: Any, shape: Contraction, output: tuple[int, ...]) -> Anchor | None:
    x, weight = call.args
    found = matcher.integers(x, weight, 0)
    scale = None
    if found is not None:
        quantized, stored, scale = found
        x, shape = quantized.value, replace(shape, zero_point=quantized.zero_point)
        weights: NDArray[Any] = stored
    else:
        constant = matcher.constant(weight)
        if constant is None:
            return None
        weights = constant
    packed = relax.const(pack_window(weights[..., 0]))
    return _window(matcher, Window(shape, Fold.WEIGHTED, dtype_of(x)), [x, packed], output, scale=scale)


def _window(
    matcher: Matcher,
    window: Window,
    operands: list[Any],
    output: tuple[int, ...],
    *,
    scale: NDArray[np.float32] | None = None,
    offset: NDArray[np.float32] | None = None,
) -> Anchor:
    source = shape_of(operands[0])
    assert source is not None

    def write(program: Program, tile: Tile) -> Any:
        return write_window(
            window, program, tile, matcher.cpu, input_shape=source, output_shape=output, parallel=matcher.parallel
        )

    return Anchor(
        (window, source, output),
        "float32",
        output,
        lambda tile: operands,
        write,
        window_candidates(window, matcher.cpu),
        scale=scale,
        offset=offset,
        integer=window.dtype != "float32",
        macs=window.shape.macs,
    )


def _pool(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    attrs, x = call.attrs, call.args[0]
    source, output = shape_of(x), shape_of(variable)
    if attrs.layout != "NHWC" or source is None or output is None:
        return None
    shape = _sliding(source, attrs, attrs.pool_size)
    if shape.output != output[1:3]:
        return None
    if name_of(call) == "nn.max_pool2d":
        return _reduction(matcher, x, shape, Fold.MAX, output)
    if any(shape.pads) and not attrs.count_include_pad:
        return None
    return _reduction(matcher, x, shape, Fold.SUM, output)


def _mean(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    source, output = shape_of(call.args[0]), shape_of(variable)
    if source is None or output is None or len(source) != 4 or call.attrs.axis is None:
        return None
    if [int(axis) for axis in call.attrs.axis] != [1, 2]:
        return None
    batch, height, width, channels = source
    shape = Contraction(batch, height, width, 1, 1, kernel=(height, width), groups=channels)
    return _reduction(matcher, call.args[0], shape, Fold.SUM, output)


def _reduction(matcher: Matcher, x: Any, shape: Contraction, fold: Fold, output: tuple[int, ...]) -> Anchor | None:
    """Pool real numbers, or integers that stand for them: scale and zero point are applied to what is left."""
    source = shape_of(x)
    if source is None or dtype_of(x) != "float32":
        return None
    size = np.float32(1.0 / (shape.kernel[0] * shape.kernel[1])) if fold is Fold.SUM else np.float32(1.0)
    quantized = matcher.quantized(x)
    if quantized is None or quantized.scale.size != 1:
        scale = np.array([size], np.float32) if fold is Fold.SUM else None
        return _window(matcher, Window(shape, fold), [x], output, scale=scale)
    scale = quantized.scale * size
    offset = -scale * np.float32(quantized.zero_point) if fold is Fold.MAX else None
    shape = replace(shape, zero_point=quantized.zero_point)
    window = Window(shape, fold, dtype_of(quantized.value))
    return _window(matcher, window, [quantized.value], output, scale=scale, offset=offset)


def _matmul(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    left, right = call.args
    source, other, output = shape_of(left), shape_of(right), shape_of(variable)
    if source is None or other is None or output is None:
        return None
    if dtype_of(variable) == "int32":
        return _integer_matmul(matcher, left, right, output)
    if dtype_of(left) != "float32" or dtype_of(right) != "float32":
        return None
    if min(len(source), len(other)) < 2:
        return None
    rows = int(np.prod(source[:-1]))
    if len(other) == 2:
        shape = Contraction(1, 1, rows, other[0], other[1])
        found = _contraction(matcher, call, shape, output, arrange=lambda w: w[None, None, None], axis=1)
        if found is not None:
            return found
    product = Product(source, other, output[:-2])
    return Anchor(
        product,
        "float32",
        output,
        lambda tile: [left, right],
        lambda program, tile: write_product(product, program, tile, matcher.cpu, parallel=matcher.parallel),
        product.tiles(matcher.cpu),
        macs=int(np.prod(output)) * source[-1],
    )


def _integer_matmul(matcher: Matcher, left: Any, right: Any, output: tuple[int, ...]) -> Anchor | None:
    """(x - zero point) w in int32, with a zero point that is computed: MatMulInteger behind DynamicQuantizeLinear."""
    zero = None
    call: Any = matcher.definitions.get(left)
    if name_of(call) == "subtract" and shape_of(call.args[1]) in {(), (1,)}:
        left, zero = call.args
        call = matcher.definitions.get(left)
    stored = array_of(right)
    x = call.args[0] if name_of(call) == "astype" else None
    if x is None or dtype_of(x) != "uint8" or stored is None or stored.ndim != 2 or len(stored) % 4:
        return None
    if stored.min() < -128 or stored.max() > 127:
        return None
    source = shape_of(x)
    assert source is not None
    shape = Contraction(1, 1, int(np.prod(source[:-1])), stored.shape[0], stored.shape[1], integer=True)
    weights = stored.astype(np.int8)[None, None, None]
    found = _packed(matcher, x, weights, shape, output)
    return found if zero is None else replace(found, shift=(zero, stored.sum(axis=0, dtype=np.int32)))


def _rows(matcher: Matcher, x: Any, output: tuple[int, ...], work: RowWork, epsilon: float = 0.0) -> Anchor:
    shape = Rows(int(np.prod(output[:-1])), output[-1], work, epsilon)
    return Anchor(
        (shape, output),
        "float32",
        output,
        lambda tile: [] if work is RowWork.MAP else [x],
        lambda program, tile: write_rows(
            shape, program, matcher.cpu, tensor=output, output=output, parallel=matcher.parallel
        ),
    )


def _extreme(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """The highest or lowest of all elements."""
    source, output = shape_of(call.args[0]), shape_of(variable)
    if not source or output is None or int(np.prod(output)) != 1 or dtype_of(variable) != "float32":
        return None
    work = RowWork.HIGHEST if name_of(call) == "max" else RowWork.LOWEST
    shape = Rows(1, int(np.prod(source)), work)
    return Anchor(
        (shape, source, output),
        "float32",
        (),
        lambda tile: [call.args[0]],
        lambda program, tile: write_rows(
            shape, program, matcher.cpu, tensor=source, output=output, parallel=matcher.parallel
        ),
    )


def _softmax(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    output = shape_of(variable)
    if output is None or dtype_of(variable) != "float32" or int(call.attrs.axis) not in (-1, len(output) - 1):
        return None
    return _rows(matcher, call.args[0], output, RowWork.SOFTMAX)


def _layer_norm(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    output, attrs = shape_of(variable), call.attrs
    if output is None or dtype_of(variable) != "float32":
        return None
    gamma, beta = array_of(call.args[1]), array_of(call.args[2])
    last = [int(axis) % len(output) for axis in attrs.axes] == [len(output) - 1]
    if not last or gamma is None or beta is None:
        return None
    found = _rows(matcher, call.args[0], output, RowWork.NORMALISE, float(attrs.epsilon))
    return replace(found, scale=gamma if attrs.scale else None, offset=beta if attrs.center else None)


def elementwise(matcher: Matcher, variable: Any) -> Anchor | None:
    """Return an anchor that computes nothing: a chain of elementwise operators on its own."""
    output = shape_of(variable)
    return None if not output or 0 in output else _rows(matcher, None, output, RowWork.MAP)


Handler = Callable[[Matcher, Any, Any], Anchor | None]

_ANCHORS: Final[Mapping[str, Handler]] = MappingProxyType(
    {
        "nn.conv2d": _convolution,
        "nn.max_pool2d": _pool,
        "nn.avg_pool2d": _pool,
        "mean": _mean,
        "matmul": _matmul,
        "max": _extreme,
        "min": _extreme,
        "nn.softmax": _softmax,
        "nn.layer_norm": _layer_norm,
    }
)
