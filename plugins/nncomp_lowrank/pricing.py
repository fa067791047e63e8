"""What a layer costs, as it is and in any form: counted by the table of op semantics, and timed on the target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, Op, TensorType, Value
from nncomp.ops import OpTable
from nncomp.report import with_shapes
from nncomp.runtime import Feeds
from nncomp_lowrank.forms import Form
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.writing import write_form

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Price:
    """Cost of a layer: MACs of all its sites, parameters of its one weight."""

    macs: int
    params: int


class Pricer:
    """Prices layers from graphs of one layer each; equal layers are looked at once.

    Args:
        ops: Op semantics.
        shapes: Shape of what each site multiplies.
    """

    def __init__(self, ops: OpTable, shapes: Mapping[Value, Shape]) -> None:
        self._ops, self._shapes = ops, shapes
        self._known: dict[object, Price] = {}

    def dense(self, layer: Layer) -> Price:
        """Return the price of the layer as it is."""
        return self._price(layer, None, ())

    def form(self, layer: Layer, form: Form, ranks: tuple[int, ...]) -> Price:
        """Return the price of the layer in a form."""
        return self._price(layer, form, ranks)

    def alone(self, layer: Layer, site: Op, form: Form | None, ranks: tuple[int, ...]) -> Graph:
        """Return a graph of one site alone, with random weights: zeros may take another time."""
        rng = np.random.default_rng(0)
        return layer_alone(
            layer, site, self._data_shape(layer, site), form, ranks, values=lambda shape: rng.normal(0, 0.05, shape)
        )

    def key(self, layer: Layer, site: Op) -> object:
        """Return what makes two sites cost the same."""
        attrs = tuple(sorted((name, repr(attr.value)) for name, attr in site.attrs.items()))
        return (site.kind, attrs, layer.groups, layer.shape, self._data_shape(layer, site), len(site.inputs))

    def _data_shape(self, layer: Layer, site: Op) -> Shape:
        return self._shapes[site_input(layer, site)]

    def _price(self, layer: Layer, form: Form | None, ranks: tuple[int, ...]) -> Price:
        macs = params = 0
        for _, site in layer.sites:
            key = (self.key(layer, site), form.name if form is not None else "", ranks)
            if key not in self._known:
                alone = layer_alone(layer, site, self._data_shape(layer, site), form, ranks, values=np.zeros)
                self._known[key] = self._counted(alone)
            macs, params = macs + self._known[key].macs, self._known[key].params
        return Price(macs, params)

    def _counted(self, graph: Graph) -> Price:
        infer_types(graph, self._ops)
        costs = [cost for op in graph.ops() if (cost := self._ops.cost(op, graph)) is not None]
        params = sum(value.const.size for value in graph.constants() if value.const is not None and _is_float(value))
        return Price(sum(cost.macs for cost in costs), params)


def layer_alone(
    layer: Layer,
    site: Op,
    data: Shape,
    form: Form | None,
    ranks: tuple[int, ...],
    *,
    values: Callable[[Shape], NDArray[np.float64]],
) -> Graph:
    """Return a graph with one input of shape ``data`` and one site of a layer, dense or in a form.

    ``values`` makes the weights.
    """
    graph = Graph("layer")
    graph.set_info(opsets=layer.home.opsets, ir_version=layer.home.info.ir_version)
    x = graph.add_input("x", TensorType(DataType.FLOAT, data))
    tensor = layer.home.constant(layer.weight)
    assert tensor is not None
    weight = graph.add_constant("w", values(tensor.shape).astype(np.float32))
    bias = site.input(2) if site.kind in ("Conv", "Gemm") else None
    biases = values((layer.groups * layer.shape[0],)).astype(np.float32)
    operands = [x, weight, graph.add_constant("b", biases)][: 3 if bias else 2]
    op = graph.add_op(site.kind, operands, ["y"], attrs=site.attrs, name="layer")
    graph.set_outputs([op.output])
    infer_types(graph)
    if form is None:
        return graph
    twin = Layer("layer", weight, graph, layer.view, layer.kernel, [(graph, op)])
    factors = [[values(shape) for shape in form.shapes(layer.shape, ranks)]] * layer.groups
    write_form(twin, form, factors)
    return graph


def cost_of(graph: Graph, chosen: Iterable[Op], ops: OpTable, feeds: Feeds | None, *, cost: str) -> int:
    """Return what some ops of a model cost in all, ``macs`` or ``params``, at the sizes of ``feeds``.

    Sizes that nobody knows are 1.
    """
    guessed = {
        value.name: tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)
        for value in graph.inputs
        if value.shape is not None
    }
    sized = with_shapes(graph, ops, guessed, feeds=feeds)
    twins = {op: (part, twin) for (_, op), (part, twin) in zip(graph.walk(), sized.walk(), strict=True)}
    costs = (ops.cost(twin, part) for part, twin in map(twins.__getitem__, chosen))
    return sum(getattr(one, cost) for one in costs if one is not None)


def site_input(layer: Layer, site: Op) -> Value:
    """Return what a site multiplies."""
    value = site.inputs[layer.view.data]
    assert value is not None
    return value


def _is_float(value: Value) -> bool:
    return value.const is not None and value.const.dtype == DataType.FLOAT and len(value.const.shape) > 1
