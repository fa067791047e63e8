"""TargetProbe: what a model, or a piece of it, costs on a target, against another that computes the same or by op.

What is timed or priced is what will run: each graph goes through the passes that are still to come, and is built for
the target. So a layer is timed in INT8 where quantization follows. Prices of a cost model may depend on the zeros of
activations: of a whole model, give its calibration data; inputs of pieces are made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from nncomp.data import DataSource, FeedSource
from nncomp.errors import NncompError
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.isolation import isolated
from nncomp.ops import OpTable, builtin_table
from nncomp.passes import Context, Pass
from nncomp.runtime import Feeds, random_feeds
from nncomp.targets import Artifact, Measurement, OpCost, Target

_SAMPLES: Final = 4
"""Samples of a model's data that trials see: enough to tell how many activations are zero."""


@dataclass(frozen=True)
class TargetProbe:
    """A :class:`~nncomp.passes.Probe` on one target, one thread.

    Attributes:
        target: Where graphs run.
        ops: Op semantics.
        seed: Of inputs that are made up.
    """

    target: Target
    ops: OpTable = field(default_factory=builtin_table)
    seed: int = 0

    def compare(
        self,
        graph: Graph,
        baseline: Graph,
        *,
        then: Sequence[Pass] = (),
        data: DataSource | None = None,
        seconds: float = 0.1,
    ) -> Measurement:
        """Compare the latencies of two graphs with the same inputs, each after the passes ``then``.

        A pass that declines a graph, as quantization does where there is nothing to quantize, is left out for it.

        Args:
            graph, baseline: What is compared.
            then: Passes that are still to come.
            data: What the inputs are like; its first samples are looked at. None makes one sample up.
            seconds: How long to measure, where the target has to.

        Raises:
            UnsupportedError: the target cannot take a graph, or its inputs cannot be made up.
            RuntimeFailure: it cannot run one.
        """
        feeds = self._feeds(baseline, data)
        ours, theirs = (self._built(one, feeds, then) for one in (graph, baseline))
        return ours.compare_with(theirs, feeds[0], seconds=seconds)

    def costs(
        self, graph: Graph, *, then: Sequence[Pass] = (), data: DataSource | None = None
    ) -> Mapping[str, OpCost] | None:
        """Return what each op costs after the passes ``then``, by its label there; None on a target without prices.

        The arguments and errors are those of :meth:`compare`.
        """
        if not self.target.prices:
            return None
        return self._built(graph, self._feeds(graph, data), then).costs()

    def _feeds(self, graph: Graph, data: DataSource | None) -> list[Feeds]:
        found = list(islice(iter(data), _SAMPLES)) if data is not None else []
        return found or [random_feeds(graph, seed=self.seed)]

    def _built(self, graph: Graph, feeds: list[Feeds], then: Sequence[Pass]) -> Artifact:
        made = graph.clone()
        infer_types(made, self.ops)
        ctx = Context(
            ops=self.ops, target=self.target.capabilities, data=FeedSource(feeds, made), seed=self.seed, threads=1
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
