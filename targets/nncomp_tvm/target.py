"""Targets ``tvm``, ``tvm-cpu`` and ``tvm-cuda``: lower, compile, and hand over a library."""

from __future__ import annotations

from abc import abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.options import option
from nncomp.passes import Context
from nncomp.targets import Artifact, Capabilities, Finding, Target, TargetOptions
from nncomp_tvm.capabilities import CAPABILITIES
from nncomp_tvm.nvrtc import compiler_missing, require_arch

if TYPE_CHECKING:
    from nncomp_tvm.lowering import Sizes


class SizeOptions(TargetOptions):
    """Options of all of these targets."""

    dynamic: bool = option(False, help="keep symbolic sizes, instead of fixing those of the first sample")


class CpuOptions(SizeOptions):
    """Options of ``tvm-cpu``."""

    cpu: str = option("", help="LLVM's name of the CPU, such as 'skylake-avx512'; the host's if empty")
    tune_trials: int = option(0, ge=0, help="variants of kernels to measure, on this machine; 0 estimates")
    tune_seconds: float = option(600.0, gt=0, help="time for that; a kernel that has begun is finished")
    tuning_database: str = option("", help="file that keeps what was measured, and decides where it knows")


class CudaOptions(SizeOptions):
    """Options of ``tvm-cuda``."""

    arch: str = option("", pattern=r"^(sm_\d+a?)?$", help="such as 'sm_90'; the first GPU's if empty, or sm_80")
    half: bool = option(False, help="products read 16-bit floats, and sum in 32 bits")
    emulate: bool | None = option(None, help="let the CPU run the kernels for the gate where there is no GPU")


class LoweringTarget(Target):
    """What the targets have in common: sizes, lowering and ``check``."""

    library: ClassVar[str] = "apache-tvm"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    default_recipe: ClassVar[str] = "tvm"
    options: SizeOptions

    def missing(self) -> str:
        """Return the pip command, "" when apache-tvm is installed."""
        return "" if find_spec("tvm") else "pip install 'nncomp[tvm]'"

    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """Say which ops do not lower, and why; nothing is compiled.

        Raises:
            RecipeError: an option names what is not known (NNC-R010).
        """
        from nncomp_tvm.lowering import refusals

        self._require_device()
        try:
            refused = {one.op: one.reason for one in refusals(graph, ctx.ops, self._sizes(graph, ctx))}
        except UnsupportedError as refusal:
            return [Finding("refused", "", "", refusal.message)]
        return [
            Finding("refused" if op in refused else "ok", op.label, op.kind, refused.get(op, ""))
            for _, op in graph.walk()
        ]

    @abstractmethod
    def _require_device(self) -> None:
        """Refuse a device that the compiler does not know."""

    def _sizes(self, graph: Graph, ctx: Context) -> Sizes:
        """Return what is compiled for: the first sample's sizes, and 1 for open ones where there is no data."""
        from nncomp_tvm.lowering import Sizes

        sample = next(iter(ctx.data), None) if ctx.data is not None else None
        if sample is not None:
            arrays = {name: np.asarray(array) for name, array in sample.items() if not isinstance(array, list)}
            return Sizes({} if self.options.dynamic else {name: one.shape for name, one in arrays.items()}, arrays)
        if self.options.dynamic:
            return Sizes()
        return Sizes(
            {
                value.name: tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)
                for value in graph.inputs
                if value.shape is not None
            }
        )


class TvmCpuTarget(LoweringTarget):
    """Machine code for a CPU, by TVM and LLVM."""

    name: ClassVar[str] = "tvm-cpu"
    summary: ClassVar[str] = "a library for this CPU, or a named one, by TVM and LLVM"
    option_type: ClassVar[type[TargetOptions]] = CpuOptions
    options: CpuOptions

    def _require_device(self) -> None:
        from nncomp_tvm.building import require_cpu

        require_cpu(self.options)

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Compile ``graph``, and compare it with ONNX Runtime.

        Raises:
            UnsupportedError: an op does not lower (NNC-T002).
            GateError: the result is wrong (NNC-G005).
        """
        from nncomp_tvm.building import build_for_cpu

        return build_for_cpu(graph, ctx, options=self.options, sizes=self._sizes(graph, ctx), command=self.spec)


class TvmTarget(TvmCpuTarget):
    """``tvm-cpu`` by its short name."""

    name: ClassVar[str] = "tvm"
    summary: ClassVar[str] = "the same as tvm-cpu"


class TvmCudaTarget(LoweringTarget):
    """Code for an NVIDIA GPU, which need not be at hand."""

    name: ClassVar[str] = "tvm-cuda"
    summary: ClassVar[str] = "a library for an NVIDIA GPU, by TVM and NVRTC; no GPU is needed to build it"
    library: ClassVar[str] = "apache-tvm and NVRTC"
    option_type: ClassVar[type[TargetOptions]] = CudaOptions
    options: CudaOptions

    def _require_device(self) -> None:
        if self.options.arch and not compiler_missing():
            require_arch(self.options.arch)

    def missing(self) -> str:
        """Return the pip command, "" when apache-tvm and NVRTC are installed."""
        return compiler_missing() if find_spec("tvm") else "pip install 'nncomp[tvm-cuda]'"

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Compile ``graph``, and compare it with ONNX Runtime; where there is no GPU, the CPU runs its kernels.

        Raises:
            UnsupportedError: an op does not lower (NNC-T002), or NVRTC is not installed (NNC-T001).
            GateError: the result is wrong (NNC-G005).
        """
        from nncomp_tvm.building import build_for_cuda

        return build_for_cuda(graph, ctx, options=self.options, sizes=self._sizes(graph, ctx), command=self.spec)
