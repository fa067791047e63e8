"""Target ``sparse``: nothing runs; a model is priced on a described machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from nncomp.errors import DataError, UnsupportedError
from nncomp.ir import DataType, Graph, TensorType, Value
from nncomp.options import option
from nncomp.passes import Context
from nncomp.runtime import RuntimeFailure, random_feeds
from nncomp.targets import Artifact, Capabilities, Finding, Int8Kernel, Int8Support, Target, TargetOptions

if TYPE_CHECKING:  # listing targets prices nothing
    from nncomp_sparse.activations import Zeros
    from nncomp_sparse.hardware import Hardware
    from nncomp_sparse.workload import Workload

DEFAULT_HARDWARE: Final = "eyeriss"
_CLIPPING: Final = frozenset({"Relu", "Clip"})


class SparseOptions(TargetOptions):
    """Options of the target."""

    hw: str = option(DEFAULT_HARDWARE, min_length=1, help="a preset's name, or a TOML file")
    objective: Literal["cycles", "energy", "edp"] = option("edp", help="what mappings are chosen by")
    compare: bool = option(False, help="price the dense baseline beside it")
    samples: int = option(32, ge=1, le=100_000, help="calibration samples whose zeros are counted")


class SparseTarget(Target):
    """A described accelerator, on which zeros and narrow operands have a price."""

    name: ClassVar[str] = "sparse"
    summary: ClassVar[str] = "price on a described accelerator: cycles, energy, traffic"
    capabilities: ClassVar[Capabilities] = Capabilities(
        max_ir_version=13,
        opsets=(1, 26),
        int8=Int8Support(
            kernels={kind: Int8Kernel(absorbs=_CLIPPING) for kind in ("Conv", "Gemm", "MatMul", "Add")},
            narrow_weights=frozenset({DataType.INT4}),
        ),
        domains=frozenset({"ai.onnx.ml", "com.microsoft"}),
        sparse_weights=frozenset({"element", "balanced", "n:m", "block"}),
    )
    default_recipe: ClassVar[str] = "price"
    prices: ClassVar[bool] = True
    option_type: ClassVar[type[TargetOptions]] = SparseOptions
    options: SparseOptions

    def __init__(self, options: SparseOptions | None = None) -> None:
        """Read the machine.

        Raises:
            UsageError: there is no such machine, or it is impossible (NNC-R021).
        """
        from nncomp_sparse.hardware import load_hardware

        super().__init__(options)
        self.machine: Hardware = load_hardware(self.options.hw)

    def missing(self) -> str:
        """Return "": it needs nothing beside nncomp."""
        return ""

    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """Say what is priced, what has no products, and what cannot be priced."""
        from nncomp_sparse.workload import read_workload

        work = read_workload(_sized(graph, ctx), ctx.ops, {})
        found = [Finding("ok", layer.name, layer.kind, "priced") for layer in work.layers]
        for op in work.unpriced:
            level = "ok" if op.macs == 0 else "float"
            found.append(Finding(level, op.node, op.kind, f"not priced: {op.reason}"))
        if not work.layers:
            found.append(Finding("refused", "", "", _nothing(work)))
        return found

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Price ``graph``.

        Raises:
            UnsupportedError: there is nothing to price, or the machine is too small for a layer (NNC-T002).
        """
        from nncomp_sparse.artifact import PricedArtifact, Pricing
        from nncomp_sparse.workload import read_workload

        kept = graph.clone()
        pricing = Pricing(self.machine, self.options.objective, ctx.ops)
        zeros, why = self._zeros(kept, ctx)
        work = read_workload(_sized(kept, ctx), ctx.ops, zeros)
        if not work.layers:
            raise UnsupportedError(_nothing(work))
        return PricedArtifact(kept, pricing, work, compare=self.options.compare, no_zeros=why, threads=ctx.threads)

    def _zeros(self, graph: Graph, ctx: Context) -> tuple[Mapping[str, Zeros], str]:
        """Return the zeros of activations, or why nobody knows them."""
        from nncomp_sparse.activations import measure_zeros
        from nncomp_sparse.workload import watched

        if ctx.data is None:
            return {}, "no calibration data: activations count as dense"
        try:
            axes = watched(_sized(graph, ctx), ctx.ops)
            return measure_zeros(graph, ctx.data, axes, ctx, samples=self.options.samples), ""
        except (RuntimeFailure, DataError) as error:
            return {}, f"activations count as dense: {error.message}"


def _sized(graph: Graph, ctx: Context) -> Graph:
    """Return a copy whose sizes are known: its own, the first sample's, or a made-up one's with 1 for open sizes."""
    from nncomp.report import with_shapes

    found = next(iter(ctx.data), None) if ctx.data is not None else None
    if found is None:
        plain = with_shapes(graph, ctx.ops, {})
        if all(_is_sized(value) for op in plain.ops() for value in op.outputs):
            return plain
        found = random_feeds(graph, seed=ctx.seed)
    return with_shapes(graph, ctx.ops, {}, feeds=found)


def _is_sized(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.static_shape is not None


def _nothing(work: Workload) -> str:
    """Return why nothing is priced, with what there is instead."""
    reasons = Counter((op.kind, op.reason) for op in work.unpriced)
    told = "; ".join(f"{number} x {kind}: {reason}" for (kind, reason), number in reasons.most_common(4))
    why = "there is nothing to price: no op multiplies and accumulates with known sizes"
    return f"{why} ({told})" if told else why
