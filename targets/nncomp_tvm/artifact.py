"""What the targets build: a shared library, its parameters, and a manifest that says how to call it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from nncomp.bench import compare_latency
from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.onnx_io import write_atomically
from nncomp.runtime import Feeds, RuntimeFailure, Session
from nncomp.targets import Artifact, Kernel, Measurement
from nncomp_tvm.code import Code
from nncomp_tvm.manifest import Manifest, told
from nncomp_tvm.open_sizes import require_fit
from nncomp_tvm.timing import CallTime, call_times, code_bytes


@dataclass(frozen=True)
class CompiledKernel:
    """A function of the library.

    Attributes:
        name: of the function.
        ops: what it computes, as Relax calls it.
        integer: it multiplies integers.
        macs: multiplications and accumulations of one call, 0 where nobody counted.
        tuned: how it is cut was measured.
        resources: what it needs of a GPU: ``registers`` and ``stack_bytes`` of a thread, ``shared_bytes`` of a block.
    """

    name: str
    ops: tuple[str, ...]
    integer: bool
    macs: int = 0
    tuned: bool = False
    resources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A call of a function of the library, and the names of the graph's values that it computes."""

    kernel: str
    values: tuple[str, ...]


@dataclass
class TvmArtifact(Artifact):
    """A compiled model.

    Attributes:
        code: that of its functions.
        manifest: what goes in and comes out.
        threads: for :meth:`measure`.
        compiled: what is known of the functions inside; others are TVM's own.
        files: further files, by what their names end in.
        parameters: TVM's tensors that ``main`` takes behind the inputs.
        calls: of functions in one run, in order.
        foreign: why this machine cannot run it, "" when it can.
        emulated: samples on which its kernels, run by the CPU in the place of a GPU, gave what ONNX Runtime gives.
    """

    code: Code
    manifest: Manifest
    threads: int = 1
    compiled: tuple[CompiledKernel, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    foreign: str = ""
    emulated: int = 0
    parameters: tuple[Any, ...] = ()
    calls: tuple[Call, ...] = ()
    _times: list[CallTime] = field(default_factory=list, init=False, repr=False)

    def save(self, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        """Write ``<name>.so``, ``<name>.json`` and ``<name>.params``; for a GPU ``<name>.ptx`` and ``<name>.cubin``.

        Raises:
            UnsupportedError: there is no C++ compiler to link with (NNC-T001).
            ResourceError: the disk refused a write (NNC-E001).
        """
        library, manifest = folder / f"{name}.so", folder / f"{name}.json"
        stored = self._stored
        write_atomically(library, [self.code.library])
        code = told(library.name, self.code.library)
        tensors = told(f"{name}.params", stored) if self.parameters else None
        write_atomically(manifest, [self.manifest.to_json(code, tensors, count=len(self.parameters)).encode()])
        others: list[Path] = []
        for ending, data in {**({"params": stored} if self.parameters else {}), **self.files}.items():
            others.append(folder / f"{name}.{ending}")
            write_atomically(others[-1], [data])
        return library, manifest, *others

    def unrunnable(self) -> str:
        """Return why this machine cannot run it, such as for want of a GPU; "" when it can."""
        if not self.emulated:
            return self.foreign
        samples = f"{self.emulated} sample{'s' * (self.emulated > 1)}"
        return f"{self.foreign}; emulated on the CPU, it agrees with ONNX Runtime on {samples}"

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Run once; outputs by name.

        Raises:
            UnsupportedError: this machine cannot run it (NNC-T002).
            RuntimeFailure: inputs do not fit, or a kernel failed.
        """
        return self.loaded.run(feeds)

    def measure(self, feeds: Feeds, baseline: Graph, *, seconds: float = 2.0) -> Measurement:
        """Run this, and ``baseline`` on ONNX Runtime with all its optimizations, in turn."""
        theirs = Session(baseline, optimize=True, threads=self.threads)
        ours = self.loaded.bound(feeds)
        found = compare_latency(ours, lambda: theirs.run(feeds), seconds=seconds, threads=self.threads)
        self._times = self.loaded.timed(feeds)
        return found

    def report(self) -> dict[str, Any]:
        """Return the device and target, sizes in bytes, and the kernels with the time of each call.

        Times are of one run on the inputs that were measured, in microseconds, each kernel's calls together; they are
        there when :meth:`measure` was called before.
        """
        times: dict[str, list[float]] = defaultdict(list)
        for call in self._times:
            times[call.kernel].append(call.us)
        values: dict[str, dict[str, None]] = defaultdict(dict)
        for one in self.calls:
            values[one.kernel].update(dict.fromkeys(one.values))
        called = Counter(one.kernel for one in self.calls)
        names = dict.fromkeys([*sorted(times, key=lambda name: -sum(times[name])), *self._known])
        return {
            "device": self.manifest.device,
            "target": self.manifest.target,
            **({"emulated_samples": self.emulated} if self.emulated else {}),
            "library_bytes": len(self.code.library),
            "code_bytes": code_bytes(self.code.library),
            "parameter_bytes": len(self._stored),
            "kernels": [
                {
                    **asdict(self._known.get(name, CompiledKernel(name, (), integer=False))),
                    "computes": list(values[name]),
                    "calls": len(times[name]) or called[name],
                    "us": round(sum(times[name]), 1) if times[name] else None,
                }
                for name in names
            ],
        }

    def kernels(self, feeds: Feeds, *, graph: Graph | None = None, seconds: float = 0.25) -> tuple[Kernel, ...]:
        """Return the calls of functions in one run, in their order, each with what it computes and its time.

        Where this machine cannot run it they have no time. ``graph`` would run on ONNX Runtime, whose kernels are not
        this target's to name: there are none for it.
        """
        if graph is not None:
            return ()
        if self.unrunnable():
            return tuple(self._kernel(one.kernel, one.values, None) for one in self.calls)
        waiting: dict[str, list[Call]] = defaultdict(list)
        for one in self.calls:
            waiting[one.kernel].append(one)
        return tuple(
            self._kernel(
                call.kernel,
                waiting[call.kernel].pop(0).values if waiting[call.kernel] else (),
                call.us if seconds else None,
            )
            for call in self.loaded.timed(feeds, seconds=seconds)
        )

    def _kernel(self, name: str, values: tuple[str, ...], us: float | None) -> Kernel:
        own = self._known.get(name)
        kind = "+".join(own.ops) if own is not None and own.ops else name
        integer = own.integer if own is not None else False if self.compiled else None
        moves = _moves(own.ops) if own is not None and own.ops else bool(_MOVING.fullmatch(name))
        return Kernel(kind, values, None if moves else integer, us)

    @cached_property
    def _known(self) -> dict[str, CompiledKernel]:
        return {kernel.name: kernel for kernel in self.compiled}

    @cached_property
    def _stored(self) -> bytes:
        from nncomp_tvm.library import stored_tensors

        return stored_tensors(self.parameters)

    @cached_property
    def loaded(self) -> Loaded:
        """What runs it, loaded when it is first asked for.

        Raises:
            UnsupportedError: this machine cannot run it (NNC-T002).
        """
        if self.foreign:
            raise UnsupportedError(f"the library cannot be run here: {self.foreign}")
        if self.manifest.device == "cpu" and self.threads > 1:
            from nncomp_tvm.library import use_threads

            use_threads(self.threads)
        return Loaded(self.code.module(), self.manifest, self.parameters)


_MOVES: Final = (
    "transpose", "reshape", "squeeze", "expand_dims", "flatten", "concatenate", "strided_slice", "take", "cast", "pad",
    "broadcast_to", "split", "tile", "repeat", "full", "layout_transform", "gather_elements", "gather_nd", "arange",
)  # fmt: skip
"""TVM's operators that compute no numbers, as functions of the library are named after them."""

_MOVING: Final = re.compile(rf"(?:fused_)?(?:(?:{'|'.join(_MOVES)})\d*_?)+\d*")


def _moves(ops: Sequence[str]) -> bool:
    """Whether a kernel of ours only moves or converts numbers."""
    return set(ops) <= {"quantize", "dequantize", "astype", "reshape"}


class Loaded:
    """An executable that can be called with feeds.

    Args:
        module: TVM's executable, or a module loaded from a library.
        manifest: what goes in and comes out.
        parameters: what ``main`` takes behind the inputs.
    """

    def __init__(self, module: Any, manifest: Manifest, parameters: Sequence[Any] = ()) -> None:
        from nncomp_tvm.library import relax, tvm

        self._manifest = manifest
        self._device = tvm.device(manifest.device, 0)
        self._machine = relax.VirtualMachine(module, self._device)
        self._main = self._machine["main"]
        on_host = manifest.device == "cpu"
        self._parameters = [one if on_host else one.copyto(self._device) for one in parameters]

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Run once; outputs by name.

        Raises:
            RuntimeFailure: inputs do not fit, or a kernel failed.
        """
        result = self.bound(feeds)()
        outputs = [result] if len(self._manifest.outputs) == 1 else list(result)
        return {port.name: _plain(value) for port, value in zip(self._manifest.outputs, outputs, strict=True)}

    def timed(self, feeds: Feeds, *, seconds: float = 0.25) -> list[CallTime]:
        """Return the time of each call of a kernel in one run, in their order."""
        return call_times(self._machine, self.bound(feeds), seconds=seconds)

    def bound(self, feeds: Feeds) -> Any:
        """Return a callable that runs on ``feeds``, which are brought to the device once, and gives TVM's results."""
        from nncomp_tvm.library import tensor

        require_fit(self._manifest, feeds)
        arguments = []
        for port in self._manifest.inputs:
            if port.name not in feeds:
                raise RuntimeFailure(f"input {port.name!r} is missing")
            array = np.asarray(feeds[port.name])
            if str(array.dtype) != port.dtype:
                raise RuntimeFailure(f"input {port.name!r} is {array.dtype}, expected {port.dtype}")
            pinned = self._manifest.pinned.get(port.name)
            if pinned is not None and not np.array_equal(array, pinned):
                raise RuntimeFailure(
                    f"input {port.name!r} is {_short(array)}: the library was built for {_short(pinned)}"
                )
            arguments.append(tensor(array, self._device))
        arguments += self._parameters
        main = self._main

        def call() -> Any:
            try:
                return main(*arguments)
            except Exception as error:  # TVM's errors share no base class
                raise RuntimeFailure(last_line(error)) from error

        return call


def _plain(value: Any) -> Any:
    """Return a result as numpy's: arrays, lists of them for sequences."""
    if hasattr(value, "numpy"):
        return value.numpy()
    if hasattr(value, "__len__"):
        return [_plain(item) for item in value]
    return np.asarray(value)


def last_line(error: Exception) -> str:
    """Return the last line of what TVM says, which is the reason; above it stands its call stack."""
    lines = [found for line in str(error).splitlines() if (found := line.strip(" \t\0"))]  # C texts end in NUL
    return lines[-1][:300] if lines else type(error).__name__


def _short(array: Any) -> str:
    return str(np.asarray(array).ravel().tolist())
