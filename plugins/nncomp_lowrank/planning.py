"""Which layer takes which form: options priced and judged, a budget met, and slow choices taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nncomp.errors import UnsupportedError
from nncomp_lowrank.allocate import Offer, allocate
from nncomp_lowrank.layers import Layer
from nncomp_lowrank.options import Option
from nncomp_lowrank.pricing import Pricer
from nncomp_lowrank.timing import Stopwatch, Timing

TIMED: Final = 8
"""Options of a layer that are timed for a budget of latency, at most: those on the way of its error against MACs."""


@dataclass
class Plan:
    """What was decided.

    Attributes:
        chosen: Option by layer.
        timings: Of the layers chosen, if they were timed.
        left: Why a layer stays as it is.
        reached: Share of the budget's cost that is left.
        network_us: Latency of the whole model before, if it was timed.
    """

    chosen: dict[Layer, Option] = field(default_factory=dict)
    timings: dict[Layer, Timing] = field(default_factory=dict)
    left: dict[Layer, str] = field(default_factory=dict)
    reached: float = 1.0
    network_us: float | None = None

    @property
    def promised(self) -> float | None:
        """How many times as fast the model should become by the times of its layers, None when it was not timed."""
        if self.network_us is None:
            return None
        saved = sum(one.dense_us - one.form_us for one in self.timings.values())
        return self.network_us / max(self.network_us - saved, 1e-9)


def plan_counted(
    options: Mapping[Layer, Sequence[Option]],
    minds: Mapping[Layer, float],
    pricer: Pricer,
    *,
    cost: str,
    share: float,
    fixed: float,
    stopwatch: Stopwatch | None,
) -> Plan:
    """Meet a budget of MACs or parameters; a choice that turns out not to be faster is taken back, and others made.

    Args:
        options: Of each layer.
        minds: Weight of each layer's error.
        pricer: Knows the layers' own prices.
        cost: ``macs`` or ``params``.
        share: Of the layers' costs, to keep, that of those that cannot be decomposed included.
        fixed: What these cost.
        stopwatch: None takes the counts for the time.

    Raises:
        UnsupportedError: the budget cannot be met (NNC-M052).
    """
    left: dict[Layer, str] = {layer: "no rank makes it cheaper" for layer, found in options.items() if not found}
    open_to = {layer: list(found) for layer, found in options.items()}
    dense = {layer: float(getattr(pricer.dense(layer), cost)) for layer in options}
    total = sum(dense.values()) + fixed
    while True:
        offers = [
            [Offer(dense[layer], 0.0)]
            + [Offer(float(getattr(one.price, cost)), minds[layer] * one.error) for one in found]
            for layer, found in open_to.items()
        ]
        taken = allocate(offers, share * total - fixed)
        chosen = {
            layer: found[index - 1] for (layer, found), index in zip(open_to.items(), taken, strict=True) if index
        }
        timings = {layer: stopwatch.time(layer, one) for layer, one in chosen.items()} if stopwatch else {}
        slow = {layer: timing for layer, timing in timings.items() if not timing.faster}
        if not slow:
            break
        for layer, timing in slow.items():
            open_to[layer].remove(chosen[layer])
            left[layer] = (
                f"measured no faster: {timing.dense_us:.0f} us as it is, {timing.form_us:.0f} us as "
                f"{chosen[layer].form.name} of rank {_ranks(chosen[layer])}"
            )
    reached = (fixed + sum(offers[k][index].cost for k, index in enumerate(taken))) / max(total, 1e-300)
    if reached > share + 1e-9:
        raise _out_of_reach(cost, share, reached, left)
    for layer in options:
        if layer not in chosen:
            left.setdefault(layer, "others save as much with less error")
    return Plan(chosen, timings, {layer: why for layer, why in left.items() if layer not in chosen}, reached)


def plan_timed(
    options: Mapping[Layer, Sequence[Option]],
    minds: Mapping[Layer, float],
    stopwatch: Stopwatch,
    *,
    share: float,
    network_us: float,
) -> Plan:
    """Meet a budget of latency with measured layers.

    Args:
        options: Of each layer.
        minds: Weight of each layer's error.
        stopwatch: Times layers.
        share: Of the network's latency, to keep.
        network_us: That latency.

    Raises:
        UnsupportedError: the budget cannot be met (NNC-M052).
    """
    left: dict[Layer, str] = {}
    timed: dict[Layer, list[tuple[Option, Timing]]] = {}
    fronts = {layer: frontier(found) for layer, found in options.items()}
    for layer, one in [(layer, one) for layer, found in fronts.items() for one in found]:
        stopwatch.measure(layer, one)
    for layer, found in fronts.items():
        pairs = [(one, stopwatch.time(layer, one)) for one in found]
        timed[layer] = [(one, timing) for one, timing in pairs if timing.faster]
        if not found:
            left[layer] = "no rank makes it cheaper"
        elif not timed[layer]:
            one, timing = min(pairs, key=lambda pair: pair[1].form_us / pair[1].dense_us)
            left[layer] = (
                f"measured no faster: {timing.dense_us:.0f} us as it is, {timing.form_us:.0f} us at best, as "
                f"{one.form.name} of rank {_ranks(one)}"
            )
    offers = [
        [Offer(0.0, 0.0), *(Offer(timing.form_us - timing.dense_us, minds[layer] * one.error) for one, timing in pairs)]
        for layer, pairs in timed.items()
    ]
    taken = allocate(offers, -(1 - share) * network_us)
    saved = sum(offers[k][index].cost for k, index in enumerate(taken))
    reached = 1 + saved / network_us
    if reached > share + 1e-9:
        raise _out_of_reach("latency", share, reached, left)
    picked = {layer: pairs[index - 1] for (layer, pairs), index in zip(timed.items(), taken, strict=True) if index}
    for layer in options:
        if layer not in picked:
            left.setdefault(layer, "others save as much with less error")
    return Plan(
        {layer: one for layer, (one, _) in picked.items()},
        {layer: timing for layer, (_, timing) in picked.items()},
        {layer: why for layer, why in left.items() if layer not in picked},
        reached,
        network_us,
    )


def frontier(options: Sequence[Option]) -> list[Option]:
    """Return the options of each form that no other one of it beats in MACs and error, thinned to :data:`TIMED`."""
    found: list[Option] = []
    for name in dict.fromkeys(one.form.name for one in options):
        best = float("inf")
        for one in sorted(
            (one for one in options if one.form.name == name), key=lambda one: (one.price.macs, one.error)
        ):
            if one.error < best:
                found.append(one)
                best = one.error
    step = -(-len(found) // TIMED) if found else 1
    return found[::step]


def _ranks(option: Option) -> str:
    return "x".join(map(str, option.ranks))


def _out_of_reach(cost: str, share: float, reached: float, left: Mapping[Layer, str]) -> UnsupportedError:
    reasons = list(dict.fromkeys(left.values()))
    told = f" ({len(left)} layers stay; the first: {reasons[0]})" if reasons else ""
    return UnsupportedError(
        f"decompose: {cost}={share:g} is out of reach, the least is {reached:.3f}{told}",
        code="NNC-M052",
        hint="allow more forms, a smaller align, or only_faster=false",
    )
