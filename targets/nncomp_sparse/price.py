"""The price of a layer and of a network: cycles and what bounds them, traffic, energy, utilization by cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nncomp_sparse.costing import Costing
from nncomp_sparse.energy import static_pj
from nncomp_sparse.engines import Execution, execute
from nncomp_sparse.hardware import Hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.search import Objective


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one tensor moves at one level.

    Attributes:
        level, tensor: Which.
        reads, writes: Words.
        payload_bytes, metadata_bytes: Of both directions together, as stored there.
    """

    level: str
    tensor: str
    reads: float
    writes: float
    payload_bytes: float
    metadata_bytes: float


@dataclass(frozen=True, slots=True)
class LayerPrice:
    """What one layer costs.

    Attributes:
        name, kind, macs: The layer.
        executed: Products that take time.
        cycles: In all.
        compute_cycles: Of the multipliers.
        bound: What the layer waits for: ``compute``, or a level with its port.
        utilization: Factors by cause, 0 to 1: ``mapping`` (elements that have nothing to do), ``imbalance``,
            ``bandwidth``, ``fill``; their product is the share of the multipliers' time that is used.
        energy_pj: By part; ``static`` is what flows anyway.
        traffic: By level and tensor.
        mapping: The loops.
        evaluated, proved: Of the search.
        bits: By tensor, and whether the model says so.
        densities: By tensor, with where they come from.
    """

    name: str
    kind: str
    macs: int
    executed: float
    cycles: float
    compute_cycles: float
    bound: str
    utilization: Mapping[str, float]
    energy_pj: Mapping[str, float]
    traffic: tuple[Traffic, ...]
    mapping: str
    evaluated: int
    proved: bool
    bits: Mapping[str, tuple[int, bool]]
    densities: Mapping[str, tuple[float, str]]

    @property
    def energy(self) -> float:
        """All parts, pJ."""
        return sum(self.energy_pj.values())

    @property
    def dram_bytes(self) -> float:
        """Traffic of the outermost level."""
        outermost = self.traffic[0].level
        return sum(one.payload_bytes + one.metadata_bytes for one in self.traffic if one.level == outermost)


@dataclass(frozen=True)
class Price:
    """What a network costs: its layers one behind the other."""

    machine: Hardware
    layers: tuple[LayerPrice, ...]

    @cached_property
    def cycles(self) -> float:
        """In all."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def latency_us(self) -> float:
        """Time, microseconds."""
        return self.cycles / self.machine.clock_mhz

    @cached_property
    def energy_uj(self) -> float:
        """Energy, microjoules."""
        return sum(layer.energy for layer in self.layers) / 1e6

    @property
    def macs(self) -> int:
        """Products when nothing is skipped."""
        return sum(layer.macs for layer in self.layers)

    @property
    def executed(self) -> float:
        """Products that take time."""
        return sum(layer.executed for layer in self.layers)

    @property
    def dram_bytes(self) -> float:
        """Traffic of the outermost level."""
        return sum(layer.dram_bytes for layer in self.layers)

    @property
    def utilization(self) -> float:
        """Share of the multipliers' time that products take, 0 to 1."""
        used = sum(layer.cycles * float(np.prod(list(layer.utilization.values()))) for layer in self.layers)
        return used / self.cycles if self.cycles else 0.0

    @property
    def energy_uj_by_part(self) -> dict[str, float]:
        """Energy by part, microjoules, in the order of the levels."""
        parts: dict[str, float] = {}
        for layer in self.layers:
            for part, value in layer.energy_pj.items():
                parts[part] = parts.get(part, 0.0) + value / 1e6
        return parts


def price_layer(layer: Layer, machine: Hardware, objective: Objective = "edp") -> LayerPrice:
    """Price one layer with its best mapping.

    Raises:
        UnsupportedError: no tile of it fits a memory of the machine (NNC-T002).
    """
    costing = Costing(layer, machine)
    return priced_execution(costing, execute(costing, objective))


def price_layers(layers: tuple[Layer, ...], machine: Hardware, objective: Objective = "edp") -> Price:
    """Price a network, each layer with its own best mapping; layers that are alike are searched once."""
    seen: dict[object, LayerPrice] = {}
    found = []
    for layer in layers:
        key = _likeness(layer)
        if key not in seen:
            seen[key] = price_layer(layer, machine, objective)
        found.append(_renamed(seen[key], layer))
    return Price(machine, tuple(found))


def priced_execution(costing: Costing, done: Execution) -> LayerPrice:
    """Return the price of an execution."""
    layer, machine = costing.layer, costing.machine
    priced = costing.priced(done.accesses, np.array([done.compute]), np.array([done.fill]))
    cycles = float(priced.cycles[0])
    waits = {"compute": done.compute} | {
        f"{level} {port}" if port != "both" else level: float(value[0]) for (level, port), value in priced.ports.items()
    }
    bound = max(waits, key=lambda name: waits[name])
    slowest = waits[bound]
    # Vectors that are not filled are idle whether or not there are zeros: what zeros fill up is no imbalance.
    steps = min(done.steps, done.compute / done.share) if done.share else done.steps
    ideal = layer.macs * costing.cycles_per_mac / machine.array.macs
    energy = {part: float(value[0]) for part, value in priced.energy_pj.items()}
    energy["static"] = static_pj(machine, cycles)
    return LayerPrice(
        name=layer.name,
        kind=layer.kind,
        macs=layer.macs,
        executed=layer.macs * done.share,
        cycles=cycles,
        compute_cycles=done.compute,
        bound=bound,
        utilization={
            "mapping": _share(ideal, steps),
            "imbalance": _share(steps * done.share, done.compute),
            "bandwidth": _share(done.compute, slowest),
            "fill": _share(slowest, cycles),
        },
        energy_pj=energy,
        traffic=_traffic(costing, done),
        mapping=done.mapping,
        evaluated=done.evaluated,
        proved=done.proved,
        bits={t: (costing.bits[t], layer.operand(t).bits is not None) for t in costing.bits},
        densities={t: (layer.operand(t).density, layer.operand(t).known) for t in costing.bits},
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _traffic(costing: Costing, done: Execution) -> tuple[Traffic, ...]:
    found = []
    for number, level in enumerate(costing.machine.levels):
        for tensor in level.keeps:
            access, stored = done.accesses[number, tensor], costing.stored[number, tensor]
            reads = float(access.reads[0] + access.drains[0])
            writes = float(access.fills[0] + access.updates[0])
            elements = max(costing.layer.operand(tensor).elements, 1)
            words = (reads + writes) / (8 * elements)
            found.append(Traffic(level.name, tensor, reads, writes, words * stored.payload, words * stored.metadata))
    return tuple(found)


def _likeness(layer: Layer) -> object:
    """Return a key that is equal for layers of the same price."""
    if layer.weight.mask is not None and layer.weight.density < 1:
        return layer.name
    operands = (layer.weight, layer.input, layer.output)
    tensors = tuple(
        (
            one.elements,
            one.bits,
            one.nonzeros,
            None if one.channels is None else one.channels.tobytes(),
            None if one.pads is None else one.pads.tobytes(),
            one.known,
        )
        for one in operands
    )
    return layer.nest, layer.chained, tensors


def _renamed(price: LayerPrice, layer: Layer) -> LayerPrice:
    from dataclasses import replace

    return replace(price, name=layer.name, kind=layer.kind)
