"""From accesses to cycles and energy: each port can be the bottleneck, each access costs; for many mappings at once."""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from nncomp_sparse.counts import Access, Candidates, count
from nncomp_sparse.energy import access_pj_per_bit, network_pj_per_bit
from nncomp_sparse.energy import mac_pj as energy_of_mac
from nncomp_sparse.formats import Stored, stored_bits
from nncomp_sparse.hardware import TENSORS, Hardware
from nncomp_sparse.layer import Layer
from nncomp_sparse.precision import layer_cycles_per_mac, width
from nncomp_sparse.traffic import span
from nncomp_sparse.work import executed_share, finished_share, imbalance, saving, skipping

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Priced:
    """What candidates cost, (candidates,) each.

    Attributes:
        cycles: In all, fill included.
        compute: Of the multipliers alone.
        ports: By level and direction (``read``, ``write``, or ``both`` where they share a bandwidth).
        fill: Until the first products can begin.
        energy_pj: Dynamic, by part: ``mac``, ``network``, and the levels; static energy is not in it.
    """

    cycles: Floats
    compute: Floats
    ports: Table[tuple[str, str], Floats]
    fill: Floats
    energy_pj: Table[str, Floats]

    @property
    def dynamic_pj(self) -> Floats:
        """Energy without its static part."""
        return np.asarray(sum(self.energy_pj.values()))


