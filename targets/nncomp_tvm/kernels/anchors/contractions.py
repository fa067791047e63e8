"""Contractions of activations with constant weights, float32 or bytes: packed, and cut into tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from nncomp_tvm.kernels.anchors.anchor import Anchor, Matcher
from nncomp_tvm.kernels.contraction import write_contraction
from nncomp_tvm.kernels.graph import shape_of
from nncomp_tvm.kernels.packing import pack, start_values
from nncomp_tvm.kernels.program import Program
from nncomp_tvm.kernels.tiling import Contraction, Tile, candidates
from nncomp_tvm.library import relax


def contraction(
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
    return replace(packed(matcher, x, weights, shape, output), scale=scale)


def packed(matcher: Matcher, x: Any, weights: NDArray[Any], shape: Contraction, output: tuple[int, ...]) -> Anchor:
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
