"""From a Relax module to code for an NVIDIA GPU: dlight's schedules, CUDA source, and from it PTX and a cubin.

No GPU is needed for it. TVM's library takes the source along, and compiles it when it is loaded; the cubin is made
here, so that who loads the library needs no compiler (the loader of the docs hands the cubin over).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nncomp_tvm.kernels.building import Emitted, KernelInfo, emit
from nncomp_tvm.kernels.exact import with_exact_extremes
from nncomp_tvm.kernels.gpu.device import GpuDevice
from nncomp_tvm.kernels.gpu.halves import halved
from nncomp_tvm.kernels.gpu.schedules import scheduled
from nncomp_tvm.kernels.graph import is_plain
from nncomp_tvm.kernels.integers import normalised
from nncomp_tvm.kernels.layout import channels_last
from nncomp_tvm.kernels.regions import cut
from nncomp_tvm.kernels.sites import Site, sites_of
from nncomp_tvm.library import relax, tvm
from nncomp_tvm.nvrtc import compiled

DEFAULT_ARCH: Final = "sm_80"
"""What is compiled for where nobody says it and no GPU is at hand."""

_LIMITS: Final[Mapping[str, int]] = {
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
}


@dataclass(frozen=True)
class GpuCode:
    """What TVM makes of a module.

    Attributes:
        executable: TVM's.
        source: CUDA C++.
        module: What it was made from: Relax, and scheduled TIR.
        target: TVM's.
        arch: Such as ``sm_80``.
        written: What is known of the kernels that are ours.
        sites: Calls of functions in ``main``, in order.
    """

    executable: Any
    source: str
    module: Any
    target: Any
    arch: str
    written: tuple[KernelInfo, ...]
    sites: tuple[Site, ...]


@dataclass(frozen=True)
class GpuBuild:
    """What was compiled.

    Attributes:
        code: What TVM made.
        ptx: Assembly for any GPU of at least this architecture.
        cubin: Machine code for the architecture.
        kernels: Names of the functions that are launched, without TVM's ending ``_kernel``.
    """

    code: GpuCode
    ptx: bytes
    cubin: bytes
    kernels: tuple[str, ...]


def gpu_at_hand() -> bool:
    """Whether TVM sees a GPU on this machine."""
    return bool(tvm.cuda(0).exist)


def detected_arch() -> str:
    """Return the architecture of the first GPU, the default where there is none."""
    if not gpu_at_hand():
        return DEFAULT_ARCH
    return f"sm_{str(tvm.cuda(0).compute_version).replace('.', '')}"


def code_for_gpu(module: Any, arch: str, *, half: bool) -> GpuCode:
    """Write CUDA for ``main`` of a Relax module, and the host's code around it.

    Args:
        module: ``main`` in NCHW, parameters bound as constants.
        arch: Such as ``sm_80``.
        half: Store what products read as 16-bit floats; sums, inputs and outputs keep their types.
    """
    target = tvm.target.Target({"kind": "cuda", "arch": arch, **_LIMITS}, host={"kind": "llvm"})
    emitted = Emitted(module)
    if is_plain(module["main"]):
        device = GpuDevice()
        module = halved(module) if half else module
        module = channels_last(normalised(module, device))
        emitted = emit(module, cut(module["main"], device), {})
        module = with_exact_extremes(emitted.module)
    passes = [
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
    ]
    schedules = [
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        scheduled(),
    ]
    with target:
        module = tvm.transform.Sequential(passes)(module)
        sites = sites_of(module, emitted.calls)
        module = tvm.transform.Sequential(schedules)(module)
        executable = tvm.compile(
            module, target=target, relax_pipeline=relax.pipeline.default_build_pipeline(), tir_pipeline="s_tir"
        )
    source = "\n".join(one.inspect_source() for one in _modules(executable.mod) if one.kind == "cuda")
    return GpuCode(executable, source, module, target, arch, tuple(emitted.kernels), sites)


def build_gpu(code: GpuCode) -> GpuBuild:
    """Compile CUDA for the architecture that it was written for.

    Raises:
        UnsupportedError: there is no CUDA compiler, or it refuses the architecture or the source (NNC-T001).
    """
    ptx, cubin = compiled(code.source, code.arch)
    kernels = tuple(sorted(re.findall(r"\.entry (\w+)_kernel\b", ptx.decode())))
    return GpuBuild(code, ptx, cubin, kernels)


def _modules(module: Any) -> Iterator[Any]:
    yield module
    for inner in module.imports:
        yield from _modules(inner)
