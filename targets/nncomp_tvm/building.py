"""From a graph to an artifact."""

from __future__ import annotations

from typing import Any

from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp_tvm.artifact import TvmArtifact
from nncomp_tvm.library import VERSION, relax, tvm
from nncomp_tvm.lowering import Sizes, lower
from nncomp_tvm.manifest import Manifest


def build_for_cpu(graph: Graph, ctx: Context, *, cpu: str, sizes: Sizes) -> TvmArtifact:
    """Return ``graph`` as machine code for a CPU.

    Args:
        graph: A model's own graph; it stays as it is.
        ctx: For op semantics and threads.
        cpu: LLVM's name of the CPU; the host's if empty.
        sizes: What is fixed; all else stays symbolic.

    Raises:
        UnsupportedError: an op does not lower (NNC-T002).
    """
    lowered = lower(graph, ctx.ops, sizes)
    target = {"kind": "llvm", "mcpu": cpu or tvm.target.codegen.llvm_get_system_cpu()}
    executable = _default_build(lowered.module, tvm.target.Target(target))
    return TvmArtifact(
        executable, Manifest(lowered.inputs, lowered.outputs, "cpu", target, VERSION, lowered.pinned), ctx.threads
    )


def _default_build(module: Any, target: Any) -> Any:
    with target:
        return relax.build(relax.get_pipeline("zero")(module), target)
