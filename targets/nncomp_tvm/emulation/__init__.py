"""Run the code for a GPU where there is none: its CUDA source, compiled by this machine's C++ compiler.

``include/`` gives CUDA's names a meaning on a CPU. The threads of a block are fibers, and run one at a time, so what
comes out is what the source says, in one of the orders that a GPU may take; how long it takes says nothing.
"""

from nncomp_tvm.emulation.compiling import compiler
from nncomp_tvm.emulation.emulator import Emulator, KernelFault, TimeIsUp

__all__ = ["Emulator", "KernelFault", "TimeIsUp", "compiler"]
