"""How long a layer takes on the target, as it is and in a form; equal layers are timed once."""

from __future__ import annotations

from dataclasses import dataclass, field

from nncomp.ir import Graph
from nncomp.passes import Context, Probe
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.options import Option
from nncomp_lowrank.pricing import Pricer

FASTER = 1.03
"""A form must be that many times as fast as the layer: less is within the noise."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds of a layer, all its sites together, and of one form of it, measured in turn."""

    dense_us: float
    form_us: float

    @property
    def faster(self) -> bool:
        """True when the form is worth it."""
        return self.dense_us > FASTER * self.form_us


@dataclass
class Stopwatch:
    """Times layers alone, after the passes that are still to come.

    What both sides pay around a layer (a call, a change of layout) cancels in their difference; so savings are
    differences of microseconds, not ratios. On a busy machine microseconds of different moments do not compare, while
    ratios of neighbouring runs do: the time of a layer is the least of all its measurements, and its forms' follow.

    Attributes:
        probe: Of the target.
        pricer: Makes graphs of one layer.
        ctx: Knows what passes follow.
    """

    probe: Probe
    pricer: Pricer
    ctx: Context
    _dense: dict[object, float] = field(default_factory=dict)
    _ratios: dict[object, float] = field(default_factory=dict)

    def measure(self, layer: Layer, option: Option) -> None:
        """Measure a form once."""
        for _, site in layer.sites:
            place = self.pricer.key(layer, site)
            key = (place, option.form.name, option.ranks)
            if key not in self._ratios:
                dense = self.pricer.alone(layer, site, None, ())
                form = self.pricer.alone(layer, site, option.form, option.ranks)
                found = self.probe.compare(form, dense, then=self.ctx.following, seconds=0.02)
                self._ratios[key] = found.ratio
                self._dense[place] = min(found.baseline_us, self._dense.get(place, float("inf")))

    def time(self, layer: Layer, option: Option) -> Timing:
        """Return the timing of a form; of those that are compared, all should have been measured before."""
        self.measure(layer, option)
        places = [self.pricer.key(layer, site) for _, site in layer.sites]
        dense = [self._dense[place] for place in places]
        ratios = [self._ratios[place, option.form.name, option.ranks] for place in places]
        return Timing(sum(dense), sum(us / ratio for us, ratio in zip(dense, ratios, strict=True)))

    def network(self, graph: Graph) -> float:
        """Return the latency of a whole model after the passes still to come, in microseconds."""
        found = [self.probe.compare(graph, graph, then=self.ctx.following, seconds=0.02) for _ in range(2)]
        return min(min(one.latency_us, one.baseline_us) for one in found)
