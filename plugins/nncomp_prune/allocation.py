"""Allocation: which dimensions give up how many atoms, by error per unit of cost saved, until a budget is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Curve:
    """What it costs in accuracy to leave out the first n atoms of an order.

    Attributes:
        errors: (A + 1,), ascending from 0; infinite for more than may leave.
        levels: The numbers of atoms that may leave, ascending from 0.
    """

    errors: npt.NDArray[np.float64]
    levels: Counts


def levels(size: int, align: int, least: int = 1) -> Counts:
    """Return how many of ``size`` atoms may leave: none, or so many that a multiple of ``align`` and ``least`` stay.

    A dimension that is no multiple itself may be cut down to one.
    """
    kept = np.arange(align * max(-(-least // align), 1), size, align)
    return np.concatenate([[0], size - kept[::-1]])


def steps(align: int) -> list[int]:
    """Return the multiples to try, the coarsest first: kernels are filled in halves before they are in single atoms."""
    found = [align]
    while found[-1] > 1:
        found.append(found[-1] // 2)
    return found


def allocate(curves: Sequence[Curve], cost: Callable[[Counts], float], budget: float) -> Counts:
    """Return how many atoms leave each dimension.

    Greedy on the lower hull of each curve: the next step is always the one with the least error for each unit of cost
    that it saves, over all dimensions and all numbers of atoms, at the cost that everything else has by then. The last
    steps are chosen so that the budget is met and as little as possible is saved beyond it.

    Args:
        curves: One a dimension.
        cost: Of the model, when so many atoms are gone.
        budget: What it may cost.

    Returns:
        (D,). Where the budget cannot be met, all that may leave.
    """
    gone = np.zeros(len(curves), np.int64)
    while (now := cost(gone)) > budget:
        step = _best_step(curves, cost, gone, now)
        if step is None:
            return gone
        gone = _just_enough(curves, cost, gone, budget, step)
    return given_back(curves, cost, gone, budget)


def _best_step(
    curves: Sequence[Curve], cost: Callable[[Counts], float], gone: Counts, now: float
) -> tuple[int, int] | None:
    best, found = np.inf, None
    for dimension, curve in enumerate(curves):
        unit = gone.copy()
        unit[dimension] += 1
        saved = now - cost(unit)  # linear in the number of one dimension's atoms, wherever it sits once in a term
        further = curve.levels[curve.levels > gone[dimension]]
        if not further.size or saved <= 0:
            continue
        rises = curve.errors[further] - curve.errors[gone[dimension]]
        rates = rises / ((further - gone[dimension]) * saved)
        place = int(np.argmin(rates))
        if rates[place] < best:
            best, found = float(rates[place]), (dimension, int(further[place]))
    return found


def _just_enough(
    curves: Sequence[Curve], cost: Callable[[Counts], float], gone: Counts, budget: float, step: tuple[int, int]
) -> Counts:
    """Return ``gone`` after the smallest part of a step that meets the budget, or after all of it."""
    dimension, number = step
    between = [level for level in curves[dimension].levels if gone[dimension] < level < number]
    for level in (*between, number):
        trial = gone.copy()
        trial[dimension] = level
        if cost(trial) <= budget:
            return trial
    return trial


def given_back(curves: Sequence[Curve], cost: Callable[[Counts], float], gone: Counts, budget: float) -> Counts:
    """Take steps back that the budget does not need, those that spare most error first.

    Curves may have other levels than those that ``gone`` was allocated by.
    """
    while True:
        best, found = 0.0, None
        for dimension, curve in enumerate(curves):
            fewer = curve.levels[curve.levels < gone[dimension]]
            if not fewer.size:
                continue
            trial = gone.copy()
            trial[dimension] = fewer[-1]
            spared = curve.errors[gone[dimension]] - curve.errors[fewer[-1]]
            if cost(trial) <= budget and spared > best:
                best, found = float(spared), trial
        if found is None:
            return gone
        gone = found


def evenly(curves: Sequence[Curve], ratio: float) -> Counts:
    """Return for each dimension the number of atoms, of those that may leave, that is next to a share of all."""
    sizes = [len(curve.errors) - 1 for curve in curves]
    chosen = [curve.levels[np.argmin(np.abs(curve.levels - ratio * n))] for curve, n in zip(curves, sizes, strict=True)]
    return np.array(chosen, np.int64)
