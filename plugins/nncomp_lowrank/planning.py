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
from nncomp_lowrank.timing import Meter, Spent

TIMED: Final = 8
"""Options of a layer that a meter looks at, at most: those on the way of its error against MACs."""


@dataclass
class Plan:
    """What was decided.

    Attributes:
        chosen: Option by layer.
        spent: By the layers chosen, if a meter looked at them.
        left: Why a layer stays as it is.
        reached: Share of the budget's cost that is left.
        meter: Which looked.
        network: What the whole model spent before, in its unit.
    """

    chosen: dict[Layer, Option] = field(default_factory=dict)
    spent: dict[Layer, Spent] = field(default_factory=dict)
    left: dict[Layer, str] = field(default_factory=dict)
    reached: float = 1.0
    meter: Meter | None = None
    network: float | None = None

    @property
    def promised(self) -> float | None:
        """How many times as fast, or as lean, the model should become by its layers, None when no meter looked."""
        if self.network is None:
            return None
        saved = sum(one.dense - one.form for one in self.spent.values())
        return self.network / max(self.network - saved, 1e-9)


def plan_counted(
    options: Mapping[Layer, Sequence[Option]],
    minds: Mapping[Layer, float],
    pricer: Pricer,
    *,
    cost: str,
    share: float,
    fixed: float,
    stopwatch: Meter | None,
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
        spent = {layer: stopwatch.spent(layer, one) for layer, one in chosen.items()} if stopwatch else {}
        slow = {layer: one for layer, one in spent.items() if not one.better}
        if not slow:
            break
        for layer, one in slow.items():
            assert stopwatch is not None
            left[layer] = stopwatch.no_better(one, chosen[layer])
            open_to[layer].remove(chosen[layer])
    reached = (fixed + sum(offers[k][index].cost for k, index in enumerate(taken))) / max(total, 1e-300)
    if reached > share + 1e-9:
        raise _out_of_reach(cost, share, reached, left)
    for layer in options:
        if layer not in chosen:
            left.setdefault(layer, "others save as much with less error")
    return Plan(chosen, spent, {layer: why for layer, why in left.items() if layer not in chosen}, reached, stopwatch)


def plan_metered(
    options: Mapping[Layer, Sequence[Option]],
    minds: Mapping[Layer, float],
    meter: Meter,
    *,
    share: float,
    network: float,
) -> Plan:
    """Meet a budget of latency or energy with layers that a meter has looked at.

    Args:
        options: Of each layer.
        minds: Weight of each layer's error.
        meter: Knows what layers spend.
        share: Of what the network spends, to keep.
        network: That, in the meter's unit.

    Raises:
        UnsupportedError: the budget cannot be met (NNC-M052).
    """
    left: dict[Layer, str] = {}
    paying: dict[Layer, list[tuple[Option, Spent]]] = {}
    fronts = {layer: frontier(found) for layer, found in options.items()}
    for layer, one in [(layer, one) for layer, found in fronts.items() for one in found]:
        meter.measure(layer, one)
    for layer, found in fronts.items():
        pairs = [(one, meter.spent(layer, one)) for one in found]
        paying[layer] = [(one, spent) for one, spent in pairs if spent.better]
        if not found:
            left[layer] = "no rank makes it cheaper"
        elif not paying[layer]:
            one, spent = min(pairs, key=lambda pair: pair[1].form / (pair[1].dense or 1.0))
            left[layer] = meter.no_better(spent, one)
    offers = [
        [Offer(0.0, 0.0), *(Offer(spent.form - spent.dense, minds[layer] * one.error) for one, spent in pairs)]
        for layer, pairs in paying.items()
    ]
    taken = allocate(offers, -(1 - share) * network)
    saved = sum(offers[k][index].cost for k, index in enumerate(taken))
    reached = 1 + saved / network if network else 1.0
    if reached > share + 1e-9:
        raise _out_of_reach(meter.budget, share, reached, left)
    picked = {layer: pairs[index - 1] for (layer, pairs), index in zip(paying.items(), taken, strict=True) if index}
    for layer in options:
        if layer not in picked:
            left.setdefault(layer, "others save as much with less error")
    return Plan(
        {layer: one for layer, (one, _) in picked.items()},
        {layer: spent for layer, (_, spent) in picked.items()},
        {layer: why for layer, why in left.items() if layer not in picked},
        reached,
        meter,
        network,
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


def _out_of_reach(cost: str, share: float, reached: float, left: Mapping[Layer, str]) -> UnsupportedError:
    reasons = list(dict.fromkeys(left.values()))
    told = f" ({len(left)} layers stay; the first: {reasons[0]})" if reasons else ""
    return UnsupportedError(
        f"decompose: {cost}={share:g} is out of reach, the least is {reached:.3f}{told}",
        code="NNC-M052",
        hint="allow more forms, a smaller align, or only_faster=false",
    )
