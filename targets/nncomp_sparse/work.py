"""What zeros leave to do, and what sharing it out costs: executed products, the slowest element, queues."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp_sparse.hardware import Hardware
from nncomp_sparse.layer import Layer

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_DEVIATIONS: Final = 12


def executed_share(layer: Layer, *, weight: bool, input: bool) -> float:
    """Return the share of a layer's products whose operands are not zero.

    With counts by input channel, the mean of the products of both shares: non-zeros of weights and inputs gather in the
    same channels, so that the product of the means would be too low (by 1 to 7 % in the networks that we looked at).

    Args:
        layer: The layer.
        weight, input: Which operands' zeros count.
    """
    if not weight and not input:
        return 1.0
    if not (weight and input):
        return layer.weight.density if weight else layer.input.density
    left, right = layer.weight.channels, layer.input.channels
    if left is not None and right is not None and left.shape == right.shape:
        return float((left * right).mean())
    return layer.weight.density * layer.input.density


def finished_share(layer: Layer, machine: Hardware, bits: int) -> float:
    """Return the share of a layer's products that is left when outputs that ReLU makes zero are cut short.

    ``sign``: outputs that stay take all their products, the others the stated share. ``predictor``: all products at its
    width, which cost ``cost_bits^2 / bits``, and those of the outputs that it lets through.

    Args:
        layer: Its output's zeros must be known.
        machine: Says how.
        bits: Product of the widths of both operands.
    """
    way, positive = machine.sparsity.speculation, layer.output.density
    if way.mode == "none" or positive >= 1:
        return 1.0
    if way.mode == "sign":
        return positive + (1 - positive) * way.exit
    return min(way.cost_bits**2 / bits + positive * way.recall, 1.0)


def skipping(machine: Hardware) -> dict[str, bool]:
    """Return the operands whose zeros save time."""
    return {tensor: machine.sparsity.of(tensor).action == "skip" for tensor in ("weight", "input")}


def saving(machine: Hardware) -> dict[str, bool]:
    """Return the operands whose zeros save energy."""
    return {tensor: machine.sparsity.of(tensor).action != "none" for tensor in ("weight", "input")}


def expected_maximum(trials: float, share: float, elements: int) -> float:
    """Return the expected maximum of independent binomials: sum over x of 1 - F(x)^elements.

    Args:
        trials: Of each, rounded.
        share: Chance of each trial, 0 to 1.
        elements: How many binomials.
    """
    count = round(trials)
    if share <= 0 or count <= 0:
        return 0.0
    if share >= 1 or elements <= 1:
        return count * min(share, 1.0)
    places, chances = binomial(count, share)
    below = np.minimum(np.cumsum(chances), 1.0)
    return float(places[0]) + float((1.0 - below**elements)[:-1].sum())


def binomial(count: int, share: float) -> tuple[Floats, Floats]:
    """Return the values of a binomial that are not negligible, and their chances.

    Args:
        count: Trials.
        share: Chance of each, 0 to 1.
    """
    if share <= 0 or share >= 1 or count <= 0:
        return np.array([float(count if share >= 1 else 0)]), np.ones(1)
    mean, deviation = count * share, math.sqrt(count * share * (1 - share))
    low = max(0, math.floor(mean - _DEVIATIONS * deviation - 1))
    high = min(count, math.ceil(mean + _DEVIATIONS * deviation + 1))
    places = np.arange(low, high + 1, dtype=np.float64)
    start = math.lgamma(count + 1) - math.lgamma(low + 1) - math.lgamma(count - low + 1)
    ratios = np.log(count - places[:-1]) - np.log(places[:-1] + 1)
    logs = start + np.concatenate([[0.0], np.cumsum(ratios)])
    logs += places * math.log(share) + (count - places) * math.log1p(-share)
    return places, np.exp(logs)


@lru_cache(maxsize=256)
def normal_maximum(elements: int) -> float:
    """Return the expected maximum of so many independent standard normal numbers."""
    places = np.linspace(-8, 8, 8001)
    below = np.array([0.5 * math.erfc(-place / math.sqrt(2)) for place in places])
    tail = np.where(places >= 0, 1 - below**elements, -(below**elements))
    return float(tail.sum() * (places[1] - places[0]))


def imbalance(trials: float, share: float, elements: int) -> float:
    """Return how much longer the slowest element takes than the mean one, 1 or more."""
    mean = round(trials) * share
    return max(expected_maximum(trials, share, elements) / mean, 1.0) if mean > 0 else 1.0


def queue_cycles(work: Ints, depth: int) -> int:
    """Return the cycles of elements that work through columns broadcast one by one, each behind a queue.

    A column is sent one cycle after the last one, and not before each element has begun the column ``depth`` before it.
    An element takes one cycle an entry, at least one a column.

    Args:
        work: (columns, elements): entries.
        depth: Columns that a queue holds.
    """
    if work.size == 0:
        return 0
    columns, elements = work.shape
    depth = min(depth, columns)
    takes = np.maximum(work, 1)
    begun = np.zeros((depth, elements), np.int64)
    finished = np.zeros(elements, np.int64)
    sent = -1
    for number in range(columns):
        slot = number % depth
        sent = max(sent + 1, int(begun[slot].max()) if number >= depth else 0)
        start = np.maximum(finished, sent)
        begun[slot] = start
        finished = start + takes[number]
    return int(finished.max())
