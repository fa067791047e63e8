"""From CUDA source to a library for this CPU, by g++ or clang++."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from nncomp.errors import UnsupportedError
from nncomp_tvm.library import ffi_include_paths, ffi_library, tvm

_INCLUDE: Final = Path(__file__).parent / "include"
_SECONDS: Final = 300.0
_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_EXTENTS: Final = {
    f"{what}Idx.{axis}": f"nncomp::Extent::k{where}{axis.upper()}"
    for what, where in (("thread", "Block"), ("block", "Grid"))
    for axis in "xyz"
}


def compiler() -> str:
    """Return the path of a C++ compiler, "" where there is none."""
    return next((found for name in ("g++", "clang++") if (found := shutil.which(name))), "")


def compiled(source: str, launches: Mapping[str, Sequence[str]], arch: str) -> Any:
    """Return a TVM module with a function for each kernel, to be called as TVM's host code calls those of a GPU.

    Args:
        source: CUDA C++.
        launches: What the last arguments of each kernel are: names such as ``blockIdx.x``.
        arch: Such as ``sm_80``, for the source to ask for.

    Raises:
        UnsupportedError: there is no C++ compiler, or it refuses the source (NNC-T001).
    """
    found = compiler()
    if not found:
        raise UnsupportedError("there is no C++ compiler", code="NNC-T001", hint="install g++ or clang++")
    with tempfile.TemporaryDirectory() as folder:
        path, library = Path(folder) / "model.cc", Path(folder) / "model.so"
        path.write_text(_as_cpp(source, launches))
        includes = [f"-I{one}" for one in (_INCLUDE, *ffi_include_paths())]
        command = [
            found,
            *_flags(arch),
            *includes,
            str(path),
            "-o",
            str(library),
            ffi_library(),
        ]
        try:
            done = subprocess.run(  # noqa: S603  our own source, and no shell
                command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise UnsupportedError(
                f"the C++ compiler takes more than {_SECONDS:.0f} seconds for the kernels", code="NNC-T001"
            ) from None
        if done.returncode:
            raise UnsupportedError(f"the C++ compiler refuses the kernels: {_reason(done.stderr)}", code="NNC-T001")
        return tvm.runtime.load_module(str(library))


def _flags(arch: str) -> list[str]:
    number = re.sub(r"\D", "", arch)
    native = ["-march=native"] if platform.machine() in ("x86_64", "AMD64") else []
    language = ["-std=c++17", "-O2", "-w", "-fPIC", "-shared", "-fvisibility=hidden", *native]
    # Integers wrap and memory is read as any type on a GPU; a longjmp between stacks is no mistake.
    return [*language, "-fwrapv", "-fno-strict-aliasing", "-U_FORTIFY_SOURCE", f"-DNNCOMP_CUDA_ARCH={number}0"]


def _as_cpp(source: str, launches: Mapping[str, Sequence[str]]) -> str:
    assert all(_NAME.fullmatch(name) for name in launches)
    lines = (f"NNCOMP_LAUNCH({', '.join([name, *(_EXTENTS[one] for one in launches[name])])})" for name in launches)
    return "\n".join(['#include "cuda_on_cpu.h"', '#line 1 "model.cu"', source, *lines, ""])


def _reason(said: str) -> str:
    first = next((line for line in said.splitlines() if "error:" in line), said.strip()[:200] or "it says nothing")
    return first.split("error:", 1)[-1].strip()
