"""Code of a model: what TVM holds in memory, and the shared library that is linked of it, to save or to load."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from nncomp.errors import UnsupportedError


def foreign_to(lacking: Sequence[str], cpu: str) -> str:
    """Return why code for ``cpu`` cannot run here, where these instructions are lacking; "" where none are."""
    return f"this CPU lacks {', '.join(lacking)}, which code for {cpu} may use" if lacking else ""


class Code(Protocol):
    """What can be saved, and loaded to be run."""

    @property
    def library(self) -> bytes:
        """A shared library.

        Raises:
            UnsupportedError: it cannot be linked (NNC-T001).
        """

    def module(self) -> Any:
        """Return what TVM's virtual machine takes."""


@dataclass(frozen=True)
class Linked:
    """A shared library: what runs is what is saved, byte by byte."""

    library: bytes

    def module(self) -> Any:
        """Return the library, loaded; the file that it is loaded from is gone afterwards."""
        from nncomp_tvm.library import tvm

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.so"
            path.write_bytes(self.library)
            return tvm.runtime.load_module(str(path))


@dataclass(frozen=True)
class Compiled:
    """What TVM compiled: machine code comes of it either when it is linked or when it runs, each time anew.

    Attributes:
        executable: TVM's.
        to_keep: It will be saved, so that it is the library that runs, and code is generated once. What is only tried,
            such as a piece of a graph, runs in memory, where no linker is needed.
    """

    executable: Any
    to_keep: bool = True

    @cached_property
    def library(self) -> bytes:
        """A shared library.

        Raises:
            UnsupportedError: it cannot be linked (NNC-T001).
        """
        from nncomp_tvm.library import linker, quiet

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.so"
            try:
                with quiet():
                    self.executable.export_library(str(path))
            except (RuntimeError, TypeError) as error:  # of no compiler at all TVM asks for the name
                reason = str(error).strip().splitlines()[-1][:200] if linker() else "there is no C++ compiler"
                raise UnsupportedError(
                    f"the library cannot be linked: {reason}",
                    code="NNC-T001",
                    hint="TVM links with g++ or clang++: install one",
                ) from error
            return path.read_bytes()

    def module(self) -> Any:
        """Return the library, loaded; what is in memory where there is nothing to link with, or nothing to keep."""
        if not self.to_keep:
            return self.executable
        try:
            return Linked(self.library).module()
        except UnsupportedError:
            return self.executable
