"""The gate of a build for a GPU where there is none: the CPU runs its kernels, if that does not take too long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp_tvm.emulation.compiling import compiler
from nncomp_tvm.emulation.emulator import Emulator
from nncomp_tvm.gating import checked, unseen, with_sizes
from nncomp_tvm.manifest import Manifest
from nncomp_tvm.reproducing import Build

MULTIPLICATIONS: Final = 2e9
"""What is emulated unasked, samples together: some ten seconds."""

SECONDS: Final = 60.0
"""How long a sample may take that nobody asked for."""

_SAMPLES: Final = 4


def checked_by_emulation(
    emulator: Callable[[float], Emulator],
    manifest: Manifest,
    graph: Graph,
    ctx: Context,
    build: Build,
    *,
    command: str,
    excused: float,
    wanted: bool | None,
) -> int:
    """Compare what the kernels give on this CPU, as :func:`checked` does; return on how many samples.

    Args:
        emulator: Makes what runs them, for the seconds that a run may take.
        manifest: What goes in and comes out.
        graph: A model's own graph.
        ctx: As for :func:`checked`.
        build: As for :func:`checked`.
        command: As for :func:`checked`.
        excused: As for :func:`checked`.
        wanted: True emulates however long it takes, False never; None up to the limits above.

    Raises:
        GateError: the results differ, or a kernel has a fault (NNC-G005).
    """
    if wanted is False:
        return unseen(ctx, "there is no GPU, and emulate=false")
    if not compiler():
        return unseen(ctx, "there is no GPU, and no g++ or clang++ for the CPU to run the kernels")
    samples = _SAMPLES
    if wanted is None:
        work = _multiplications(with_sizes(graph, manifest), ctx)
        if work > MULTIPLICATIONS:
            return unseen(
                ctx,
                f"there is no GPU, and {work / 1e9:.1f} billion multiplications are many for a CPU in its place; "
                "emulate=true runs them all the same",
            )
        samples = max(1, min(_SAMPLES, int(MULTIPLICATIONS // max(work, 1))))
    try:
        built = emulator(SECONDS if wanted is None else float("inf"))
    except UnsupportedError as error:
        return unseen(ctx, f"there is no GPU, and {error.message}")
    return checked(built, graph, ctx, build, command=command, most=samples, excused=excused)


def _multiplications(graph: Graph, ctx: Context) -> int:
    """Return those of a run, as far as they are known."""
    infer_types(graph)
    costs = [ctx.ops.cost(op, within) for within, op in graph.walk()]
    return sum(cost.macs for cost in costs if cost is not None)
