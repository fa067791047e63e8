"""The layers of a result: what runs as one kernel, what it costs, and how it was treated.

Where a target tells its kernels, a layer is what one kernel computes: a convolution with its activation and the
quantizers around it, say. Where it does not, each op is a layer, and quantizers belong to the op that they serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from nncomp.ir import DataType, Graph, Op, Tensor, TensorType, Value
from nncomp.ops import OpTable, Role
from nncomp.report.facts import kind_name
from nncomp.report.spread import Spread, sampled
from nncomp.targets import Kernel

_QUANTIZERS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
_QUIET: Final = frozenset({*_QUANTIZERS, "Constant", "Cast", "Identity"})
"""Kinds that name a layer only when it holds nothing else."""


_COMPUTES: Final = frozenset({Role.COMPUTE, Role.ELEMENTWISE, Role.ACTIVATION, Role.SENSITIVE})
"""Roles of ops that are no part of a kernel which only moves numbers."""

_CODES: Final = frozenset(
    {DataType.UINT4, DataType.INT4, DataType.UINT8, DataType.INT8, DataType.UINT16, DataType.INT16}
)
"""Types of what stands for numbers."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; what is not known is None.

    Attributes:
        name: Label of its main op.
        kind: Of its main op.
        ops: Kinds of all its ops but quantizers and constants.
        inputs: Positions of the layers that it reads.
        output: Name of the value that it computes.
        shape: Of that value.
        macs: Multiply-accumulates.
        params: Elements of its weight.
        moved_bytes: That it reads and writes, as far as they are known.
        weight_bits, activation_bits: Of what it multiplies, as stored.
        zeros: Share of its weight that is zero.
        kernel: What the target calls it, "" when it does not say.
        precision: ``integer``, ``float``, or ``moves`` when it only moves or converts numbers.
        cause: Why it is float, "" when nobody said.
        error: Of the output against the same value in front of the last pass that changes numbers: relative, L2.
        weight, activation: How the numbers are spread.
    """

    name: str
    kind: str
    ops: tuple[str, ...]
    inputs: tuple[int, ...]
    output: str
    shape: tuple[int, ...] | None = None
    macs: int | None = None
    params: int = 0
    moved_bytes: int | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    zeros: float | None = None
    kernel: str = ""
    precision: str = "float"
    cause: str = ""
    error: float | None = None
    weight: Spread | None = None
    activation: Spread | None = None


@dataclass(frozen=True, slots=True)
class LayerTime:
    """What one layer takes in a run, microseconds; None when it was not measured.

    Attributes:
        latency_us: In the result.
        baseline_us: Of the kernels of the original that compute the same value.
    """

    latency_us: float | None = None
    baseline_us: float | None = None


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What is told of layers.

    Attributes:
        layers: In order.
        times: One a layer; no part of what is the same for the same input.
        other_us: Of kernels that the target put in by itself, such as changes of layout; None without times.
        against: The pass in front of which values were as they should be, "" when nothing was compared.
        skipped: Why something is not known, by ``error``, ``kernels`` and ``latency``.
    """

    layers: tuple[Layer, ...] = ()
    times: tuple[LayerTime, ...] = ()
    other_us: float | None = None
    against: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layers:
    """All layers of a model's own graph, those that read others behind them.

    Attributes:
        layers: In order.
        members: The ops of each, in order.
        mains: The op of each that it is named after.
        kernels: The kernels of each.
    """

    layers: tuple[Layer, ...]
    members: tuple[tuple[Op, ...], ...]
    mains: tuple[Op, ...]
    kernels: tuple[tuple[Kernel, ...], ...]

    def times(self, baseline: Sequence[Kernel] = ()) -> tuple[LayerTime, ...]:
        """Return the times of the layers.

        Args:
            baseline: Kernels of the original: a layer's are those that compute a value with a name of this layer.
        """
        homes = {
            value.name: number for number, ops in enumerate(self.members) for op in ops for value in op.outputs
        }  # fmt: skip
        theirs: list[float | None] = [None] * len(self.layers)
        for kernel in baseline:
            number = next((homes[name] for name in reversed(kernel.outputs) if name in homes), None)
            if number is not None and kernel.latency_us is not None:
                theirs[number] = (theirs[number] or 0.0) + kernel.latency_us
        return tuple(
            LayerTime(_summed([kernel.latency_us for kernel in mine]), other)
            for mine, other in zip(self.kernels, theirs, strict=True)
        )


