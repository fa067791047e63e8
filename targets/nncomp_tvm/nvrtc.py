"""NVRTC, which compiles CUDA source without a GPU; TVM is not imported, to find out whether it is installed."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from nncomp.errors import RecipeError, UnsupportedError

_OPTIONS: Final = (
    "-default-device",
    "--device-int128",
    "--use_fast_math",
    "--ptxas-options=--register-usage-level=10",
    "-DINFINITY=__int_as_float(0x7f800000)",
    *(f"-D__NV_SILENCE_{which}DEPRECATION_{end}=" for which in ("", "HOST_") for end in ("BEGIN", "END")),
)
"""Those that TVM gives where it compiles the source itself, so that both make the same code."""


def compiler_missing() -> str:
    """Return the pip command that installs NVRTC and its headers, "" where they are."""
    return "" if toolkit() is not None and importlib.util.find_spec("cuda") else "pip install 'nncomp[tvm-cuda]'"


def toolkit() -> Path | None:
    """Return the folder of NVIDIA's packages that holds CUDA's headers."""
    found = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found is not None else []
    return next(
        (child for place in places for child in sorted(place.glob("cu*")) if (child / "include").is_dir()), None
    )


def require_arch(arch: str) -> None:
    """Refuse an architecture that NVRTC does not compile for; it is asked with an empty program.

    Args:
        arch: Such as ``sm_90``, or ``sm_90a``.

    Raises:
        RecipeError: there is no such architecture, or NVRTC is too new or too old for it (NNC-R010).
    """
    nvrtc: Any = import_module("cuda.bindings.nvrtc")
    _, program = nvrtc.nvrtcCreateProgram(b"", b"empty.cu", 0, [], [])
    (result,) = nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={arch}".encode()])
    nvrtc.nvrtcDestroyProgram(program)
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        _, known = nvrtc.nvrtcGetSupportedArchs()
        raise RecipeError(
            f"arch: NVRTC knows no architecture {arch!r}", hint=f"one of {', '.join(f'sm_{one}' for one in known)}"
        )


def compiled(source: str, arch: str) -> tuple[bytes, bytes]:
    """Return PTX and the cubin that NVRTC made from it, in one compilation.

    Args:
        source: CUDA C++.
        arch: Such as ``sm_80``.

    Raises:
        UnsupportedError: NVRTC is not installed, or refuses the architecture or the source (NNC-T001).
    """
    folder = toolkit()
    if folder is None or compiler_missing():
        raise UnsupportedError(f"target 'tvm-cuda' needs NVRTC: {compiler_missing()}", code="NNC-T001")
    nvrtc: Any = import_module("cuda.bindings.nvrtc")
    headers = folder / "include"
    flags = (f"--gpu-architecture={arch}", *_OPTIONS, f"-I{headers}", f"-I{headers / 'cccl'}")
    lines = (line for line in source.splitlines() if line.strip() != "#include <cuda.h>")  # of the host
    program = _got(nvrtc.nvrtcCreateProgram("\n".join(lines).encode(), b"model.cu", 0, None, None))
    try:
        status, *_ = nvrtc.nvrtcCompileProgram(program, len(flags), [flag.encode() for flag in flags])
        if status.value:
            log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            reason = _reason(log.decode(errors="replace")) or status.name
            raise UnsupportedError(f"NVRTC refuses the kernels for {arch}: {reason}", code="NNC-T001")
        ptx = _read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
        return ptx, _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _read(size_of: Any, read: Any, program: Any) -> bytes:
    buffer = bytearray(_got(size_of(program)))
    _got(read(program, buffer))
    return bytes(buffer)


def _got(result: Any) -> Any:
    """Return what a call of NVRTC gives behind its status."""
    status, *values = result
    if status.value:
        raise UnsupportedError(f"NVRTC fails: {status.name}", code="NNC-T001")
    return values[0] if values else None


def _reason(log: str) -> str:
    """Return the first error of a log, without its place."""
    line = next((line for line in log.splitlines() if "error" in line), "")
    return line.split("error:", 1)[-1].strip(" \0")
