"""Targets ``tvm``, ``tvm-cpu`` and ``tvm-cuda``: lower, compile, and hand over a library."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nncomp.errors import RecipeError
from nncomp.ir import Graph
from nncomp.passes import Context, inline_table
from nncomp.targets import Artifact, Capabilities, Finding, Target
from nncomp_tvm.capabilities import CAPABILITIES

if TYPE_CHECKING:
    from nncomp_tvm.lowering import Sizes


class CpuOptions(BaseModel):
    """Options of ``tvm-cpu``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str = Field("", description="LLVM's name of the CPU, such as 'skylake-avx512'; the host's if empty")
    dynamic: bool = Field(False, description="keep symbolic sizes, instead of fixing those of the first sample")


class TvmCpuTarget(Target):
    """Machine code for a CPU, by TVM and LLVM."""

    name: ClassVar[str] = "tvm-cpu"
    summary: ClassVar[str] = "a library for this CPU, or a named one, by TVM and LLVM"
    library: ClassVar[str] = "apache-tvm"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    default_recipe: ClassVar[str] = "tvm"

    def __init__(self, options: CpuOptions | None = None) -> None:
        self.options = options or CpuOptions()

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Return the target with its options set.

        Raises:
            RecipeError: an option is unknown or wrong (NNC-R010).
        """
        try:
            return cls(CpuOptions.model_validate(options))
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            said = "there is no such option" if first["type"] == "extra_forbidden" else first["msg"]
            hint = f"options: {', '.join(CpuOptions.model_fields)}"
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

        refused = {one.op: one.reason for one in refusals(graph, ctx.ops, self._sizes(graph, ctx))}
        return [
            Finding("refused", op.label, op.kind, refused[op])
            if op in refused
            else Finding("ok", op.label, op.kind, "")
            for _, op in graph.walk()
        ]

    def build(self, graph: Graph, ctx: Context) -> Artifact:
        """Compile ``graph``.

        Raises:
            UnsupportedError: an op does not lower (NNC-T002).
        """
        from nncomp_tvm.building import build_for_cpu

        return build_for_cpu(graph, ctx, cpu=self.options.cpu, sizes=self._sizes(graph, ctx), command=self.spec)

    def _sizes(self, graph: Graph, ctx: Context) -> Sizes:
        """Return what is compiled for: the first sample's sizes, and 1 for open ones where there is no data."""
        from nncomp_tvm.lowering import Sizes

        sample = next(iter(ctx.data), None) if ctx.data is not None else None
        if sample is not None:
            shapes = {} if self.options.dynamic else {name: np.shape(array) for name, array in sample.items()}
            return Sizes(shapes, {name: np.asarray(array) for name, array in sample.items()})
        if self.options.dynamic:
            return Sizes()
        return Sizes(
            {
                value.name: tuple(dim if isinstance(dim, int) else 1 for dim in value.shape)
                for value in graph.inputs
                if value.shape is not None
            }
        )


class TvmTarget(TvmCpuTarget):
    """``tvm-cpu`` by its short name."""

    name: ClassVar[str] = "tvm"
    summary: ClassVar[str] = "the same as tvm-cpu"
