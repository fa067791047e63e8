"""Layers that can be decomposed: one weight each, with all the ops that share it, as a tensor (G, O, I, kernel...)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from nncomp.ir import DataType, Graph, Op, Tensor, Value
from nncomp.ops import MatrixView, OpTable
from nncomp.ops.accessors import conv_geometry
from nncomp_lowrank.svd import Array


@dataclass(eq=False)
class Layer:
    """A weight and what multiplies by it.

    Attributes:
        name: Label of the first op.
        weight: The constant, where it is defined; bodies read it through captures.
        home: The graph that holds it.
        view: The op as matrices (G, O, K).
        kernel: Spatial sizes, () for matrix products.
        sites: Every op that multiplies by it, with its graph.
    """

    name: str
    weight: Value
    home: Graph
    view: MatrixView
    kernel: tuple[int, ...]
    sites: list[tuple[Graph, Op]] = field(default_factory=list)

    @property
    def groups(self) -> int:
        """Groups of channels, each with factors of its own."""
        return self.view.groups

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one group's weight, (O, I, kernel...)."""
        return (self.view.outputs, self.view.columns // math.prod(self.kernel), *self.kernel)

    @property
    def op(self) -> Op:
        """The first op."""
        return self.sites[0][1]

    @property
    def inputs(self) -> list[Value]:
        """What each op multiplies."""
        return [value for _, op in self.sites if (value := op.inputs[self.view.data]) is not None]

    def tensor(self) -> Array:
        """Return the weight as (G, O, I, kernel...), a factor of the product (Gemm's alpha) included."""
        array = self.home.array(self.weight)
        assert array is not None
        return self.view.matrix(array).reshape(self.groups, *self.shape)


def find_layers(graph: Graph, ops: OpTable, skip: Iterable[Op] = ()) -> tuple[list[Layer], dict[Op, str]]:
    """Return the layers of a model, bodies included, and why other ops with weights are none.

    Args:
        graph: A model's own graph, typed.
        ops: Op semantics.
        skip: Ops to leave; so is whatever shares their weight.
    """
    skipped = set(skip)
    layers: dict[tuple[object, ...], Layer] = {}
    left: dict[Op, str] = {}
    spoiled: dict[Value, str] = {}
    for part, op in graph.walk():
        view = ops.matrix(op, part)
        if view is None:
            continue
        home, weight = _origin(part, op.inputs[view.weight])
        reason = "skipped by the recipe" if op in skipped else _unfit(part, op, view, home.constant(weight))
        if reason:
            left[op] = reason
            spoiled.setdefault(weight, reason)
            continue
        geometry = conv_geometry(op)
        kernel = geometry.kernel if geometry is not None else ()
        key = (weight, op.kind, view.groups, view.outputs, op.attr("transB", 0), op.attr("alpha", 1.0))
        if key not in layers:
            layers[key] = Layer(op.label, weight, home, view, kernel)
        layers[key].sites.append((part, op))
    found = []
    for layer in layers.values():
        sites = set(layer.sites)
        others = [op for graph_, op in _readers(layer.home, layer.weight) if (graph_, op) not in sites]
        reason = spoiled.get(layer.weight, "")
        if others and not reason:
            reason = f"its weight is read by {others[0].label!r}, too, in another way"
        if reason:
            left.update(dict.fromkeys((op for _, op in layer.sites), reason))
        else:
            found.append(layer)
    return found, left


_ATTRIBUTES: Final = {
    "Conv": {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"},
    "Gemm": {"alpha", "beta", "transA", "transB"},
    "MatMul": set[str](),
}
"""What the ops that replace a layer know how to share among them."""


def _unfit(graph: Graph, op: Op, view: MatrixView, tensor: Tensor | None) -> str:
    """Return why an op cannot be decomposed, "" if it can."""
    data = op.input(view.data)
    if op.domain or op.kind not in _ATTRIBUTES:
        return f"{op.kind} is not decomposed"
    unknown = sorted(set(op.attrs) - _ATTRIBUTES[op.kind])
    if unknown:
        return f"its attribute {unknown[0]!r} is not known"
    if view.weight != 1:
        return "its weight is the left operand"
    if view.groups > 1 and op.kind != "Conv":
        return "it has a weight for each sample of a batch"
    if tensor is None or tensor.dtype != DataType.FLOAT or (op.kind != "Conv" and len(tensor.shape) != 2):
        return "its weight is no float32 matrix"
    geometry = conv_geometry(op)
    if geometry is not None and geometry.is_depthwise:
        return "depthwise: no two channels have anything to share"
    if data is None or data.shape is None:
        return "the rank of its input is not known"
    array = tensor.numpy()
    if not np.isfinite(array).all():
        return "its weight holds NaN or infinity"
    return ""


def _origin(graph: Graph, value: Value | None) -> tuple[Graph, Value]:
    """Return the graph that defines a constant, and the value there, following captures outwards."""
    assert value is not None
    while value in graph.captures and graph.parent is not None:
        graph, value = graph.parent, graph.captures[value]
    return graph, value


def _readers(home: Graph, weight: Value) -> list[tuple[Graph, Op]]:
    """Return every op that reads a constant, in bodies too."""
    found: list[tuple[Graph, Op]] = []
    pending = [(home, weight)]
    while pending:
        graph, value = pending.pop()
        for op, slot in graph.uses(value):
            if isinstance(slot, int):
                found.append((graph, op))
            else:
                pending.append((op.bodies[slot.body], slot.inner))
    return found
