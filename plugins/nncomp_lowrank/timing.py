"""What a layer spends on the target, as it is and in a form, in time or in energy; equal layers are looked at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from nncomp.data import FeedSource
from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, Op, Value
from nncomp.passes import Context, Probe
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.options import Option
from nncomp_lowrank.pricing import Pricer, site_input
from nncomp_lowrank.statistics import Floats


@dataclass(frozen=True, slots=True)
class Spent:
    """What a layer, all its sites together, spends, and one form of it beside it.

    Attributes:
        dense, form: In the meter's unit.
        better: The form is worth it.
    """

    dense: float
    form: float
    better: bool


@dataclass
class Meter(ABC):
    """Looks at layers alone, after the passes that are still to come.

    What both sides pay around a layer (a call, a change of layout) cancels in their difference; so savings are
    differences, not ratios. On a busy machine microseconds of different moments do not compare, while ratios of
    neighbouring runs do: the cost of a layer is the least of all that were seen, and its forms' follow.

    Class attributes:
        budget: Option that is spent by it.
        unit: Of costs.
        worse: What is told of a form that does not pay.
        margin: A form must be that many times as good as the layer.

    Attributes:
        probe: Of the target.
        pricer: Makes graphs of one layer.
        ctx: Knows what passes follow, and the data.
    """

    budget: ClassVar[str]
    unit: ClassVar[str]
    worse: ClassVar[str]
    margin: ClassVar[float]

    probe: Probe
    pricer: Pricer
    ctx: Context
    _dense: dict[object, float] = field(default_factory=dict)
    _ratios: dict[object, float] = field(default_factory=dict)

    @abstractmethod
    def compared(self, form: Graph, dense: Graph, site: Value) -> tuple[float, float]:
        """Return the cost of ``dense``, and how many times that of ``form`` it is; both read what ``site`` is."""

    def place(self, layer: Layer, site: Op) -> object:
        """Return what makes two sites cost the same."""
        return self.pricer.key(layer, site)

    @abstractmethod
    def network(self, graph: Graph) -> float:
        """Return the cost of a whole model after the passes still to come."""

    def measure(self, layer: Layer, option: Option) -> None:
        """Look at a form once."""
        for _, site in layer.sites:
            place = self.place(layer, site)
            key = (place, option.form.name, option.ranks)
            if key not in self._ratios:
                dense = self.pricer.alone(layer, site, None, ())
                form = self.pricer.alone(layer, site, option.form, option.ranks)
                cost, self._ratios[key] = self.compared(form, dense, site_input(layer, site))
                self._dense[place] = min(cost, self._dense.get(place, float("inf")))

    def spent(self, layer: Layer, option: Option) -> Spent:
        """Return the cost of a form; of those that are compared, all should have been measured before."""
        self.measure(layer, option)
        places = [self.place(layer, site) for _, site in layer.sites]
        dense = [self._dense[place] for place in places]
        ratios = [self._ratios[place, option.form.name, option.ranks] for place in places]
        before, after = sum(dense), sum(cost / ratio for cost, ratio in zip(dense, ratios, strict=True))
        return Spent(before, after, better=before > self.margin * after)

    def no_better(self, spent: Spent, option: Option) -> str:
        """Return why a form is not taken."""
        ranks = "x".join(map(str, option.ranks))
        return (
            f"{self.worse}: {spent.dense:.0f} {self.unit} as it is, {spent.form:.0f} {self.unit} as "
            f"{option.form.name} of rank {ranks}"
        )


class Stopwatch(Meter):
    """Time, measured; less than 3 % is within the noise."""

    budget: ClassVar[str] = "latency"
    unit: ClassVar[str] = "us"
    worse: ClassVar[str] = "measured no faster"
    margin: ClassVar[float] = 1.03

    def compared(self, form: Graph, dense: Graph, site: Value) -> tuple[float, float]:
        """Return microseconds of ``dense``, and the ratio of both, measured in turn."""
        del site
        found = self.probe.compare(form, dense, then=self.ctx.following, seconds=0.02)
        return found.baseline_us, found.ratio

    def network(self, graph: Graph) -> float:
        """Return microseconds."""
        found = [
            self.probe.compare(graph, graph, then=self.ctx.following, data=self.ctx.data, seconds=0.02)
            for _ in range(2)
        ]
        return min(min(one.latency_us, one.baseline_us) for one in found)


@dataclass
class EnergyMeter(Meter):
    """Energy, as a target that computes prices knows it.

    Attributes:
        inputs: What layers read in one sample: zeros among it may save energy, and each layer has its own.
    """

    budget: ClassVar[str] = "energy"
    unit: ClassVar[str] = "nJ"
    worse: ClassVar[str] = "priced no cheaper"
    margin: ClassVar[float] = 1.0

    inputs: Mapping[Value, Floats] = field(default_factory=dict)

    def place(self, layer: Layer, site: Op) -> object:
        """Return what makes two sites cost the same: they read the same."""
        return self.pricer.key(layer, site), site_input(layer, site)

    def compared(self, form: Graph, dense: Graph, site: Value) -> tuple[float, float]:
        """Return nanojoules of ``dense``, and the ratio of both."""
        seen = self.inputs.get(site)
        data = None if seen is None else FeedSource([{dense.inputs[0].name: seen}], dense)
        before, after = (
            sum(cost.energy_pj for cost in (self.probe.costs(one, then=self.ctx.following, data=data) or {}).values())
            for one in (dense, form)
        )
        return before / 1e3, before / after if before and after else 1.0

    def network(self, graph: Graph) -> float:
        """Return nanojoules.

        Raises:
            UnsupportedError: the target knows no energies (NNC-T002).
        """
        found = self.probe.costs(graph, then=self.ctx.following, data=self.ctx.data)
        if found is None:
            raise no_energies()
        return sum(cost.energy_pj for cost in found.values()) / 1e3


def no_energies() -> UnsupportedError:
    """Return the refusal of a budget of energy on a target that has to be measured."""
    hint = "compile for a cost model: -t sparse"
    return UnsupportedError("decompose.energy: the target knows no energies", code="NNC-T002", hint=hint)
