"""Money: what the model may cost, in multiply-accumulates, in parameters, or in time on the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from nncomp.axes import AxisAnalysis
from nncomp.errors import UnsupportedError
from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp_prune.allocation import Counts, Curve, allocate, given_back
from nncomp_prune.branches import silence
from nncomp_prune.cutting import cut, gone_with_others
from nncomp_prune.pricing import CostModel, energy_model, macs_model, params_model
from nncomp_prune.schedule import Schedule
from nncomp_prune.tracks import Track

_TRIALS: Final = 6
CLOSE: Final = 0.01
"""How near a budget must be met, as a share of the model."""

_SECONDS: Final = 1.0


class Budget(StrEnum):
    """What is counted."""

    MACS = "macs"
    PARAMS = "params"


@dataclass(frozen=True, slots=True)
class Bought:
    """An allocation and its price.

    Attributes:
        gone: Atoms that leave, a dimension.
        share: What the model costs then, relative to what it costs as it is.
    """

    gone: Counts
    share: float


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
        self._sizes = np.array([len(one.track) for one in planned])
        self._inside = {
            number: inside
            for number, one in enumerate(planned)
            if len(one.order) == len(one.track) and (inside := self._gone_with(one.track))
        }

    def model(self, budget: Budget) -> CostModel:
        """Return exact counts."""
        dimensions = [one.track.dimension for one in self._planned]
        return (macs_model if budget is Budget.MACS else params_model)(self._analysis, dimensions)

    def _gone_with(self, track: Track) -> list[int]:
        """Return the numbers of the other tracks that leave when all of this one does."""
        trial = self._graph.clone()
        silence(trial, [track], self._ctx.ops)
        gone = gone_with_others(trial, [one.track for one in self._planned])
        return [number for number, one in enumerate(self._planned) if one.track in gone and one.track is not track]

    def _cost(self, model: CostModel) -> Callable[[Counts], float]:
        """Return what the model costs, what stands in front of branches that leave taken off."""

        def cost(gone: Counts) -> float:
            counted = gone.copy()
            for number, inside in self._inside.items():
                if gone[number] == self._sizes[number]:
                    counted[inside] = self._sizes[inside]
            return model.total(counted)

        return cost

    def by_count(
        self, curves: Sequence[Curve], share: float, budget: Budget, *, finer: Sequence[Sequence[Curve]] = ()
    ) -> Bought:
        """Return the allocation that keeps ``share`` of what is counted.

        Where that saves too much, since steps are coarse, as few as are needed are taken back by ``finer`` curves.
        """
        cost = self._cost(self.model(budget))
        everything = cost(np.zeros(len(curves), np.int64))
        gone = allocate(curves, cost, share * everything)
        for more in finer:
            if cost(gone) >= (share - CLOSE) * everything:
                break
            gone = given_back(more, cost, gone, share * everything)
        return Bought(gone, cost(gone) / max(everything, 1e-300))

    def by_latency(self, curves: Sequence[Curve], share: float) -> Bought:
        """Return the allocation whose latency is next to ``share`` of the model's, by bisection over its operations.

        Weights do not matter for time, so trial models are cut without compensation.

        Raises:
            UnsupportedError: nothing can be timed (NNC-T002).
        """
        return self._by_trial(curves, share, self.model(Budget.MACS), self._time)

    def by_energy(self, curves: Sequence[Curve], share: float) -> Bought:
        """Return the allocation whose energy is next to ``share`` of the model's; layers count by their energy.

        Raises:
            UnsupportedError: the target knows no energies (NNC-T002).
        """
        whole = self._energies(self._graph)
        dimensions = [one.track.dimension for one in self._planned]
        model = energy_model(self._analysis, dimensions, whole)

        def energy(gone: Counts) -> float:
            return sum(self._energies(self._trial(gone)).values()) / max(sum(whole.values()), 1e-300)

        return self._by_trial(curves, share, model, energy)

    def _by_trial(
        self, curves: Sequence[Curve], share: float, model: CostModel, measured: Callable[[Counts], float]
    ) -> Bought:
        cost = self._cost(model)
        everything = cost(np.zeros(len(curves), np.int64))
        low, high, best = 0.0, 1.0, None
        for _ in range(_TRIALS):
            middle = share if best is None else (low + high) / 2.0
            gone = allocate(curves, cost, middle * everything)
            one = Bought(gone, measured(gone))
            if best is None or abs(one.share - share) < abs(best.share - share):
                best = one
            if abs(one.share - share) <= CLOSE:
                break
            low, high = (low, middle) if one.share > share else (middle, high)
        assert best is not None
        return best

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
        parts = zip(self._planned, gone, strict=True)
        return cut(self._analysis, self._graph, {one.track: one.order[:number] for one, number in parts}, self._ctx.ops)