@dataclass(frozen=True)
class Costing:
    """Everything about a layer on a machine that does not depend on the mapping."""

    layer: Layer
    machine: Hardware

    @cached_property
    def bits(self) -> dict[str, int]:
        """Width of each tensor."""
        return {tensor: width(self.machine, self.layer.operand(tensor), tensor) for tensor in TENSORS}

    @cached_property
    def stored(self) -> dict[tuple[int, str], Stored]:
        """Bits of the whole tensor as a level stores it, by (index of the level, tensor)."""
        found: dict[tuple[int, str], Stored] = {}
        for number, level in enumerate(self.machine.levels):
            for tensor in level.keeps:
                operand, bits = self.layer.operand(tensor), self.bits[tensor]
                form = self.machine.sparsity.of(tensor)
                coded = dense = Stored(float(operand.elements * bits), 0.0)
                if level.name in form.at:
                    coded = stored_bits(operand, form, bits, columns=self._columns(tensor))
                found[number, tensor] = dense if form.bypass and coded.bits > dense.bits else coded
        return found

    def _columns(self, tensor: str) -> int:
        nest = self.layer.nest
        return max(nest.groups * nest.inputs if tensor == "weight" else nest.batch * nest.groups, 1)

    def word_bits(self, level: int, tensor: str) -> float:
        """Return the mean bits that moving one word of a tensor at a level takes, metadata included."""
        elements = self.layer.operand(tensor).elements
        if not elements:
            return float(self.bits[tensor])
        bits = self.stored[level, tensor].bits / elements
        if level == 0:  # rows of zeros around an image are walked over, but not stored
            bits *= min(elements / self.layer.space.elements(tensor), 1.0)
        return bits

    def moved_bits(self, level: int, tensor: str, access: Access) -> Floats:
        """Return the bits of one word of each candidate: sums that are taken up again are as wide as sums are."""
        bits = np.full(len(access.reads), self.word_bits(level, tensor))
        if tensor != "output":
            return bits
        partial = self.machine.levels[level].per_pe | (access.reads > 0)
        return np.where(partial, float(self.machine.precision.psum_bits), bits)

    @cached_property
    def timed_share(self) -> float:
        """Share of the products that take time."""
        share = executed_share(self.layer, **skipping(self.machine)) if not self._structured else self._kept
        return share * self._finished

    @cached_property
    def paid_share(self) -> float:
        """Share of the products that take energy."""
        share = executed_share(self.layer, **saving(self.machine)) if not self._structured else self._kept
        return share * self._finished

    @cached_property
    def _finished(self) -> float:
        return finished_share(self.layer, self.machine, self.bits["weight"] * self.bits["input"])

    @property
    def _structured(self) -> bool:
        return self.machine.sparsity.weight.format == "structured"

    @cached_property
    def _kept(self) -> float:
        """N of M weights where the layer keeps to it; nothing otherwise, whatever its zeros."""
        from nncomp_sparse.formats import conforms

        form = self.machine.sparsity.weight
        return form.n / form.m if conforms(self.layer.weight, form.n, form.m) else 1.0

    @cached_property
    def cycles_per_mac(self) -> float:
        """Cycles of one product in one multiplier at the layer's widths."""
        return layer_cycles_per_mac(self.machine, self.layer)

    def price(self, found: Candidates) -> Priced:
        """Return what candidates cost."""
        return self.priced(count(self.layer.space, found, self.machine), self.compute(found), self.fill(found))

    def compute(self, found: Candidates) -> Floats:
        """Return the cycles of the multipliers: iterations in time, less what is skipped, more what waits."""
        steps = found.product(found.places(spatial=False)) * self.cycles_per_mac
        share = self.timed_share
        if share >= 1 or self._structured:
            return np.asarray(steps * share)
        elements = found.product(found.places(spatial=True))
        keys, where = np.unique(np.stack([steps, elements], axis=1), axis=0, return_inverse=True)
        waits = np.array([self._waits(float(n), int(p)) for n, p in keys])
        return np.asarray(steps * share * waits[where.reshape(-1)])

    def _waits(self, steps: float, elements: int) -> float:
        """Return what the slowest element takes more, with the layer's outputs split at barriers."""
        groups = self.machine.array.rows if self.machine.sparsity.balance.barrier != "layer" else 1
        return imbalance(steps / groups, self.timed_share, elements)

    def fill(self, found: Candidates) -> Floats:
        """Return the cycles until operands for the first products have crossed the outermost level."""
        rate = self.machine.bytes_per_cycle(self.machine.levels[0])
        if rate is None:
            return np.zeros(len(found.bounds))
        inner = found.spread(found.places(least=1, spatial=True))
        words = {}
        for tensor in ("weight", "input"):
            tile = np.ones(len(inner))
            for axis in self.layer.space.tensors[tensor]:
                tile = tile * span(axis, inner)
            words[tensor] = tile * self.word_bits(0, tensor) / 8
        return np.asarray((words["weight"] + words["input"]) / rate)

    def priced(self, accesses: Table[tuple[int, str], Access], compute: Floats, fill: Floats) -> Priced:
        """Return cycles and energy of given accesses."""
        machine = self.machine
        ports: dict[tuple[str, str], Floats] = {}
        energy: dict[str, Floats] = {"mac": np.full(len(compute), self.layer.macs * self.paid_share * self.mac_pj)}
        entering = np.zeros(len(compute))
        for number, level in enumerate(machine.levels):
            out, in_ = np.zeros(len(compute)), np.zeros(len(compute))
            for tensor in level.keeps:
                access, share = accesses[number, tensor], self._inner_share(number, tensor)
                bits = self.moved_bits(number, tensor, access)
                out = out + (access.reads * share + access.drains) * bits
                in_ = in_ + (access.updates * share + access.fills) * bits
                if level.per_pe and not self._per_pe(number - 1, tensor):
                    entering = entering + (access.fills + access.drains) * self.bits[tensor]
            energy[level.name] = (out + in_) * access_pj_per_bit(machine, level)
            rate = machine.bytes_per_cycle(level)
            if rate is not None:
                ports[level.name, "both"] = (out + in_) / (8 * rate)
            if level.read_bits is not None:
                ports[level.name, "read"] = out / level.read_bits
            if level.write_bits is not None:
                ports[level.name, "write"] = in_ / level.write_bits
        energy["network"] = entering * network_pj_per_bit(machine)
        slowest = np.maximum.reduce([compute, *ports.values()])
        return Priced(slowest + fill, compute, ports, fill, energy)

    @cached_property
    def mac_pj(self) -> float:
        """Energy of one product, pJ."""
        return energy_of_mac(self.machine, self.bits["weight"], self.bits["input"])

    def _per_pe(self, number: int, tensor: str) -> bool:
        return any(level.per_pe and tensor in level.keeps for level in self.machine.levels[: number + 1])

    def _inner_share(self, number: int, tensor: str) -> float:
        """Return the share of a tensor's accesses by the multipliers that zeros leave.

        A zero that is skipped, or gated by a flag, is known beforehand: its own operand is not read either.
        """
        innermost = max(n for n, level in enumerate(self.machine.levels) if tensor in level.keeps)
        if number != innermost:
            return 1.0
        form = self.machine.sparsity.of(tensor)
        others = {name: on and name != tensor for name, on in saving(self.machine).items()}
        if tensor == "output" or form.action == "skip" or (form.action == "gate" and form.flagged):
            return self.paid_share
        return executed_share(self.layer, **others) if not self._structured else self._kept
