"""The names of TVM that this target uses, in the one place that knows where version 0.27 keeps them.

TVM moves names between minor versions (``tir`` became ``tirx`` and ``s_tir``, ``Constant.data`` became ``.value``,
``struct_info`` became ``ty``), so the extra pins the minor version, and nobody else imports ``tvm``. Importing this
module loads TVM, which takes seconds: only what ``build`` and ``check`` import may do so.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tvm
import tvm_ffi
from tvm import relax, s_tir, te, tirx, topi
from tvm.ir import GenericConst as Constant
from tvm.ir.instrument import pass_instrument
from tvm.relax.frontend.onnx import onnx_frontend
from tvm.s_tir import dlight
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T  # noqa: N812  as all of TVM calls it
from tvm.support import cc
from tvm.tirx.compilation_pipeline import register_tir_pipeline

__all__ = [
    "VERSION",
    "Constant",
    "Expr",
    "IRBuilder",
    "T",
    "constant",
    "dlight",
    "ffi_include_paths",
    "ffi_library",
    "is_cpu",
    "lacking_features",
    "linker",
    "onnx_frontend",
    "pass_instrument",
    "quiet",
    "register_tir_pipeline",
    "relax",
    "s_tir",
    "stored_tensors",
    "te",
    "tensor",
    "tensors_stored",
    "tirx",
    "topi",
    "tvm",
    "use_threads",
]

Expr: TypeAlias = Any
"""A Relax expression; TVM has no type hints."""

VERSION: str = tvm.__version__


def constant(array: npt.NDArray[Any]) -> Expr:
    """Return a Relax constant that holds a copy of ``array``, with its type: of numpy's, ``const`` makes 32 bits."""
    return relax.const(tensor(array))


def tensor(array: npt.NDArray[Any], device: Any = None) -> Any:
    """Return a TVM tensor on ``device``, default the CPU."""
    return tvm.runtime.tensor(np.asarray(array, order="C"), device or tvm.cpu())


def ffi_include_paths() -> list[str]:
    """Return the folders with the headers of TVM's calling convention."""
    return [str(path) for path in tvm_ffi.libinfo.include_paths()]


def linker() -> str:
    """Return the compiler that TVM links with, "" where it finds none."""
    return cc.get_cc() or ""


def ffi_library() -> str:
    """Return the path of the library that they belong to."""
    return str(tvm_ffi.libinfo.find_libtvm_ffi())


def is_cpu(name: str) -> bool:
    """Whether LLVM knows a CPU of this machine's kind by that name."""
    codegen = tvm.target.codegen
    return bool(codegen.llvm_is_valid_cpu(name, codegen.llvm_get_system_triple()))


def lacking_features(cpu: str) -> list[str]:
    """Return the vector instructions that code for ``cpu`` may use and this machine lacks, sorted."""
    codegen = tvm.target.codegen

    def vectors(name: str) -> set[str]:
        found = codegen.llvm_get_cpu_features(tvm.target.Target({"kind": "llvm", "mcpu": name}))
        return {str(one) for one in found if str(one).startswith(("avx", "amx", "fma", "sse", "bmi", "f16c", "sve"))}

    return sorted(vectors(cpu) - vectors(str(codegen.llvm_get_system_cpu())))


def use_threads(count: int) -> None:
    """Let TVM's kernels of this process run on so many threads, the calling one included."""
    tvm.get_global_func("runtime.config_threadpool")(1, count)


def stored_tensors(tensors: Sequence[Any]) -> bytes:
    """Return tensors in TVM's form of a file of parameters, named "0", "1", ... in order."""
    return bytes(tvm.runtime.save_param_dict({str(number): one for number, one in enumerate(tensors)}))


def tensors_stored(data: bytes) -> dict[str, Any]:
    """Return the tensors of :func:`stored_tensors` by name."""
    return {str(name): one for name, one in tvm.runtime.load_param_dict(data).items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what TVM's C++ side writes to stderr, one line a buffer in places, unless something fails inside."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
