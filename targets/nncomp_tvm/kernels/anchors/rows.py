"""What works along the last axis: softmax, layer normalisation, extremes, and chains of elementwise operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nncomp_tvm.kernels.anchors.anchor import Anchor, Matcher
from nncomp_tvm.kernels.extents import Extent, product
from nncomp_tvm.kernels.graph import array_of, dtype_of, name_of, shape_of
from nncomp_tvm.kernels.rows import Rows, RowWork


def softmax(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """Softmax along the last axis."""
    output = shape_of(variable)
    if output is None or dtype_of(variable) != "float32" or int(call.attrs.axis) not in (-1, len(output) - 1):
        return None
    return _rows(matcher, call.args[0], output, RowWork.SOFTMAX)


def layer_norm(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """Normalise the last axis; gamma and beta are constants, one a column."""
    output, attrs = shape_of(variable), call.attrs
    if output is None or dtype_of(variable) != "float32":
        return None
    gamma, beta = array_of(call.args[1]), array_of(call.args[2])
    last = [int(axis) % len(output) for axis in attrs.axes] == [len(output) - 1]
    if not last or gamma is None or beta is None:
        return None
    found = _rows(matcher, call.args[0], output, RowWork.NORMALISE, float(attrs.epsilon))
    return found and replace(found, scale=gamma if attrs.scale else None, offset=beta if attrs.center else None)


def extreme(matcher: Matcher, variable: Any, call: Any) -> Anchor | None:
    """The highest or lowest of all elements."""
    source, output = shape_of(call.args[0]), shape_of(variable)
    if not source or output is None or product(output) != 1 or dtype_of(variable) != "float32":
        return None
    work = RowWork.HIGHEST if name_of(call) == "max" else RowWork.LOWEST
    shape = Rows(1, product(source), work)
    return matcher.device.rows(shape, call.args[0], source, output)


def elementwise(matcher: Matcher, variable: Any) -> Anchor | None:
    """Return an anchor that computes nothing: a chain of elementwise operators on its own."""
    output = shape_of(variable)
    return None if not output or 0 in output else _rows(matcher, None, output, RowWork.MAP)


def _rows(matcher: Matcher, x: Any, output: tuple[Extent, ...], work: RowWork, epsilon: float = 0.0) -> Anchor | None:
    shape = Rows(product(output[:-1]), output[-1], work, epsilon)
    return matcher.device.rows(shape, x, output, output)
