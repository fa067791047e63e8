"""Money: what the model may cost, in multiply-accumulates, in parameters, or in time on the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import numpy as np

from nncomp.axes import AxisAnalysis, analyse, remove
from nncomp.errors import UnsupportedError
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp_prune.allocation import Counts, Curve, allocate
from nncomp_prune.pricing import CostModel, energy_model, macs_model, params_model
from nncomp_prune.schedule import Schedule

_TRIALS: Final = 6
_CLOSE: Final = 0.01
_SECONDS: Final = 1.0


class Budget(StrEnum):
    """What is counted."""

    MACS = "macs"
    PARAMS = "params"


class Money:
    """Prices of pruned models.

    Args:
        graph: The model as it is.
        analysis: Its axes.
        planned: The schedules of what may be pruned.
        ctx: Gives the probe of the target.
    """

    def __init__(self, graph: Graph, analysis: AxisAnalysis, planned: Sequence[Schedule], ctx: Context) -> None:
        self._graph, self._analysis, self._planned, self._ctx = graph, analysis, planned, ctx

    def model(self, budget: Budget) -> CostModel:
        """Return exact counts."""
        dimensions = [one.track.dimension for one in self._planned]
        return (macs_model if budget is Budget.MACS else params_model)(self._analysis, dimensions)

    def by_latency(self, curves: Sequence[Curve], share: float) -> Counts:
        """Return the allocation whose latency is next to ``share`` of the model's, by bisection over its operations.

        Weights do not matter for time, so trial models are cut without compensation.

        Raises:
            UnsupportedError: nothing can be timed (NNC-T002), or even the smallest model takes longer (NNC-M052).
        """
        return self._by_trial(curves, share, self.model(Budget.MACS), self._time, words=("fastest", "time"))

    def by_energy(self, curves: Sequence[Curve], share: float) -> Counts:
        """Return the allocation whose energy is next to ``share`` of the model's; layers count by their energy.

        Raises:
            UnsupportedError: the target knows no energies (NNC-T002), or even the smallest model takes more (NNC-M052).
        """
        whole = self._energies(self._graph)
        dimensions = [one.track.dimension for one in self._planned]
        model = energy_model(self._analysis, dimensions, whole)

        def energy(gone: Counts) -> float:
            return sum(self._energies(self._trial(gone)).values()) / max(sum(whole.values()), 1e-300)

        return self._by_trial(curves, share, model, energy, words=("leanest", "energy"))

    def _by_trial(
        self,
        curves: Sequence[Curve],
        share: float,
        model: CostModel,
        measured: Callable[[Counts], float],
        *,
        words: tuple[str, str],
    ) -> Counts:
        everything = model.total(np.zeros(len(curves), np.int64))
        low, high, best = 0.0, 1.0, None
        for _ in range(_TRIALS):
            middle = share if best is None else (low + high) / 2.0
            gone = allocate(curves, model.total, middle * everything)
            time = measured(gone)
            if best is None or abs(time - share) < abs(best[0] - share):
                best = time, gone
            if abs(time - share) <= _CLOSE:
                break
            low, high = (low, middle) if time > share else (middle, high)
        assert best is not None
        if best[0] > share * 1.1:
            superlative, unit = words
            raise UnsupportedError(
                f"prune-structured: the {superlative} model found takes {best[0]:.2f} of the {unit}, "
                f"the budget is {share:g}",
                code="NNC-M052",
            )
        return best[1]

    def _time(self, gone: Counts) -> float:
        if self._ctx.probe is None:
            raise UnsupportedError("prune-structured.latency: there is no target to measure on", code="NNC-T002")
        trial = self._trial(gone)
        found = self._ctx.probe.compare(
            trial, self._graph, then=self._ctx.following, data=self._ctx.data, seconds=_SECONDS
        )
        return 1.0 / found.ratio

    def _energies(self, graph: Graph) -> Mapping[str, float]:
        probe = self._ctx.probe
        found = None if probe is None else probe.costs(graph, then=self._ctx.following, data=self._ctx.data)
        if found is None:
            raise UnsupportedError(
                "prune-structured.energy: the target knows no energies",
                code="NNC-T002",
                hint="compile for a cost model: -t sparse",
            )
        return {label: cost.energy_pj for label, cost in found.items()}

    def _trial(self, gone: Counts) -> Graph:
        """Return the model without the atoms that are gone; nothing makes up for them."""
        trial = self._graph.clone()
        infer_types(trial, self._ctx.ops)
        twin = analyse(trial, self._ctx.ops)
        parts = zip(self._planned, gone, strict=True)
        remove(twin, np.concatenate([one.track.dimension.atoms[one.order[:number]] for one, number in parts]))
        return trial
