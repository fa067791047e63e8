"""Which option each layer takes, so that the errors add up to as little as a budget on the costs allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to have a layer: what it costs, and the error that it brings."""

    cost: float
    error: float


def allocate(offers: Sequence[Sequence[Offer]], budget: float) -> list[int]:
    """Return the offer that each layer takes, by its index.

    The first offer of a layer is the layer as it is. Steps along the lower convex hull of each layer's offers are taken
    in the order of error per unit of cost saved, over all layers, until the costs meet the budget; then what the last
    step saved too much is given back where it helps most. With hulls alone this is the optimum for the cost reached
    (multiple-choice knapsack by Lagrange multipliers: Sinha, Zoltners, Oper. Res. 27, 1979).

    Args:
        offers: Of each layer, one at least.
        budget: What the costs may add up to. If they cannot, the cheapest offers are returned.
    """
    hulls = [_hull(one) for one in offers]
    taken = [hull[0] for hull in hulls]
    total = sum(offers[layer][index].cost for layer, index in enumerate(taken))
    steps = sorted(
        (_slope(offers[layer][a], offers[layer][b]), layer, place)
        for layer, hull in enumerate(hulls)
        for place, (a, b) in enumerate(pairwise(hull))
    )
    for _, layer, place in steps:
        if total <= budget:
            break
        total -= offers[layer][taken[layer]].cost - offers[layer][hulls[layer][place + 1]].cost
        taken[layer] = hulls[layer][place + 1]
    _give_back(offers, taken, budget - total)
    return taken


def _hull(offers: Sequence[Offer]) -> list[int]:
    """Return the lower convex hull, from the layer as it is to ever cheaper offers of ever larger error."""
    order = sorted(
        (index for index in range(1, len(offers)) if offers[index].cost < offers[0].cost),
        key=lambda index: (-offers[index].cost, offers[index].error),
    )
    hull = [0]
    for index in order:
        while len(hull) > 1 and (
            offers[hull[-1]].error >= offers[index].error
            or _slope(offers[hull[-2]], offers[hull[-1]]) >= _slope(offers[hull[-1]], offers[index])
        ):
            hull.pop()
        if offers[index].cost < offers[hull[-1]].cost:
            hull.append(index)
    return hull


def _slope(now: Offer, then: Offer) -> float:
    """Return the error that a step adds per unit of cost that it saves."""
    return (then.error - now.error) / max(now.cost - then.cost, 1e-300)


def _give_back(offers: Sequence[Sequence[Offer]], taken: list[int], spare: float) -> None:
    """Spend what is left of the budget: again and again the change that fits and lowers the error most."""
    while True:
        best, where = 0.0, (-1, -1)
        for layer, index in enumerate(taken):
            now = offers[layer][index]
            for other, offer in enumerate(offers[layer]):
                if offer.cost - now.cost <= spare and now.error - offer.error > best:
                    best, where = now.error - offer.error, (layer, other)
        if where[0] < 0:
            return
        layer, other = where
        spare -= offers[layer][other].cost - offers[layer][taken[layer]].cost
        taken[layer] = other
