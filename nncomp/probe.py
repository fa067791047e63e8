"""TargetProbe: how fast a piece of a model is on a target, against another that computes the same.

What is timed is what will run: each graph goes through the passes that are still to come, and is built for the target.
So a layer is timed in INT8 where quantization follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nncomp.data import FeedSource
from nncomp.errors import NncompError
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.isolation import isolated
from nncomp.ops import OpTable, builtin_table
from nncomp.passes import Context, Pass
from nncomp.runtime import Feeds, random_feeds
from nncomp.targets import Artifact, Measurement, Target


@dataclass(frozen=True)
class TargetProbe:
    """A :class:`~nncomp.passes.Probe` on one target, one thread, with random inputs.

    Attributes:
        target: Where graphs run.
        ops: Op semantics.
        seed: Of inputs.
    """

    target: Target
    ops: OpTable = field(default_factory=builtin_table)
    seed: int = 0

    def compare(self, graph: Graph, baseline: Graph, *, then: Sequence[Pass] = (), seconds: float = 0.1) -> Measurement:
        """Compare the latencies of two graphs with the same inputs, each after the passes ``then``.

        A pass that declines a graph, as quantization does where there is nothing to quantize, is left out for it.

        Raises:
            UnsupportedError: the target cannot take a graph, or its inputs cannot be made up.
            RuntimeFailure: it cannot run one.
        """
        feeds = random_feeds(baseline, seed=self.seed)
        ours, theirs = (self._built(one, feeds, then) for one in (graph, baseline))
        return ours.compare_with(theirs, feeds, seconds=seconds)

    def energies(self, graph: Graph, *, then: Sequence[Pass] = ()) -> Mapping[str, float] | None:
        """Return the energy of each op after the passes ``then``, by label, pJ; None when the target knows none.

        Raises:
            UnsupportedError: the target cannot take the graph, or its inputs cannot be made up.
        """
        return self._built(graph, random_feeds(graph, seed=self.seed), then).energies()

    def _built(self, graph: Graph, feeds: Feeds, then: Sequence[Pass]) -> Artifact:
        made = graph.clone()
        infer_types(made, self.ops)
        ctx = Context(
            ops=self.ops, target=self.target.capabilities, data=FeedSource([feeds], made), seed=self.seed, threads=1
        )
        for step in then:
            trial = made.clone()
            try:
                with isolated():
                    step.run(trial, ctx)
            except NncompError:
                continue
            infer_types(trial, self.ops)
            made = trial
        return self.target.build(made, ctx)
