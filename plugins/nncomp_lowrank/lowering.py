"""A layer's factors as ops: what is written into the graph in place of one Conv, Gemm or MatMul."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, Value
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.svd import Array

Floats: TypeAlias = npt.NDArray[np.float32]

ROUNDS: Final = 4
"""How often the factors of a layer are scaled against each other."""

GEMM_WITHOUT_BIAS: Final = 11
"""First opset whose Gemm may leave its bias out."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One factor as a layer.

    Attributes:
        suffix: What is added to the layer's name.
        axes: Spatial axes that it convolves along.
        depthwise: It works channel by channel: the factor has no axis that it reads.
    """

    suffix: str
    axes: tuple[int, ...] = ()
    depthwise: bool = False


def balanced(factors: Sequence[Array], stages: Sequence[Stage]) -> list[Array]:
    """Scale factors against each other, so that every channel between two of them has equal weights on both sides.

    A channel's weights in the factor that writes it and in the one that reads it get the same root mean square, from
    the data inwards: what is between is then of like size in all channels, and one scale serves when it is quantized.

    Args:
        factors: From the output to the input, all groups stacked: (G * written, read, ...).
        stages: What they are.
    """
    found = list(factors)
    for reader in [*range(len(found) - 2, -1, -1)] * ROUNDS:  # each pair upsets its neighbours a little
        writer = reader + 1
        groups = 1 if stages[reader].depthwise else found[writer].shape[0] // found[reader].shape[1]
        written = np.sqrt(np.square(found[writer]).reshape(found[writer].shape[0], -1).mean(axis=1))
        if stages[reader].depthwise:
            read = np.sqrt(np.square(found[reader]).reshape(len(written), -1).mean(axis=1))
        else:
            parts = np.square(found[reader]).reshape(
                groups, -1, found[reader].shape[1], math.prod(found[reader].shape[2:])
            )
            read = np.sqrt(parts.mean(axis=(1, 3))).reshape(-1)
        usable = (written > 0) & (read > 0)
        factor = np.sqrt(np.where(usable, read / np.where(usable, written, 1.0), 1.0))
        found[writer] = found[writer] * factor.reshape(-1, *[1] * (found[writer].ndim - 1))
        if stages[reader].depthwise:
            found[reader] = found[reader] / factor.reshape(-1, *[1] * (found[reader].ndim - 1))
        else:
            spread = np.repeat(factor.reshape(groups, -1), found[reader].shape[0] // groups, axis=0)
            found[reader] = found[reader] / spread.reshape(*spread.shape, *[1] * (found[reader].ndim - 2))
    return found


def stage_weight(layer: Layer, factor: Array, stage: Stage) -> Floats:
    """Return a factor in the layout that its op reads."""
    if not layer.kernel:
        stored = factor if layer.op.attr("transB", 0) else factor.T
        return np.ascontiguousarray(stored, np.float32)
    read = 1 if stage.depthwise else factor.shape[1]
    sizes = [layer.kernel[axis] if axis in stage.axes else 1 for axis in range(len(layer.kernel))]
    return np.ascontiguousarray(factor.reshape(factor.shape[0], read, *sizes), np.float32)


def write_chain(graph: Graph, op: Op, layer: Layer, weights: Sequence[Value], stages: Sequence[Stage]) -> None:
    """Write the stages in place of ``op``, data first; the last one keeps the bias, and what reads the op reads it."""
    value = op.inputs[0]
    assert value is not None
    base = op.name or op.output.name
    no_bias = None
    if op.kind == "Gemm" and graph.opsets.get("", GEMM_WITHOUT_BIAS) < GEMM_WITHOUT_BIAS:
        no_bias = graph.add_constant(f"{base}.zero", np.zeros(1, np.float32))
    for at in reversed(range(len(stages))):
        first, last = at == len(stages) - 1, at == 0
        inputs = [value, weights[at], op.input(2) if last else no_bias]
        attrs = _conv_attrs(op, layer, stages[at], weights[at]) if layer.kernel else _product_attrs(op, first, last)
        name = f"{base}.{stages[at].suffix}"
        value = graph.add_op(op.kind, inputs, [(name, op.output.type if last else None)], attrs=attrs, name=name).output
    stand_in(graph, op, value)


def stand_in(graph: Graph, op: Op, value: Value) -> None:
    """Let ``value`` be what ``op`` gave, under its name, and remove ``op``."""
    name = op.output.name
    graph.replace_uses(op.output, value)
    graph.remove_unused([op.output])
    if not graph.has_name(name):
        graph.rename(value, name)


def _conv_attrs(op: Op, layer: Layer, stage: Stage, weight: Value) -> Mapping[str, object]:
    """Return the attributes of one stage: its own axes keep kernel, strides, dilations and pads, others have none.

    Each axis belongs to one stage, so strides are taken once.
    """
    spatial = len(layer.kernel)
    own = set(stage.axes)
    attrs: dict[str, object] = {"kernel_shape": [layer.kernel[k] if k in own else 1 for k in range(spatial)]}
    for name in ("strides", "dilations"):
        given = op.attr(name)
        if given:
            attrs[name] = [given[k] if k in own else 1 for k in range(spatial)]
    auto = op.attr("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        attrs["auto_pad"] = auto  # along an axis with kernel 1 and stride 1 it is no padding
    elif auto != "VALID" and op.attr("pads"):
        given = op.attr("pads")
        attrs["pads"] = [given[k] if k % spatial in own else 0 for k in range(2 * spatial)]
    assert weight.shape is not None
    group = weight.shape[0] if stage.depthwise else layer.groups
    if group != 1:
        attrs["group"] = group
    return attrs


def _product_attrs(op: Op, first: bool, last: bool) -> Mapping[str, object]:
    """Return the attributes of one product: the data is transposed at the first, alpha is in the factors already."""
    if op.kind != "Gemm":
        return {}
    attrs: dict[str, object] = {"transB": 1} if op.attr("transB", 0) else {}
    if first and op.attr("transA", 0):
        attrs["transA"] = 1
    if last and op.attr("beta", 1.0) != 1.0:
        attrs["beta"] = op.attr("beta")
    return attrs


def visible(graph: Graph, home: Graph, value: Value) -> Value:
    """Return what stands in ``graph`` for a value of ``home``, a graph around it."""
    if graph is home:
        return value
    assert graph.parent is not None
    return graph.capture(visible(graph.parent, home, value))
