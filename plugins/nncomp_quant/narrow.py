"""Which weights get four bits: those whose layers save most on the target for what the model's outputs lose by it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.errors import UnsupportedError
from nncomp.ir import Graph, Op
from nncomp.passes import Context, Pass
from nncomp.runtime import Feeds, Session
from nncomp.targets import OpCost
from nncomp_quant.weights import WeightQuantizer

_SAMPLES = 16
"""Calibration samples on which the model's outputs are compared."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent.

    Attributes:
        name: ``latency`` or ``energy``.
        share: Of what the model spends as it is.
    """

    name: str
    share: float

    def of(self, cost: OpCost) -> float:
        """Return the cost of an op that counts."""
        return cost.latency_us if self.name == "latency" else cost.energy_pj


@dataclass(frozen=True, slots=True)
class Spending:
    """What the model costs by op: as it is, with weights of eight bits, and with weights of four."""

    budget: Budget
    before: float
    eight: Mapping[str, float]
    four: Mapping[str, float]

    def saved(self, op: Op) -> float:
        """Return by how much less an op costs with four bits."""
        return self.eight.get(op.label, 0.0) - self.four.get(op.label, 0.0)

    @property
    def fixed(self) -> float:
        """The cost with eight bits everywhere."""
        return sum(self.eight.values())


def spending(graph: Graph, budget: Budget, ctx: Context, *, eight: Pass, four: Pass) -> Spending:
    """Return the prices of a model as it is, after the pass ``eight`` and after ``four``, all with the passes to come.

    Raises:
        UnsupportedError: the target computes no prices (NNC-T002).
    """
    found = []
    for steps in ((), (eight,), (four,)):
        costs = None
        if ctx.probe is not None:
            costs = ctx.probe.costs(graph, then=(*steps, *ctx.following), data=ctx.data)
        if costs is None:
            known = "energies" if budget.name == "energy" else "latencies without measuring"
            raise UnsupportedError(
                f"quantize.{budget.name}: the target knows no {known}",
                code="NNC-T002",
                hint="compile for a cost model: -t sparse",
            )
        found.append({label: budget.of(cost) for label, cost in costs.items()})
    return Spending(budget, sum(found[0].values()), found[1], found[2])


def choose_narrow(
    graph: Graph, candidates: Sequence[Op], prices: Spending, weights: WeightQuantizer, ctx: Context
) -> frozenset[Op]:
    """Return the ops whose weights get four bits, so that the budget holds and the outputs move least.

    Ops are taken by what they save for each unit of squared error of the model's outputs; then those that the budget
    can do without are given back, the worst first.

    Args:
        graph: The float model.
        candidates: Ops of it whose weights may be narrow.
        prices: From :func:`spending`.
        weights: Rounds to four bits.
        ctx: Gives the data.

    Raises:
        UnsupportedError: four bits everywhere are not enough (NNC-M052).
    """
    budget = prices.budget
    needed = prices.fixed - budget.share * prices.before
    saving = {op: prices.saved(op) for op in candidates}
    paying = [op for op in candidates if saving[op] > 0]
    most = sum(saving[op] for op in paying)
    if needed <= 0:
        return frozenset()
    if most < needed * (1 - 1e-9):
        raise UnsupportedError(
            f"quantize: {budget.name}={budget.share:g} is out of reach, "
            f"the least is {(prices.fixed - most) / prices.before:.3f}",
            code="NNC-M052",
            hint="prune-structured or decompose in front of it saves more",
        )
    moved = _moved(graph, paying, weights, ctx)
    taken: list[Op] = []
    spare = -needed
    for op in sorted(paying, key=lambda op: moved[op] / saving[op]):
        if spare >= 0:
            break
        taken.append(op)
        spare += saving[op]
    for op in sorted(taken, key=lambda op: -moved[op]):
        if saving[op] <= spare:
            taken.remove(op)
            spare -= saving[op]
    return frozenset(taken)


def _moved(graph: Graph, ops: Sequence[Op], weights: WeightQuantizer, ctx: Context) -> dict[Op, float]:
    """Return the relative squared error of the model's outputs when one op alone has four bits.

    Without data, that of its weight.
    """
    feeds = list(islice(iter(ctx.data), _SAMPLES)) if ctx.data is not None else []
    expected = _outputs(graph, feeds)
    found = {}
    for op in ops:
        role = ctx.ops.quant(op, graph.opsets)
        assert role.weight is not None
        weight = op.inputs[role.weight]
        array = graph.array(weight)
        assert weight is not None and array is not None
        rounded = weights.rounded(op, array, role)
        if not feeds:
            found[op] = _error([array], [rounded])
            continue
        twin, mapping = graph.clone_with_map()
        copy = mapping[op]
        assert isinstance(copy, Op)
        twin.set_input(copy, role.weight, twin.add_constant(f"{weight.name}_narrow", rounded))
        found[op] = _error(expected, _outputs(twin, feeds))
    return found


def _outputs(graph: Graph, feeds: Iterable[Feeds]) -> list[npt.NDArray[Any]]:
    session = Session(graph, optimize=True)
    found = [one for feed in feeds for one in session.run(feed).values()]
    return [one for one in found if np.issubdtype(np.asarray(one).dtype, np.floating)]


def _error(expected: Iterable[npt.NDArray[Any]], found: Iterable[npt.NDArray[Any]]) -> float:
    pairs = [(a.astype(np.float64), b) for a, b in zip(expected, found, strict=True)]
    noise = sum(float(np.square(a - b).sum()) for a, b in pairs)
    return noise / max(sum(float(np.square(a).sum()) for a, _ in pairs), 1e-300)
