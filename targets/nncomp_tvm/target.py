"""Targets ``tvm``, ``tvm-cpu`` and ``tvm-cuda``: lower, compile, and hand over a library."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nncomp.errors import RecipeError, UnsupportedError
from nncomp.ir import Graph
from nncomp.passes import Context, inline_table
from nncomp.targets import Artifact, Capabilities, Finding, Target
from nncomp_tvm.capabilities import CAPABILITIES
from nncomp_tvm.nvrtc import compiler_missing

if TYPE_CHECKING:
    from nncomp_tvm.lowering import Sizes


class SizeOptions(BaseModel):
    """Options of all of these targets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dynamic: bool = Field(False, description="keep symbolic sizes, instead of fixing those of the first sample")


class CpuOptions(SizeOptions):
    """Options of ``tvm-cpu``."""

    cpu: str = Field("", description="LLVM's name of the CPU, such as 'skylake-avx512'; the host's if empty")
    tune_trials: int = Field(0, ge=0, description="variants of kernels to measure, on this machine; 0 estimates")
    tune_seconds: float = Field(600.0, gt=0, description="time for that; a kernel that has begun is finished")
    tuning_database: str = Field("", description="file that keeps what was measured, and decides where it knows")


class CudaOptions(SizeOptions):
    """Options of ``tvm-cuda``."""

    arch: str = Field("", pattern=r"^(sm_\d+a?)?$", description="such as 'sm_90'; the first GPU's if empty, or sm_80")
    half: bool = Field(False, description="multiply and accumulate in 16 bits")


Options = TypeVar("Options", bound=SizeOptions)


class LoweringTarget(Target, Generic[Options]):
    """What the targets have in common: options, lowering and ``check``."""

    library: ClassVar[str] = "apache-tvm"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    default_recipe: ClassVar[str] = "tvm"
    option_type: ClassVar[type[SizeOptions]]

    def __init__(self, options: Options | None = None) -> None:
        self.options = options if options is not None else cast("Options", self.option_type())

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Return the target with its options set.

        Raises:
            RecipeError: an option is unknown or wrong (NNC-R010).
        """
        try:
            return cls(cast("Options", cls.option_type.model_validate(options)))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            said = "there is no such option" if first["type"] == "extra_forbidden" else first["msg"]
            hint = f"options: {', '.join(sorted(cls.option_type.model_fields))}"
            raise RecipeError(f"target {cls.name!r}: {name}: {said[0].lower()}{said[1:]}", hint=hint) from None

    @property
    def spec(self) -> str:
        """The target with the options that are not at their defaults."""
        changed = self.options.model_dump(exclude_defaults=True)
        return f"{self.name}{inline_table(changed)}" if changed else self.name

    def missing(self) -> str:
        """Return the pip command, "" when apache-tvm is installed."""
        return "" if find_spec("tvm") else "pip install 'nncomp[tvm]'"

    def check(self, graph: Graph, ctx: Context) -> list[Finding]:
        """Say which ops do not lower, and why; nothing is compiled."""
        from nncomp_tvm.lowering import refusals

        try:
            refused = {one.op: one.reason for one in refusals(graph, ctx.ops, self._sizes(graph, ctx))}
        except UnsupportedError as refusal:
            return [Finding("refused", "", "", refusal.message)]
        return [
            Finding("refused" if op in refused else "ok", op.label, op.kind, refused.get(op, ""))
            for _, op in graph.walk()
        ]

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


class TvmCpuTarget(LoweringTarget[CpuOptions]):
    """Machine code for a CPU, by TVM and LLVM."""

    name: ClassVar[str] = "tvm-cpu"
    summary: ClassVar[str] = "a library for this CPU, or a named one, by TVM and LLVM"
    option_type: ClassVar[type[SizeOptions]] = CpuOptions

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


class TvmCudaTarget(LoweringTarget[CudaOptions]):
    """Code for an NVIDIA GPU, which need not be at hand."""

    name: ClassVar[str] = "tvm-cuda"
    summary: ClassVar[str] = "a library for an NVIDIA GPU, by TVM and NVRTC; no GPU is needed to build it"
    library: ClassVar[str] = "apache-tvm and NVRTC"
    option_type: ClassVar[type[SizeOptions]] = CudaOptions

    def missing(self) -> str:
        """Return the pip command, "" when apache-tvm and NVRTC are installed."""
        return compiler_missing() if find_spec("tvm") else "pip install 'nncomp[tvm-cuda]'"

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Compile ``graph``; where there is a GPU, compare it with ONNX Runtime.

        Raises:
            UnsupportedError: an op does not lower (NNC-T002), or NVRTC is not installed (NNC-T001).
            GateError: the result is wrong (NNC-G005).
        """
        from nncomp_tvm.building import build_for_cuda

        options = self.options
        sizes = self._sizes(graph, ctx)
        return build_for_cuda(graph, ctx, arch=options.arch, half=options.half, sizes=sizes, command=self.spec)
