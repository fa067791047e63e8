"""Where the time of a run goes: each kernel that TVM's virtual machine calls, timed between two calls of its hook."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from nncomp_tvm.elf import sections

_MOST_RUNS: Final = 15
_BUILTIN: Final = ("vm.", "vm_", "main", "runtime.", "__")


@dataclass(frozen=True, slots=True)
class CallTime:
    """A call of a kernel in one run, and its microseconds: the median over runs."""

    kernel: str
    us: float


def call_times(machine: Any, run: Callable[[], object], *, seconds: float) -> list[CallTime]:
    """Return the time of each call of a kernel in one run, in their order.

    Args:
        machine: TVM's virtual machine.
        run: Runs it once.
        seconds: Wall time to spend, at the most, after a first run.
    """
    spans: list[list[tuple[str, float]]] = []
    started = [0.0]

    def instrument(func: Any, name: str, before: bool, code: int, *arguments: Any) -> int:
        del func, code, arguments
        now = time.perf_counter()
        if before:
            started[0] = time.perf_counter()
        elif not str(name).startswith(_BUILTIN):
            spans[-1].append((str(name), now - started[0]))
        return 0

    machine.set_instrument(instrument)
    try:
        end = time.monotonic() + seconds
        while len(spans) < _MOST_RUNS and (not spans or time.monotonic() < end):
            spans.append([])
            run()
    finally:
        machine.set_instrument(lambda *arguments: 0)
    names = [name for name, _ in spans[-1]]
    alike = [[span for _, span in one] for one in spans if [name for name, _ in one] == names]
    return [
        CallTime(name, 1e6 * statistics.median(times))
        for name, times in zip(names, zip(*alike, strict=True), strict=True)
    ]


def code_bytes(library: bytes) -> int:
    """Return the size of the machine code (section ``.text``) of a 64-bit ELF library, 0 for another format."""
    return next((one.size for one in sections(library) if one.name == ".text"), 0)
