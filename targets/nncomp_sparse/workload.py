"""From a graph to layers: loop nests of its ops, real zeros of its weights, measured zeros of its activations, bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, Op, Value
from nncomp.ops import LoopNest, OpTable, Role
from nncomp_sparse.activations import Zeros, run_pads
from nncomp_sparse.layer import Layer, Operand, stored_elements

_QUANTIZERS: Final = ("QuantizeLinear", "DequantizeLinear")
_MOST_CODES: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class Unpriced:
    """An op that is not priced.

    Attributes:
        node, kind: Which.
        macs: Its multiply-accumulates; None when they are not known either.
        elementary: Its other scalar operations; None as above.
        reason: Why.
    """

    node: str
    kind: str
    macs: int | None
    elementary: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class Workload:
    """A network as an accelerator sees it."""

    layers: tuple[Layer, ...]
    unpriced: tuple[Unpriced, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates that are priced."""
        return sum(layer.macs for layer in self.layers)


def watched(graph: Graph, ops: OpTable) -> dict[str, int | None]:
    """Return the activations whose zeros matter, by name, with the axis of their channels."""
    axes: dict[str, int | None] = {}
    for op in graph.ops():
        for nest in ops.nests(op, graph.opsets) or ():
            read = None if nest.data is None else op.input(nest.data)
            if read is not None and graph.constant(read) is None:
                axes[read.name] = nest.channel_axis
    for op in graph.ops():
        if ops.nests(op, graph.opsets):
            axes.setdefault(_stored(graph, ops, op).name, None)
    return axes


def read_workload(graph: Graph, ops: OpTable, zeros: Mapping[str, Zeros]) -> Workload:
    """Return the layers of a graph whose types are known, and what is left over.

    Args:
        graph: A model's own graph; ops inside of bodies are not priced.
        ops: Semantics.
        zeros: Of activations, by name; those that are not there count as dense.
    """
    layers: list[Layer] = []
    unpriced: list[Unpriced] = []
    for part, op in graph.walk():
        cost = ops.cost(op, part)
        nests = ops.nests(op, part.opsets) if part is graph else None
        if nests and (cost is None or cost.macs):  # an empty axis leaves nothing to multiply
            layers += _layers(graph, ops, op, nests, zeros)
            continue
        known = cost is not None and cost.macs == 0
        if known and (cost is None or cost.elementary == 0):
            continue
        if op.kind in _QUANTIZERS or op.kind == "Constant":
            continue
        reason = _reason(part is graph, known, ops.row(op, part.opsets) is None)
        macs, elementary = (None, None) if cost is None else (cost.macs, cost.elementary)
        unpriced.append(Unpriced(op.label, op.kind, macs, elementary, reason))
    return Workload(tuple(layers), tuple(unpriced))


def _reason(outermost: bool, known: bool, strange: bool) -> str:
    if strange:
        return "no op semantics: nothing is known about this op"
    if known:
        return "no multiply-accumulates"
    return "its loops or its sizes are not known" if outermost else "inside a body"


def _layers(graph: Graph, ops: OpTable, op: Op, nests: tuple[LoopNest, ...], zeros: Mapping[str, Zeros]) -> list[Layer]:
    layers = []
    for number, nest in enumerate(nests):
        sizes = stored_elements(nest)
        data = None if nest.data is None else op.input(nest.data)
        weight = None if nest.weight is None else op.input(nest.weight)
        written = _stored(graph, ops, op) if number == len(nests) - 1 else None
        layers.append(
            Layer(
                op.label if len(nests) == 1 else f"{op.label}[{number}]",
                op.kind,
                nest,
                weight=_weight(graph, op, nest, weight, sizes["weight"]),
                input=_activation(graph, data, nest, sizes["input"], zeros),
                output=_activation(graph, written, None, sizes["output"], zeros),
                op=op.label,
                chained=_chained(graph, ops, op, nest) if len(nests) == 1 else frozenset(),
            )
        )
    return layers


def _chained(graph: Graph, ops: OpTable, op: Op, nest: LoopNest) -> frozenset[str]:
    """Return the sides on which an op with a constant weight meets another one, across movements only."""
    found = set()
    if not _has_weight(graph, ops, op):
        return frozenset()
    value = None if nest.data is None else op.input(nest.data)
    while value is not None and value.producer is not None and graph.single_use(value):
        if _has_weight(graph, ops, value.producer):
            found.add("input")
            break
        if ops.quant(value.producer, graph.opsets).role is not Role.PASSTHROUGH:
            break
        value = value.producer.input(0)
    value = op.output
    while graph.single_use(value):
        (user,) = graph.users(value)
        if _has_weight(graph, ops, user):
            found.add("output")
            break
        if ops.quant(user, graph.opsets).role is not Role.PASSTHROUGH:
            break
        value = user.output
    return frozenset(found)


