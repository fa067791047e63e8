"""What the target builds: the model as it is, and its price."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from nncomp.ir import Graph
from nncomp.onnx_io import save
from nncomp.ops import OpTable
from nncomp.report import with_shapes
from nncomp.runtime import Feeds, Session
from nncomp.targets import Artifact, Kernel, Measurement, OpCost, TextTable
from nncomp_sparse.hardware import Hardware
from nncomp_sparse.price import Price, price_layers
from nncomp_sparse.report import price_report
from nncomp_sparse.search import Objective
from nncomp_sparse.tables import price_tables
from nncomp_sparse.workload import Workload, read_workload

_INTEGER_BITS: Final = 16
"""Up to this width, what a model says of its tensors are integers."""


@dataclass(frozen=True)
class Pricing:
    """How prices are made: the machine, what mappings are chosen by, and op semantics."""

    machine: Hardware
    objective: Objective
    ops: OpTable

    def price(self, work: Workload) -> Price:
        """Return the price of a workload."""
        return price_layers(work.layers, self.machine, self.objective)


@dataclass
class PricedArtifact(Artifact):
    """A priced model.

    Attributes:
        graph: The model.
        pricing: How it is priced.
        work: What is priced.
        compare: Price the dense baseline, too.
        no_zeros: Why activations count as dense; "" when their zeros were counted.
        threads: For :meth:`run`.
    """

    graph: Graph
    pricing: Pricing
    work: Workload
    compare: bool = False
    no_zeros: str = ""
    threads: int = 1

    @cached_property
    def price(self) -> Price:
        """Cycles, energy and traffic."""
        return self.pricing.price(self.work)

    @cached_property
    def dense(self) -> Price:
        """The price of the same loops with nothing zero: what a dense model costs on this machine."""
        layers = tuple(layer.dense() for layer in self.work.layers)
        return price_layers(layers, self.pricing.machine, self.pricing.objective)

    def save(self, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        """Write ``<name>.onnx``."""
        return save(self.graph, folder / f"{name}.onnx")

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Run once on ONNX Runtime, as it stands: a price has no numerics of its own."""
        return self._session.run(feeds)

    def measure(self, feeds: Feeds, baseline: Graph, *, seconds: float = 2.0) -> Measurement:
        """Compare the price with that of ``baseline`` with nothing zero; nothing is timed."""
        del seconds
        ops = self.pricing.ops
        work = read_workload(with_shapes(baseline, ops, {}, feeds=feeds), ops, {})
        theirs = price_layers(
            tuple(layer.dense() for layer in work.layers), self.pricing.machine, self.pricing.objective
        ).latency_us
        return _priced(self.price.latency_us, theirs)

    def compare_with(self, baseline: Artifact, feeds: Feeds, *, seconds: float = 2.0) -> Measurement:
        """Compare prices; nothing is timed."""
        assert isinstance(baseline, PricedArtifact)
        return _priced(self.price.latency_us, baseline.price.latency_us)

    def kernels(self, feeds: Feeds, *, graph: Graph | None = None, seconds: float = 0.25) -> tuple[Kernel, ...]:
        """Return the priced layers with their prices; of another graph none, which would have to be priced first."""
        del feeds, seconds
        if graph is not None:
            return ()
        outputs = {op.label: op.output.name for op in self.graph.ops() if op.outputs}
        found = []
        for layer, price in zip(self.work.layers, self.price.layers, strict=True):
            computed = (outputs[layer.op],) if layer.op in outputs else ()
            integer = all(
                known and bits <= _INTEGER_BITS for bits, known in (price.bits["weight"], price.bits["input"])
            )
            found.append(Kernel(layer.kind, computed, integer, price.cycles / self.pricing.machine.clock_mhz))
        return tuple(found)

    def report(self) -> dict[str, Any]:
        """Return the price; see :func:`nncomp_sparse.report.price_report`."""
        found = price_report(self.price, self.work, baseline=self.dense if self.compare else None)
        if self.no_zeros:
            found["activations"] = self.no_zeros
        return found

    def costs(self) -> dict[str, OpCost]:
        """Return time and energy of each op; what has no price has no entry."""
        found: dict[str, OpCost] = {}
        for layer, price in zip(self.work.layers, self.price.layers, strict=True):
            before = found.get(layer.op or layer.name, OpCost(0.0, 0.0))
            us = price.cycles / self.pricing.machine.clock_mhz
            found[layer.op or layer.name] = OpCost(before.latency_us + us, before.energy_pj + price.energy)
        return found

    def tables(self) -> tuple[TextTable, ...]:
        """Return the network's price, and that of each layer."""
        return price_tables(self.price, self.work, baseline=self.dense if self.compare else None)

    @cached_property
    def _session(self) -> Session:
        return Session(self.graph, optimize=True, threads=self.threads)


def _priced(ours: float, theirs: float) -> Measurement:
    ratio = theirs / ours if ours else 1.0
    return Measurement(ours, theirs, ratio, (ratio, ratio), pairs=0, threads=1)
