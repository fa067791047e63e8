"""Workbench: the graph in front of a pass that can be tuned, and what comes of it with other settings.

The passes in front run once; what calibration saw is kept for all that is tried. Passes run where the compilation's do:
in processes of their own, if it asks for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nncomp.cache import Cache, MemoryCache, TemporaryCache
from nncomp.compiler.planning import Prepared
from nncomp.errors import UnsupportedError
from nncomp.gate import Gate
from nncomp.ir import Graph
from nncomp.passes import Context, Pass
from nncomp.pipeline import PassRecord, Pipeline
from nncomp.tuning import TunablePass


@dataclass
class Workbench:
    """One pass of a compilation, ready to be tried.

    Attributes:
        prepared: The compilation.
        number: Position of the pass in the recipe.
        base: The graph in front of it; never changed.
        results: What the passes in front left for those behind.
        cache: What was observed.
    """

    prepared: Prepared
    number: int
    base: Graph
    results: Mapping[str, Any]
    cache: Cache

    @classmethod
    def at(cls, prepared: Prepared, number: int, cache: Cache | None) -> Workbench:
        """Run the passes in front of pass ``number``; without a cache, what is observed is kept as long as this is."""
        cache = cache or (TemporaryCache() if prepared.request.isolate else MemoryCache())
        graph, ctx = prepared.original.clone(), prepared.context(cache)
        Pipeline(prepared.passes[:number], apart=prepared.request.isolate).run(graph, ctx)
        return cls(prepared, number, graph, ctx.results, cache)

    @property
    def step(self) -> TunablePass:
        """The pass as the recipe has it."""
        step = self.prepared.passes[self.number]
        assert isinstance(step, TunablePass)
        return step

    def context(self) -> Context:
        """Return a context as the pass finds it."""
        ctx = self.prepared.context(self.cache)
        ctx.results.update(self.results)
        return ctx

    def made(self, step: Pass, gate: Gate | None = None) -> tuple[Graph, list[PassRecord], Context]:
        """Return what ``step`` and the passes behind it make of the base."""
        graph, ctx = self.base.clone(), self.context()
        registry = self.prepared.registry
        steps = [step, *self.prepared.passes[self.number + 1 :]]
        owners = {one.name: registry.owner("pass", one.name) for one in steps}
        pipeline = Pipeline(steps, gate=gate, owners=owners, apart=self.prepared.request.isolate)
        return graph, pipeline.run(graph, ctx), ctx


def tunable(prepared: Prepared, name: str = "") -> int:
    """Return the position of the pass called ``name``, or of the last one, that can be tuned.

    Raises:
        UnsupportedError: there is none (NNC-T003).
    """
    found = [
        number
        for number, step in enumerate(prepared.passes)
        if isinstance(step, TunablePass) and name in ("", step.name)
    ]
    if not found:
        which = f"no pass {name!r} that can be" if name else "no pass that can be"
        raise UnsupportedError(
            f"the recipe has {which} tuned layer by layer", code="NNC-T003", hint="such as quantize: give it with -p"
        )
    return found[-1]
