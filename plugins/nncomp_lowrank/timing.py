"""How long a layer takes on the target, as it is and in a form; equal layers are timed once."""

from __future__ import annotations

from dataclasses import dataclass, field

from nncomp.ir import Op
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
    differences of microseconds, not ratios.

    Attributes:
        probe: Of the target.
        pricer: Makes graphs of one layer.
        ctx: Knows what passes follow.
    """

    probe: Probe
    pricer: Pricer
    ctx: Context
    _known: dict[object, Timing] = field(default_factory=dict)

    def time(self, layer: Layer, option: Option) -> Timing:
        """Return the timing of a form."""
        found = [self._site(layer, site, option) for _, site in layer.sites]
        return Timing(sum(one.dense_us for one in found), sum(one.form_us for one in found))

    def _site(self, layer: Layer, site: Op, option: Option) -> Timing:
        key = (self.pricer.key(layer, site), option.form.name, option.ranks)
        if key not in self._known:
            dense = self.pricer.alone(layer, site, None, ())
            form = self.pricer.alone(layer, site, option.form, option.ranks)
            found = self.probe.compare(form, dense, then=self.ctx.following, seconds=0.02)
            self._known[key] = Timing(found.baseline_us, found.baseline_us / found.ratio)
        return self._known[key]