def find_layers(
    graph: Graph, ops: OpTable, kernels: Sequence[Kernel] = (), causes: Mapping[str, str] | None = None
) -> Layers:
    """Return the layers of a graph whose types are known; linear in ops.

    Args:
        graph: A model's own graph, as :func:`nncomp.report.with_shapes` gives it.
        ops: Semantics.
        kernels: From :meth:`nncomp.targets.Artifact.kernels`.
        causes: Why ops are float, by label or by kind.
    """
    order = graph.ops()
    fixed = _fixed(graph, order)
    own, homes, late = _anchored(graph, ops, order, fixed, kernels)
    moving = {key for key, mine in homes.items() if mine and all(kernel.integer is None for kernel in mine)}
    _join(graph, ops, fixed, own, moving)
    for op, kernel in late:
        homes.setdefault(own[op], []).append(kernel)
    last = {own[op]: place for place, op in enumerate(order) if op.kind not in _QUANTIZERS}
    places = {own[op]: last.get(own[op], place) for place, op in enumerate(order)}
    numbers = {key: number for number, key in enumerate(sorted(places, key=lambda key: (places[key], key)))}
    members: list[list[Op]] = [[] for _ in numbers]
    for op in order:
        members[numbers[own[op]]].append(op)
    parts = [tuple(homes.get(key, ())) for key in numbers]
    read = _edges(graph, members, fixed)
    mains = [_main(graph, ops, group) for group in members]
    layers = [
        _layer(graph, ops, main, group, kernels=part, causes=causes or {})
        for main, group, part in zip(mains, members, parts, strict=True)
    ]
    kept = [number for number, group in enumerate(members) if not all(op in fixed for op in group)]
    renumbered = {number: place for place, number in enumerate(kept)}
    return Layers(
        tuple(replace(layers[n], inputs=tuple(sorted(renumbered[i] for i in read[n]))) for n in kept),
        tuple(tuple(members[n]) for n in kept),
        tuple(mains[n] for n in kept),
        tuple(parts[n] for n in kept),
    )


def _fixed(graph: Graph, order: Sequence[Op]) -> set[Op]:
    """Return the ops that follow from constants alone."""
    fixed: set[Op] = set()
    for op in order:
        read = [value for value in op.inputs if value is not None]
        if not op.bodies and all(value.const is not None or value.producer in fixed for value in read):
            fixed.add(op)
    return fixed


def _anchored(
    graph: Graph, ops: OpTable, order: Sequence[Op], fixed: set[Op], kernels: Sequence[Kernel]
) -> tuple[dict[Op, int], dict[int, list[Kernel]], list[tuple[Op, Kernel]]]:
    """Return the layer of each op whose output a kernel gives, the kernels by layer, and kernels that are no layers.

    The latter bring what another kernel computed into another order, such as behind a convolution with its activation;
    each stands beside the op whose value it gives.
    """
    own: dict[Op, int] = {}
    homes: dict[int, list[Kernel]] = {}
    late: list[tuple[Op, Kernel]] = []
    if not kernels:
        plain = (op for op in order if op not in fixed and op.kind not in _QUANTIZERS)
        return {op: number for number, op in enumerate(plain)}, homes, late
    for number, kernel in enumerate(kernels):
        found = [graph.find(name).producer for name in kernel.outputs if graph.has_name(name)]
        known = next((own[op] for op in found if op is not None and op in own), None)
        if known is None and kernel.integer is None and found:
            moved = [op for op in found if op is not None and op.kind != kernel.kind]
            if len(moved) == len(found) and all(ops.quant(op, graph.opsets).role in _COMPUTES for op in moved):
                late.append((moved[-1], kernel))
                continue
        known = number if known is None else known
        for op in found:
            if op is not None:
                own.setdefault(op, known)
                homes.setdefault(known, [])
        if known in homes:
            homes[known].append(kernel)
    return own, homes, late