def _has_weight(graph: Graph, ops: OpTable, op: Op) -> bool:
    nests = ops.nests(op, graph.opsets)
    weight = None if not nests or nests[0].weight is None else op.input(nests[0].weight)
    return weight is not None and real_values(graph, weight) is not None


def _stored(graph: Graph, ops: OpTable, op: Op) -> Value:
    """Return what is written behind an op: activations and quantizers that only it feeds are applied on the way."""
    value = op.output
    while graph.single_use(value):
        (user,) = graph.users(value)
        if user.kind not in _QUANTIZERS and ops.quant(user, graph.opsets).role is not Role.ACTIVATION:
            break
        value = user.output
    return value


def _weight(graph: Graph, op: Op, nest: LoopNest, value: Value | None, elements: int) -> Operand:
    bits = op.attr("bits") if op.kind == "MatMulNBits" else _bits(value)
    values = None if value is None else real_values(graph, value)
    arranged = None if values is None else nest.arranged(values)
    if arranged is None:
        return Operand(elements, bits)
    mask = arranged != 0
    return Operand(
        elements,
        bits,
        float(np.count_nonzero(mask)),
        channels=np.asarray(mask.mean(axis=(1, *range(3, mask.ndim)))),
        pads=run_pads(mask).astype(np.float64),
        mask=mask,
        codes=_codes(arranged),
        known="measured",
    )


def _codes(values: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    """Return how often each distinct value occurs; None when there are too many to be codes."""
    _, counts = np.unique(values.reshape(-1)[: 1 << 22], return_counts=True)
    return counts.astype(np.float64) if counts.size <= _MOST_CODES else None


def real_values(graph: Graph, value: Value) -> npt.NDArray[Any] | None:
    """Return a constant's numbers with zero at zero: codes less their zero point where it is quantized.

    Scales do not matter for zeros, and are not applied.
    """
    plain = graph.array(value)
    if plain is not None:
        return plain
    op = value.producer
    if op is None or op.kind != "DequantizeLinear":
        return None
    codes, zero = graph.array(op.input(0)), graph.array(op.input(2)) if op.input(2) is not None else None
    if codes is None:
        return None
    if zero is None or not zero.any():
        return codes
    axis, block = op.attr("axis", 1), op.attr("block_size", 0)
    wide, point = codes.astype(np.int32), zero.astype(np.int32)
    if block:
        point = np.repeat(point, block, axis=axis)
    elif point.size > 1:
        point = point.reshape([-1 if place == axis % wide.ndim else 1 for place in range(wide.ndim)])
    return np.asarray(wide - point)


def _bits(value: Value | None) -> int | None:
    """Return the width that the model gives a value, None for floats: quantizers around it say it."""
    if value is None:
        return None
    source = value
    if value.producer is not None and value.producer.kind in _QUANTIZERS:
        op = value.producer
        given = op.input(0) if op.kind == "DequantizeLinear" else op.output
        source = given if given is not None else value
    type_ = source.tensor_type
    return None if type_ is None or type_.dtype.is_floating_point() else int(type_.dtype.bits)


def _activation(
    graph: Graph, value: Value | None, nest: LoopNest | None, elements: int, zeros: Mapping[str, Zeros]
) -> Operand:
    bits = _bits(value)
    if value is None:
        return Operand(elements, bits)
    constant = graph.array(value)
    found = zeros.get(value.name)
    if constant is not None:
        found = Zeros(None if nest is None else nest.channel_axis)
        found.update(constant)
    if found is None or not found.samples or not found.elements:
        return Operand(elements, bits)
    density = float(found.nonzeros.sum()) / found.elements
    channels = None
    if nest is not None and found.nonzeros.size in (nest.inputs, nest.groups * nest.inputs) and found.nonzeros.size > 1:
        shares = found.nonzeros / (found.elements / found.nonzeros.size)
        rows = shares.reshape(-1, nest.inputs)
        channels = np.broadcast_to(rows, (nest.groups, nest.inputs))
    pads = found.pads / found.elements * elements
    return Operand(elements, bits, density * elements, channels, pads, known="measured")
