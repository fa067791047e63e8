"""Fast code for CPUs: Relax modules in, executables out.

The way of a module: ``integers`` puts conversions where kernels look for them; ``layout`` turns images to NHWC;
``regions`` cuts the function into kernels, each an anchor (``anchors``) with the elementwise operators behind it
(``program``); ``contraction``, ``window``, ``taps``, ``products`` and ``rows`` write each kernel as a loop nest of
TIR (``emit``), no schedule involved; ``building`` puts it together and leaves the rest to TVM. ``tuning`` measures
tiles where asked to.
"""

from __future__ import annotations

from nncomp_tvm.kernels.building import CpuBuild, KernelInfo, build_cpu
from nncomp_tvm.kernels.cpu import ByteDot, CpuTarget
from nncomp_tvm.kernels.sites import Site
from nncomp_tvm.kernels.tuning import TuningOptions, TuningProgress

__all__ = ["ByteDot", "CpuBuild", "CpuTarget", "KernelInfo", "Site", "TuningOptions", "TuningProgress", "build_cpu"]
