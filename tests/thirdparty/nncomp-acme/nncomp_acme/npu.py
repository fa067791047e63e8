"""Target ``acme-npu``: a cost model of an accelerator that nobody has. It counts cycles and runs on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from nncomp import Artifact, Capabilities, Context, Graph, Measurement, Target, save
from nncomp.errors import UnsupportedError
from nncomp.ops import OpTable
from nncomp.report import with_shapes
from nncomp.runtime import Session
from nncomp.targets import Finding
from nncomp_acme.dense import DOMAIN, UnpackDense

MACS_A_CYCLE = 256
BYTES_A_CYCLE = 32
CYCLES_A_MICROSECOND = 800
NO_CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})


class NpuArtifact(Artifact):
    """A model and what it costs."""

    def __init__(self, graph: Graph, ops: OpTable) -> None:
        self._graph, self._ops = graph, ops

    def save(self, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        """Write the model, packed products and all."""
        return save(self._graph, folder / f"{name}.onnx")

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run on the CPU, without Acme's ops."""
        plain = self._graph.clone()
        UnpackDense().run(plain, Context(ops=self._ops))
        return Session(plain).run(feeds)

    def measure(self, feeds: Mapping[str, Any], baseline: Graph, *, seconds: float = 2.0) -> Measurement:
        """Compare cycles; nothing is run."""
        shapes = {name: tuple(array.shape) for name, array in feeds.items()}
        ours = sum(cycles_by_kind(self._graph, self._ops, shapes).values()) / CYCLES_A_MICROSECOND
        theirs = sum(cycles_by_kind(baseline, self._ops, shapes).values()) / CYCLES_A_MICROSECOND
        ratio = theirs / ours if ours else 1.0
        return Measurement(ours, theirs, ratio, (ratio, ratio), pairs=0)

    def report(self) -> dict[str, Any]:
        """Return cycles by operator, for a batch of one."""
        return {"cycles": cycles_by_kind(self._graph, self._ops, {})}


class Npu(Target):
    """Acme's accelerator."""

    name: ClassVar[str] = "acme-npu"
    summary: ClassVar[str] = "a cost model of Acme's accelerator"
    capabilities: ClassVar[Capabilities] = Capabilities(
        max_ir_version=10, opsets=(13, 21), channel_alignment=32, domains=frozenset({DOMAIN})
    )
    default_recipe: ClassVar[str] = "acme-npu"

    def missing(self) -> str:
        """Return "": it needs nothing."""
        return ""

    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """Refuse control flow; all else runs in float."""
        return [
            Finding("refused", op.label, op.kind, "the accelerator has no control flow")
            if op.kind in NO_CONTROL_FLOW
            else Finding("float", op.label, op.kind, "the accelerator works in float")
            for op in graph.ops()
        ]

    def build(self, graph: Graph, ctx: Context) -> NpuArtifact:
        """Keep a copy of ``graph``."""
        refused = [finding for finding in self.check(graph, ctx) if finding.level == "refused"]
        if refused:
            raise UnsupportedError(f"target {self.name!r} cannot take {refused[0].node!r}: {refused[0].reason}")
        return NpuArtifact(graph.clone(), ctx.ops)


def cycles_by_kind(graph: Graph, ops: OpTable, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return max(arithmetic, traffic) of each op, summed by kind; inputs that ``shapes`` leaves out have batch one."""
    given = {
        value.name: tuple(dim if isinstance(dim, int) else 1 for dim in value.shape or ()) for value in graph.inputs
    }
    sized = with_shapes(graph, ops, given | dict(shapes))
    cycles: Counter[str] = Counter()
    for op in sized.ops():
        cost = ops.cost(op, sized)
        if cost is not None:
            cycles[op.kind] += max(
                -(-cost.macs // MACS_A_CYCLE), -(-(cost.bytes_read + cost.bytes_written) // BYTES_A_CYCLE)
            )
    return dict(cycles.most_common())