def _join(graph: Graph, ops: OpTable, fixed: set[Op], own: dict[Op, int], moving: set[int]) -> None:
    """Give each op that has no kernel of its own the layer that it is part of.

    From the end on, an op is part of what reads it; quantizers, what stands in front of them, activations in front of
    an op with a weight, and ops that compute in front of a kernel that only moves numbers (``moving``), are part of
    what they read: a Relu that a quantizer's clipping replaces belongs to the convolution.
    """
    order = graph.ops()
    roles = {op: ops.quant(op, graph.opsets).role for op in order}
    for op in reversed(order):
        if op in own or (op.kind == "QuantizeLinear" and op not in fixed):
            continue
        user = next((user for value in op.outputs for user in graph.users(value) if user in own), None)
        activation = op not in fixed and roles[op] in (Role.ELEMENTWISE, Role.ACTIVATION)
        moved = op not in fixed and roles[op] in _COMPUTES and user is not None and own[user] in moving
        if user is not None and not moved and not (activation and roles[user] is Role.COMPUTE):
            own[op] = own[user]
    fresh = max(own.values(), default=-1) + 1
    for op in order:
        if op in own:
            continue
        producers = (value.producer for value in op.inputs if value is not None)
        home = max((own[one] for one in producers if one is not None and one in own and one not in fixed), default=-1)
        own[op], fresh = (fresh, fresh + 1) if home < 0 else (home, fresh)


def _edges(graph: Graph, members: Sequence[Sequence[Op]], fixed: set[Op]) -> list[set[int]]:
    """Return the layers that each layer reads; a dequantizer that is part of another kernel is looked through.

    Several layers may read one, which is in no more than one of them.
    """
    own = {op: number for number, group in enumerate(members) for op in group}
    alone = {op for group in members if all(op.is_a("DequantizeLinear") for op in group) for op in group}
    read: list[set[int]] = [set() for _ in members]
    for op, number in own.items():
        if op.is_a("DequantizeLinear") and op not in alone:
            continue
        for node, _ in graph.edges_into(op):
            producer = node.producer if isinstance(node, Value) else None
            if producer is not None and producer.is_a("DequantizeLinear") and producer not in alone:
                source = producer.input(0)
                producer = None if source is None else source.producer
            if producer is not None and producer not in fixed and own[producer] != number:
                read[number].add(own[producer])
    return read


def _main(graph: Graph, ops: OpTable, group: Sequence[Op]) -> Op:
    """Return the op with most multiplications, else the first that does anything."""
    costs = ((op, ops.cost(op, graph)) for op in group if op.kind not in _QUIET)
    return max(costs, key=lambda one: one[1].macs if one[1] is not None else 0, default=(group[0], None))[0]


def _layer(
    graph: Graph, ops: OpTable, main: Op, group: Sequence[Op], *, kernels: Sequence[Kernel], causes: Mapping[str, str]
) -> Layer:
    costs = [cost for cost in (ops.cost(op, graph) for op in group) if cost is not None]
    weight = stored_weight(graph, ops, main)
    tensor = None if weight is None else weight[0]
    output = _last_output(group)
    type_ = output.type if output is not None else None
    integer = _is_integer(graph, ops, main, kernels)
    return Layer(
        name=main.label,
        kind=kind_name(main),
        ops=tuple(kind_name(op) for op in group if op.kind not in _QUANTIZERS and not op.is_a("Constant")),
        inputs=(),
        output="" if output is None else output.name,
        shape=type_.static_shape if isinstance(type_, TensorType) else None,
        macs=sum(cost.macs for cost in costs) if costs else None,
        params=0 if tensor is None else tensor.size,
        moved_bytes=_moved(graph, group),
        weight_bits=None if weight is None else weight[1],
        activation_bits=_activation_bits(graph, ops, main),
        zeros=None if tensor is None else _zeros(tensor),
        kernel=" + ".join(dict.fromkeys(kernel.kind for kernel in kernels)),
        precision="moves" if integer is None else "integer" if integer else "float",
        cause=_cause(graph, ops, main, group, causes) if integer is False else "",
    )


