"""What runs a GPU's build on this CPU, and says by name what a GPU would do wrong in silence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nncomp.runtime import Feeds, RuntimeFailure
from nncomp_tvm.artifact import Loaded
from nncomp_tvm.emulation.compiling import compiled
from nncomp_tvm.emulation.host import host_of
from nncomp_tvm.gpu import GpuCode
from nncomp_tvm.manifest import Manifest


class KernelFault(RuntimeFailure):
    """A kernel did what no kernel may: threads that miss a barrier, an address that is nobody's."""


class TimeIsUp(RuntimeFailure):
    """A run took longer than it was given."""


class Emulator:
    """A build for a GPU, run by this CPU.

    Args:
        code: What TVM made.
        manifest: What goes in and comes out, for the GPU.
        seconds: How long one run may take.

    Raises:
        UnsupportedError: there is no C++ compiler, or it refuses the kernels (NNC-T001).
    """

    def __init__(self, code: GpuCode, manifest: Manifest, *, seconds: float = float("inf")) -> None:
        self.manifest = replace(manifest, device="cpu")
        self._seconds = seconds
        executable, launches = host_of(code.module, code.target)
        self._kernels = None
        if launches:
            self._kernels = compiled(code.source, launches, code.arch)
            (host,) = executable.mod.imports
            host.import_module(self._kernels)
        self._loaded = Loaded(executable, self.manifest)

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Run once; outputs by name.

        Raises:
            KernelFault: a kernel has a fault.
            TimeIsUp: it takes too long.
            RuntimeFailure: inputs do not fit.
        """
        if self._kernels is not None:
            self._kernels["nncomp_time_limit"](self._seconds)
        try:
            return self._loaded.run(feeds)
        except RuntimeFailure as failure:
            if not failure.message.startswith("kernel "):
                raise
            if failure.message.endswith(": time is up"):
                raise TimeIsUp(
                    f"there is no GPU, and a CPU in its place needs more than {self._seconds:.0f} seconds for a "
                    "sample; emulate=true waits for it"
                ) from failure
            raise KernelFault(failure.message) from failure
