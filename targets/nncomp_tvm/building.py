"""From a graph to an artifact: lower, compile, and check."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nncomp.errors import NncompError, RecipeError, UnsupportedError
from nncomp.gate import HALF_LIMIT
from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.runtime import Feeds
from nncomp_tvm.artifact import Call, CompiledKernel, TvmArtifact, last_line
from nncomp_tvm.code import Compiled, foreign_to
from nncomp_tvm.cubin import resources
from nncomp_tvm.emulation import Emulator
from nncomp_tvm.emulation.judging import checked_by_emulation
from nncomp_tvm.gating import checked, unseen
from nncomp_tvm.gpu import GpuBuild, GpuCode, build_gpu, code_for_gpu, detected_arch, gpu_at_hand
from nncomp_tvm.kernels import CpuTarget, Site, TuningOptions, TuningProgress, build_cpu
from nncomp_tvm.library import VERSION, is_cpu, lacking_features, quiet
from nncomp_tvm.lowering import Lowered, Sizes, lower
from nncomp_tvm.manifest import Manifest
from nncomp_tvm.nvrtc import compiler_missing, require_arch

if TYPE_CHECKING:
    from nncomp_tvm.target import CpuOptions, CudaOptions


def require_cpu(options: CpuOptions) -> None:
    """Refuse a CPU that LLVM does not know.

    Raises:
        RecipeError: there is no such CPU (NNC-R010).
    """
    if options.cpu and not is_cpu(options.cpu):
        raise RecipeError(
            f"cpu: LLVM knows no CPU {options.cpu!r} of this machine's kind", hint="such as 'x86-64-v3' or 'haswell'"
        )


def build_for_cpu(graph: Graph, ctx: Context, *, options: CpuOptions, sizes: Sizes, command: str) -> TvmArtifact:
    """Return ``graph`` as machine code for a CPU.

    Args:
        graph: A model's own graph; it stays as it is.
        ctx: For op semantics, threads, calibration data, and where to leave a reproducer.
        options: What CPU, and how much to measure.
        sizes: What is fixed; all else stays symbolic.
        command: Target as the command line writes it.

    Raises:
        RecipeError: there is no such CPU (NNC-R010).
        UnsupportedError: an op does not lower (NNC-T002).
        GateError: the result is wrong (NNC-G005).
    """
    require_cpu(options)
    cpu = options.cpu
    chosen = CpuTarget.named(cpu) if cpu else CpuTarget.host()
    target = {"kind": "llvm", "mcpu": chosen.mcpu}
    foreign = foreign_to(lacking_features(chosen.mcpu), chosen.mcpu)
    if foreign and options.tune_trials:
        raise RecipeError(f"tune_trials: nothing can be measured here: {foreign}", hint="tuning_database works alone")
    tunings = [_tuning(options, ctx)]  # for the model; pieces of one that went wrong are not worth it

    def compiled(lowered: Lowered, *, to_keep: bool = False) -> TvmArtifact:
        tuning = tunings.pop() if tunings else None
        with compiler_errors(loud=tuning is not None):
            built = build_cpu(lowered.module, chosen, threads=ctx.threads, tuning=tuning)
        manifest = Manifest(lowered.inputs, lowered.outputs, "cpu", target, VERSION, lowered.pinned)
        kernels = tuple(
            CompiledKernel(one.name, one.ops, integer=one.integer, macs=one.macs, tuned=one.tuned)
            for one in built.kernels
        )
        return TvmArtifact(
            Compiled(built.executable, to_keep),
            manifest,
            ctx.threads,
            compiled=kernels,
            foreign=foreign,
            parameters=built.parameters,
            calls=_calls(lowered, built.sites),
        )

    return _gated(graph, ctx, sizes, partial(compiled, to_keep=True), compiled, command=command)


def _calls(lowered: Lowered, sites: Sequence[Site]) -> tuple[Call, ...]:
    """Return calls with the names of the values that they compute."""
    return tuple(
        Call(site.kernel, tuple(dict.fromkeys(name for number in site.ops for name in lowered.names[number])))
        for site in sites
    )


def _tuning(options: CpuOptions, ctx: Context) -> TuningOptions | None:
    """Return how much to measure, and tell how far it is; without measuring and without a database, None."""
    if not options.tune_trials and not options.tuning_database:
        return None

    def tell(progress: TuningProgress) -> None:
        gain = f"{progress.default_us:.0f} to {progress.best_us:.0f} us"
        ctx.progress.step(f"tuning, {progress.kernel} {gain}", progress.done, progress.total)

    database = Path(options.tuning_database) if options.tuning_database else None
    return TuningOptions(options.tune_trials, options.tune_seconds, database, tell)


def build_for_cuda(graph: Graph, ctx: Context, *, options: CudaOptions, sizes: Sizes, command: str) -> TvmArtifact:
    """Return ``graph`` as code for an NVIDIA GPU; where there is none, the gate runs its kernels on the CPU.

    Args:
        graph: A model's own graph; it stays as it is.
        ctx: As for :func:`build_for_cpu`.
        options: For what GPU, and how; without ``arch`` for the first GPU, ``sm_80`` where there is none.
        sizes: What is fixed; all else stays symbolic.
        command: Target as the command line writes it.

    Raises:
        RecipeError: NVRTC knows no such architecture (NNC-R010).
        UnsupportedError: an op does not lower (NNC-T002), or NVRTC is not installed (NNC-T001).
        GateError: the result is wrong (NNC-G005).
    """
    if compiler_missing():
        raise UnsupportedError(f"target 'tvm-cuda' needs NVRTC: {compiler_missing()}", code="NNC-T001")
    if options.arch:
        require_arch(options.arch)
    arch = options.arch or detected_arch()
    target = {"kind": "cuda", "arch": arch, "half": options.half}
    excused = HALF_LIMIT if options.half else 0.0

    def manifest(lowered: Lowered) -> Manifest:
        return Manifest(lowered.inputs, lowered.outputs, "cuda", target, VERSION, lowered.pinned)

    def code(lowered: Lowered) -> GpuCode:
        with compiler_errors():
            return code_for_gpu(lowered.module, arch, half=options.half)

    def assembled(lowered: Lowered, code: GpuCode) -> TvmArtifact:
        with compiler_errors():
            built = build_gpu(code)
        files = {"ptx": built.ptx, "cubin": built.cubin}
        kernels = tuple(_launched(built))
        calls = _calls(lowered, code.sites)
        held = Compiled(code.executable, to_keep=False)  # in memory CUDA is compiled, in the library it is not
        return TvmArtifact(held, manifest(lowered), ctx.threads, compiled=kernels, files=files, calls=calls)

    if gpu_at_hand():

        def whole(lowered: Lowered) -> TvmArtifact:
            return assembled(lowered, code(lowered))

        return _gated(graph, ctx, sizes, whole, whole, command=command, excused=excused)

    def emulator(lowered: Lowered, made: GpuCode, seconds: float = float("inf")) -> Emulator:
        with compiler_errors():
            return Emulator(made, manifest(lowered), seconds=seconds)

    def again(piece: Graph, feeds: Feeds) -> Emulator:
        small = lower(piece, ctx.ops, _sizes_of(feeds))
        return emulator(small, code(small))

    lowered = lower(graph, ctx.ops, sizes)
    made = code(lowered)
    seen = checked_by_emulation(
        partial(emulator, lowered, made), manifest(lowered), graph, ctx, again,
        command=command, excused=excused, wanted=options.emulate,
    )  # fmt: skip
    return replace(assembled(lowered, made), foreign="there is no GPU", emulated=seen)


def _launched(built: GpuBuild) -> Iterator[CompiledKernel]:
    """Yield the kernels of a GPU with what is known of them."""
    written, needs = {one.name: one for one in built.code.written}, resources(built.cubin)
    for name in built.kernels:
        own, need = written.get(name), needs.get(f"{name}_kernel", {})
        if own is None:
            yield CompiledKernel(name, (), integer=False, resources=need)
        else:
            yield CompiledKernel(name, own.ops, integer=own.integer, macs=own.macs, resources=need)


def _gated(
    graph: Graph,
    ctx: Context,
    sizes: Sizes,
    compiled: Callable[[Lowered], TvmArtifact],
    tried: Callable[[Lowered], TvmArtifact],
    *,
    command: str,
    excused: float = 0.0,
) -> TvmArtifact:
    """Return what is built, checked as far as this machine can run it; pieces of it are only tried."""
    artifact = compiled(lower(graph, ctx.ops, sizes))
    if artifact.foreign:
        unseen(ctx, artifact.foreign)
        return artifact

    def again(piece: Graph, feeds: Feeds) -> TvmArtifact:
        return tried(lower(piece, ctx.ops, _sizes_of(feeds)))

    checked(artifact, graph, ctx, again, command=command, excused=excused)
    return artifact


def _sizes_of(feeds: Feeds) -> Sizes:
    return Sizes({name: np.shape(array) for name, array in feeds.items()}, dict(feeds))


@contextlib.contextmanager
def compiler_errors(*, loud: bool = False) -> Iterator[None]:
    """Turn what TVM raises while it compiles into a refusal.

    Args:
        loud: Leave stderr alone, for progress is told there.

    Raises:
        UnsupportedError: TVM failed (NNC-T002).
    """
    try:
        with contextlib.nullcontext() if loud else quiet():
            yield
    except NncompError:
        raise
    except Exception as error:  # TVM's errors share no base class, and its Python side raises whatever comes
        raise UnsupportedError(f"TVM cannot compile the graph: {last_line(error)}") from error
