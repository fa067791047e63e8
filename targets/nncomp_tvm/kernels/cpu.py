"""What a kernel must know of a CPU: how wide its vectors are, how many it has, and how it multiplies bytes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from nncomp_tvm.library import tvm

Target, codegen = tvm.target.Target, tvm.target.codegen


class ByteDot(StrEnum):
    """How u8 x s8 products are summed into int32."""

    VNNI = "vnni"  # four products an instruction, AVX512-VNNI or AVX-VNNI: vpdpbusd
    WIDENED = "widened"  # bytes widened to 16 bits, two products an instruction: vpmaddwd, which cannot overflow
    PLAIN = "plain"  # 32-bit multiply and add, for any CPU


@dataclass(frozen=True)
class CpuTarget:
    """An x86-64 CPU that code is made for.

    Attributes:
        mcpu: LLVM's name of it (``sapphirerapids``, ``haswell``, ``x86-64-v3``).
        vector_bytes: 64 with AVX512, 32 with AVX or AVX2, 16 otherwise.
        registers: Vector registers: 32 with AVX512, else 16.
        dot: How bytes are multiplied.
        l2_bytes: Weights and activations that are reused should fit here together.
    """

    mcpu: str
    vector_bytes: int
    registers: int
    dot: ByteDot
    l2_bytes: int = 1 << 20

    @property
    def lanes(self) -> int:
        """32-bit elements in a vector."""
        return self.vector_bytes // 4

    @property
    def target(self) -> Any:
        """TVM's target. Full-width vectors even where LLVM, by default, prefers half of them."""
        wide = ["-prefer-256-bit"] if self.vector_bytes == 64 else []
        return Target({"kind": "llvm", "mcpu": self.mcpu, "mattr": wide})

    @classmethod
    def named(cls, mcpu: str) -> CpuTarget:
        """Return what LLVM knows of the CPU ``mcpu``."""
        target = Target({"kind": "llvm", "mcpu": mcpu})

        def has(*features: str) -> bool:
            return bool(codegen.llvm_cpu_has_features(list(features), target))

        if has("avx512f", "avx512bw", "avx512vl"):
            return cls(mcpu, 64, 32, ByteDot.VNNI if has("avx512vnni") else ByteDot.WIDENED)
        if has("avx2"):
            return cls(mcpu, 32, 16, ByteDot.VNNI if has("avxvnni") else ByteDot.WIDENED)
        return cls(mcpu, 32 if has("avx") else 16, 16, ByteDot.PLAIN)

    @classmethod
    def host(cls) -> CpuTarget:
        """Return the CPU that this process runs on."""
        return cls.named(str(codegen.llvm_get_system_cpu()))


@dataclass(frozen=True)
class _Dot:
    intrinsic: str
    operand: str  # type of both operands, as TVM writes it
    result: str


DOTS: Final[dict[tuple[ByteDot, int], _Dot]] = {
    (ByteDot.VNNI, 16): _Dot("llvm.x86.avx512.vpdpbusd.512", "int8x64", "int32x16"),
    (ByteDot.VNNI, 8): _Dot("llvm.x86.avx512.vpdpbusd.256", "int8x32", "int32x8"),
    (ByteDot.WIDENED, 16): _Dot("llvm.x86.avx512.pmaddw.d.512", "int16x32", "int32x16"),
    (ByteDot.WIDENED, 8): _Dot("llvm.x86.avx2.pmadd.wd", "int16x16", "int32x8"),
}
"""LLVM's intrinsic by kind and lanes of the result. Since LLVM 21, vpdpbusd takes bytes, not 32-bit lanes."""
