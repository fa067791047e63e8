"""From a graph to an artifact: lower, compile, and check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.runtime import Feeds
from nncomp_tvm.artifact import TvmArtifact
from nncomp_tvm.gating import checked
from nncomp_tvm.library import VERSION, relax, tvm
from nncomp_tvm.lowering import Lowered, Sizes, lower
from nncomp_tvm.manifest import Manifest


def build_for_cpu(graph: Graph, ctx: Context, *, cpu: str, sizes: Sizes, command: str) -> TvmArtifact:
    """Return ``graph`` as machine code for a CPU.

    Args:
        graph: A model's own graph; it stays as it is.
        ctx: For op semantics, threads, calibration data, and where to leave a reproducer.
        cpu: LLVM's name of the CPU; the host's if empty.
        sizes: What is fixed; all else stays symbolic.
        command: Target as the command line writes it.

    Raises:
        UnsupportedError: an op does not lower (NNC-T002).
        GateError: the result is wrong (NNC-G005).
    """
    target = {"kind": "llvm", "mcpu": cpu or tvm.target.codegen.llvm_get_system_cpu()}

    def compiled(lowered: Lowered) -> TvmArtifact:
        executable = _default_build(lowered.module, tvm.target.Target(target))
        manifest = Manifest(lowered.inputs, lowered.outputs, "cpu", target, VERSION, lowered.pinned)
        return TvmArtifact(executable, manifest, ctx.threads)

    return _gated(graph, ctx, sizes, compiled, command)


def _gated(
    graph: Graph, ctx: Context, sizes: Sizes, compiled: Callable[[Lowered], TvmArtifact], command: str
) -> TvmArtifact:
    artifact = compiled(lower(graph, ctx.ops, sizes))

    def again(piece: Graph, feeds: Feeds) -> TvmArtifact:
        fixed = Sizes({name: np.shape(array) for name, array in feeds.items()}, dict(feeds))
        return compiled(lower(piece, ctx.ops, fixed))

    return checked(artifact, graph, ctx, again, command=command)


def _default_build(module: Any, target: Any) -> Any:
    with target:
        return relax.build(relax.get_pipeline("zero")(module), target)
