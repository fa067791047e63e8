"""The ``prune-structured`` pass: channels, heads and features leave, and the layers behind make up for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np

from nncomp.axes import AxisAnalysis, analyse, remove_checked
from nncomp.errors import DataError, NncompWarning, RecipeError, UnsupportedError
from nncomp.gate import Gate
from nncomp.ir import Graph, Op
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.runtime import Feeds
from nncomp.selectors import select
from nncomp_prune.allocation import Counts, Curve, evenly, levels, steps
from nncomp_prune.branches import branches, silence, take_out
from nncomp_prune.budget import Budget, Money
from nncomp_prune.compensation import Atoms, compensate, leave_out, refit_biases
from nncomp_prune.criteria import NEEDS_DATA, Criterion, scored
from nncomp_prune.cutting import gone_with_others, located, vanished
from nncomp_prune.readings import readings
from nncomp_prune.schedule import Schedule, schedules
from nncomp_prune.tracks import Track, tracks

_BUDGETS: Final = ("macs", "params", "latency", "energy", "ratio")

_BEYOND: Final = {"macs": 1.0 + 1e-9, "params": 1.0 + 1e-9, "latency": 1.1, "energy": 1.1}
"""How far beyond a budget is taken for good: what is measured is noisy."""

_ROWS: Final = 24_576
"""Rows that the last fit shall see: where samples are few, more positions of each count."""


class Compensation(StrEnum):
    """What makes up for the atoms that are gone."""

    LEAST_SQUARES = "least-squares"
    """All layers are refitted in order, to what they gave in the original model."""
    BIAS = "bias"
    """Biases take up the mean of what is missing, layer by layer in order."""
    NONE = "none"
    """Nothing."""


class PruneStructured(Pass):
    """Remove channels, heads and features, so that a smaller dense network is left; needs no labels and no training.

    What can be removed together is read from the axis algebra. Atoms are ranked by the error that the layers behind
    make without them once refitted (block optimal brain surgeon), each dimension's error is priced by what it does to
    the model's outputs, and the budget is spread by error for each unit of cost. Then all layers are refitted in order
    by least squares, each to what it gave in the original model on what the pruned one feeds it with. The surgery
    itself is exact, and is held against the masked network at every run.
    """

    name: ClassVar[str] = "prune-structured"
    effect: ClassVar[Effect] = Effect.LOSSY
    after: ClassVar[tuple[str, ...]] = ("cleanup", "lift-constants", "fold-constants")

    macs: float | None = option(None, help="share of the model's multiply-accumulates to keep", gt=0, lt=1)
    params: float | None = option(None, help="share of the weights to keep, of those that can shrink", gt=0, lt=1)
    latency: float | None = option(
        None, help="share of the latency to keep, measured on the target or priced by its cost model", gt=0, lt=1
    )
    energy: float | None = option(
        None, help="share of the energy to keep, on a target that prices it; layers count by their energy", gt=0, lt=1
    )
    ratio: float | None = option(None, help="share of the atoms of every dimension to remove", gt=0, lt=1)
    criterion: Criterion = option(Criterion.OBS, help="how atoms are ranked")
    compensate: Compensation = option(Compensation.LEAST_SQUARES, help="what makes up for the atoms that are gone")
    align: int = option(0, help="what stays is a multiple of this; 0: of what the target's kernels like", ge=0)
    least: float = option(0.1, help="share of each dimension that stays in any case", ge=0, le=1)
    branches: bool = option(True, help="whole branches of residual blocks may go")
    keep: tuple[str, ...] = option((), help="ops that keep all their output channels; by name or label, globs, re:...")
    skip: tuple[str, ...] = option((), help="ops to leave alone: neither their channels nor their weights change")
    samples: int = option(512, help="calibration samples to look at", ge=1)
    positions: int = option(
        48, help="output positions of each sample that count; more in the last fit where samples are few", ge=1
    )
    sensitivity: int = option(
        48, help="samples on which to find out how much the outputs mind each dimension's error; 0: all alike", ge=0
    )
    ridge: float = option(1e-3, help="pull towards the weights as they are, relative to the inputs' power", ge=0)

    def objection(self, target: Any) -> str:
        """Return what is wrong with the budget, if anything is."""
        del target
        given = [name for name in _BUDGETS if getattr(self, name) is not None]
        if len(given) == 1:
            return ""
        return "give one budget: macs, params, latency, energy or ratio" + (
            f", not {' and '.join(given)}" if given else ""
        )

    def run(self, graph: Graph, ctx: Context) -> None:
        """Prune ``graph``.

        Raises:
            RecipeError: no budget, or several (NNC-R012).
            DataError: the criterion or the compensation needs calibration data, and there is none (NNC-D006).
            UnsupportedError: nothing can be pruned (NNC-M052), or latency or energy are not known (NNC-T002).
            GateError: pruned and masked network differ (NNC-G001).
        """
        if objection := self.objection(ctx.target):
            raise RecipeError(f"{self.name}: {objection}", code="NNC-R012")
        if ctx.data is None and (self.criterion in NEEDS_DATA or self.compensate is not Compensation.NONE):
            raise DataError(
                f"{self.name}: ranking by {self.criterion.value} and compensation by {self.compensate.value} need "
                "calibration data",
                code="NNC-D006",
                hint='give --data, or criterion="l1" with compensate="none"',
            )
        shapes = {name: array.shape for feeds in _first(ctx)[:1] for name, array in feeds.items()}
        analysis = analyse(graph, ctx.ops, input_shapes=shapes)
        found, whole = self._tracks(graph, analysis, ctx)
        original, before = graph.clone(), (analysis.macs(), analysis.params())
        planned = self._schedules(graph, found, whole, ctx)
        chosen = self._chosen(Money(original, analysis, planned, ctx), planned, ctx)
        zeros = silence(graph, vanished(chosen), ctx.ops)
        chosen |= gone_with_others(graph, [one.track for one in planned])
        self._leave_out(original, graph, chosen, ctx)
        gate = Gate(_first(ctx) or None, seed=ctx.seed)
        take_out(graph, zeros, gate)
        after, atoms = located(analysis, graph, chosen, ctx.ops, input_shapes=shapes)
        left = after.macs(atoms), after.params(atoms)
        unseen = bool(atoms.size) and remove_checked(after, atoms, gate, seed=ctx.seed) is None
        if unseen or gate.skipped:
            reason = gate.skipped or "the network does not run on the inputs there are"
            ctx.warn(NncompWarning(f"what was taken out could not be checked: {reason}", code="NNC-W063"))
        ctx.results[self.name] = _summary(planned, chosen, before, left)

    def _tracks(self, graph: Graph, analysis: AxisAnalysis, ctx: Context) -> tuple[list[Track], set[Track]]:
        """Return what may be pruned, and what of it may vanish; note why the rest may not.

        Raises:
            UnsupportedError: nothing can be (NNC-M052).
        """
        reading, elsewhere = readings(analysis, ctx.ops)
        found, left = tracks(analysis, reading, elsewhere)
        may_vanish = self.branches and self.ratio is None and self.criterion is Criterion.OBS
        whole = branches(graph, found, reading, ctx.ops) if may_vanish else set()
        kept = self._selected(graph, "keep") | self._selected(graph, "skip")
        skipped = {op.output.name for op in self._selected(graph, "skip")}
        for track in list(found):
            if any(member.value.producer in kept for member in track.dimension.members):
                left[track.name] = "a selector keeps it"
            elif skipped & set(track.layers):
                left[track.name] = "a layer that sums over it is skipped"
            elif track not in whole and levels(len(track), self._finest(track), self._least(track)).size < 2:
                left[track.name] = f"{len(track)} elements are no more than what must stay"
            else:
                continue
            found.remove(track)
        for name, reason in left.items():
            ctx.note("declined", self.name, node=name, reason=reason)
        for pinned in analysis.pinned:
            if pinned.constants:
                ctx.note("declined", self.name, node=pinned.name, reason=_why(pinned.reasons))
        if not found:
            raise _nothing(left, analysis)
        return found, whole & set(found)

    def _schedules(self, graph: Graph, found: Sequence[Track], whole: set[Track], ctx: Context) -> list[Schedule]:
        if self.criterion is not Criterion.OBS:
            return scored(graph, found, self.criterion, ctx, samples=self.samples, positions=self.positions)
        return schedules(
            graph,
            found,
            ctx,
            whole=whole,
            samples=self.samples,
            positions=self.positions,
            ridge=self.ridge,
            sensitivity=0 if self.ratio is not None else self.sensitivity,
        )

    def _chosen(self, money: Money, planned: Sequence[Schedule], ctx: Context) -> dict[Track, Atoms]:
        """Return which atoms of each track leave, none for tracks that stay whole.

        Raises:
            UnsupportedError: the budget asks for nothing that could be removed, or for too much (NNC-M052).
        """
        if self.ratio is not None:
            gone = evenly([self._curve(one, self._fitting(one.track, ctx)) for one in planned], self.ratio)
        else:
            gone = self._within(money, planned, ctx)
        if not gone.any():
            raise UnsupportedError(f"{self.name}: the budget leaves everything as it is", code="NNC-M052")
        return {one.track: one.order[:number] for one, number in zip(planned, gone, strict=True) if number}

    def _within(self, money: Money, planned: Sequence[Schedule], ctx: Context) -> Counts:
        """Return how many atoms leave: in whole kernels if that meets the budget, else in halves of them, and so on."""
        name, share = next((name, share) for name in _BUDGETS if (share := getattr(self, name)) is not None)
        tried = [self.align] if self.align else steps(_liked(ctx))
        curves = [[self._curve(one, step) for one in planned] for step in tried]
        for number, some in enumerate(curves):
            if name == "latency":
                bought = money.by_latency(some, share)
            elif name == "energy":
                bought = money.by_energy(some, share)
            else:
                bought = money.by_count(some, share, Budget(name), finer=curves[number + 1 :])
            if bought.share <= share * _BEYOND[name]:
                return bought.gone
        raise UnsupportedError(
            f"{self.name}: the smallest model found has {bought.share:.2f} of the {name}, the budget is {share:g}",
            code="NNC-M052",
        )

    def _curve(self, one: Schedule, step: int) -> Curve:
        """Return what may leave of a track so that multiples of ``step`` channels stay."""
        found = levels(len(one.track), _in_atoms(one.track, step), self._least(one.track))
        return Curve(one.errors, np.append(found, len(one.track)) if len(one.order) == len(one.track) else found)

    def _leave_out(self, original: Graph, graph: Graph, chosen: dict[Track, Atoms], ctx: Context) -> None:
        kept = {track: atoms for track, atoms in chosen.items() if track not in vanished(chosen)}
        if self.compensate is Compensation.NONE:
            leave_out(graph, kept, ctx)
            return
        skipped = {op.output.name for op in self._selected(graph, "skip")}
        layers = [
            op.output.name
            for op in graph.ops()
            if ctx.ops.matrix(op, graph) is not None and op.output.name not in skipped
        ]
        if self.compensate is Compensation.BIAS:
            leave_out(graph, kept, ctx)
            refit_biases(original, graph, layers, ctx, samples=self.samples, positions=self.positions)
            return
        compensate(
            original,
            graph,
            layers,
            chosen,
            ctx,
            samples=self.samples,
            positions=self._positions(ctx),
            ridge=self.ridge,
            choose_again=self.criterion is Criterion.OBS,
        )

    def _positions(self, ctx: Context) -> int:
        """Return the positions of each sample that the last fit looks at."""
        assert ctx.data is not None
        sizes = {array.shape[0] for feeds in _first(ctx)[:1] for array in feeds.values() if array.ndim}
        batch = sizes.pop() if len(sizes) == 1 else 1
        known = self.samples if ctx.data.size is None else min(self.samples, ctx.data.size)
        return max(self.positions, -(-_ROWS // max(known * batch, 1)))

    def _selected(self, graph: Graph, which: str) -> set[Op]:
        patterns = getattr(self, which)
        return select(graph, patterns, option=f"{self.name}.{which}") if patterns else set()

    def _finest(self, track: Track) -> int:
        return _in_atoms(track, self.align or 1)

    def _fitting(self, track: Track, ctx: Context) -> int:
        """Return the multiple of which two fit into a track."""
        tried = steps(self.align or _liked(ctx))
        return next((step for step in tried if 2 * _in_atoms(track, step) <= len(track)), 1)

    def _least(self, track: Track) -> int:
        return max(1, int(np.ceil(self.least * len(track))))


def _liked(ctx: Context) -> int:
    return ctx.target.channel_alignment if ctx.target is not None else 1


def _in_atoms(track: Track, channels: int) -> int:
    """Return how many atoms make a multiple of ``channels``; an atom may have many channels, as a head has."""
    return channels // math.gcd(channels, track.dimension.first.positions.shape[1])


def _first(ctx: Context) -> list[Feeds]:
    """Return the first two feeds of the calibration data, if there is any."""
    return [] if ctx.data is None else list(islice(iter(ctx.data), 2))


def _why(reasons: Sequence[Any]) -> str:
    parts = []
    for pin in reasons:
        where = " at ".join(part for part in (pin.op.label if pin.op is not None else "", pin.place) if part)
        parts.append(f"{pin.reason} ({where})" if where else pin.reason)
    return "; ".join(parts)


def _nothing(left: Mapping[str, str], analysis: AxisAnalysis) -> UnsupportedError:
    reasons = Counter(left.values())
    reasons.update(_why(pinned.reasons[:1]) for pinned in analysis.pinned if pinned.constants)
    told = "; ".join(f"{count} x {reason}" for reason, count in list(reasons.items())[:4])
    return UnsupportedError(
        "prune-structured: nothing in this model can be pruned" + (f" ({told})" if told else ""),
        code="NNC-M052",
        hint="`nncomp axes MODEL` shows what is pinned, and by whom",
    )


def _summary(
    planned: Sequence[Schedule],
    chosen: Mapping[Track, Atoms],
    before: tuple[int, int],
    left: tuple[int, int],
) -> dict[str, object]:
    return {
        "macs": left[0] / max(before[0], 1),
        "params": left[1] / max(before[1], 1),
        "dimensions": {
            one.track.name: {"size": len(one.track), "left": len(one.track) - len(chosen.get(one.track, ()))}
            for one in planned
        },
    }
