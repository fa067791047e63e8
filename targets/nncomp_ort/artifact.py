"""What the target builds: a model file that ONNX Runtime loads, and what is known of how it runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nncomp.bench import compare_latency
from nncomp.ir import Graph
from nncomp.onnx_io import save
from nncomp.runtime import Feeds, Session
from nncomp.targets import Artifact, Kernel, Measurement
from nncomp_ort.executed import Executed
from nncomp_ort.profiling import profiled


@dataclass
class OrtArtifact(Artifact):
    """A model for ONNX Runtime's CPU provider.

    Attributes:
        graph: what is written.
        executed: what ONNX Runtime makes of it.
        threads: for :meth:`run` and :meth:`measure`.
    """

    graph: Graph
    executed: Executed
    threads: int = 1

    def save(self, folder: Path, *, name: str = "model") -> tuple[Path, ...]:
        """Write ``<name>.onnx``, and ``<name>.onnx.data`` if it is large."""
        return save(self.graph, folder / f"{name}.onnx")

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Run once, with all of ONNX Runtime's optimizations."""
        return self._session.run(feeds)

    def measure(self, feeds: Feeds, baseline: Graph, *, seconds: float = 2.0) -> Measurement:
        """Run this and ``baseline`` in turn, each with all of ONNX Runtime's optimizations."""
        ours = self._session
        theirs = Session(baseline, optimize=True, threads=self.threads)
        return compare_latency(
            lambda: ours.run(feeds), lambda: theirs.run(feeds), seconds=seconds, threads=self.threads
        )

    def report(self) -> dict[str, Any]:
        """Return kernels, INT8 coverage and float islands."""
        return self.executed.as_dict()

    def kernels(self, feeds: Feeds, *, graph: Graph | None = None, seconds: float = 0.25) -> tuple[Kernel, ...]:
        """Return what ONNX Runtime's own profiler sees of a graph that it may rewrite as it likes."""
        return profiled(self.graph if graph is None else graph, feeds, seconds=seconds, threads=self.threads)

    @cached_property
    def _session(self) -> Session:
        return Session(self.graph, optimize=True, threads=self.threads)