def _cause(graph: Graph, ops: OpTable, main: Op, group: Sequence[Op], causes: Mapping[str, str]) -> str:
    """Return why a layer is float: what a pass said of its ops, what the target says of the kind, or the table."""
    said = next((causes[op.label] for op in group if op.label in causes), "")
    return said or causes.get(kind_name(main), "") or ops.quant(main, graph.opsets).reason


def stored_weight(graph: Graph, ops: OpTable, op: Op) -> tuple[Tensor, int] | None:
    """Return the weight of an op as it is stored, behind casts and dequantizers, and its bits; None if it has none."""
    slot = ops.quant(op, graph.opsets).weight
    value = None if slot is None else op.input(slot)
    while value is not None and value.producer is not None and value.producer.kind in ("DequantizeLinear", "Cast"):
        value = value.producer.input(0)
    tensor = graph.constant(value)
    if tensor is None or not tensor.size:
        return None
    packed = op.attr("bits")
    return tensor, packed if isinstance(packed, int) else tensor.dtype.bits


def _is_integer(graph: Graph, ops: OpTable, main: Op, kernels: Sequence[Kernel]) -> bool | None:
    """Return whether a layer computes in integers: what its kernels say, else what the graph looks like."""
    said = [kernel.integer for kernel in kernels if kernel.integer is not None]
    if kernels:
        return None if not said else all(said)
    if main.kind in _QUANTIZERS:
        return None
    return _activation_bits(graph, ops, main) is not None or main.kind.startswith("QLinear")


def _activation_bits(graph: Graph, ops: OpTable, op: Op) -> int | None:
    """Return the bits of what an op multiplies with its weight, None when it is not stored in integers."""
    for slot in ops.quant(op, graph.opsets).activation_slots(op, graph):
        value = op.input(slot)
        producer = None if value is None else value.producer
        stored = producer.input(0) if producer is not None and producer.is_a("DequantizeLinear") else value
        type_ = None if stored is None else stored.type
        return type_.dtype.bits if isinstance(type_, TensorType) and type_.dtype in _CODES else None
    return None


def _last_output(group: Sequence[Op]) -> Value | None:
    """Return the last value that a layer computes, quantizers left out where there is anything else."""
    named = [op for op in group if any(value.name for value in op.outputs)]
    computing = [op for op in named if op.kind not in _QUANTIZERS and not op.is_a("Constant")]
    last = (computing or named)[-1:]
    return next((value for op in last for value in op.outputs if value.name), None)


def _moved(graph: Graph, group: Sequence[Op]) -> int | None:
    """Return the bytes that cross the border of a layer, each value once; None when none has a known size."""
    inside = set(group)
    values: dict[Value, None] = {}
    for op in group:
        values.update({one: None for one in op.inputs if one is not None and one.producer not in inside})
        values.update({one: None for one in op.outputs if not set(graph.users(one)) <= inside or graph.is_output(one)})
    sizes = [value.type.nbytes for value in values if isinstance(value.type, TensorType)]
    return sum(size for size in sizes if size is not None) if any(size is not None for size in sizes) else None


def _zeros(tensor: Tensor) -> float:
    numbers = sampled(tensor.numpy())
    return float(np.mean(numbers == 0))


def _summed(found: Sequence[float | None]) -> float | None:
    known: list[Any] = [one for one in found if one is not None]
    return float(sum(known)) if known else None
