"""Ranges chosen by what the network's output loses, where values far out stretch a range.

The range of least squared error holds a few values far out at the cost of all others: where one image in ten has a
position with ten times the usual values, the step is ten times too wide for the other nine. What those values are
worth only the network can tell. Behind them Relu6 saturates, and a pool takes the mean over all positions: as a rule
the output bears their clipping better than the wide step. So ranges that reach far beyond nearly all values are
narrowed step by step, as long as the *measured* output of the quantized network comes closer to that of the float one
(coordinate descent on the network's loss, as Nahshan et al., "Loss aware post-training quantization", Machine Learning
110, 2021, do it for all ranges). Ranges without such a tail are what they should be: Gaussian values spread to 1.5,
exponential ones to 2.1 times the bound of 99 % of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final, cast

import numpy as np

from nncomp.gate import compare
from nncomp.ir import Graph, Op, Value
from nncomp.ops import OpTable
from nncomp.passes import Context
from nncomp.runtime import Feeds, Session
from nncomp.statistics import executor_of, remembered
from nncomp.text import model_digest
from nncomp_quant.insert import Inserter
from nncomp_quant.plan import QuantPlan
from nncomp_quant.scales import QuantParams
from nncomp_quant.weights import WeightQuantizer

TAIL: Final = 3.5
"""A range that reaches this many times further than 99 % of the values is worth trying."""
_STEP: Final = 0.7
_GAIN: Final = 0.99
"""A narrower range must leave less than this share of the error."""
_TRIALS: Final = 32
_HELD: Final = 1 << 26
"""Bytes of outputs beyond which no further sample is held."""


@dataclass(frozen=True, slots=True)
class RangeSearch:
    """What to narrow ranges by.

    Attributes:
        reference: the float model whose outputs are to be met.
        tails: how many times further than 99 % of its values the range of a value reaches.
        samples: calibration samples to run, spread over the data where its size is known.
    """

    reference: Graph
    tails: Mapping[Value, float]
    samples: int

    def factors(
        self,
        graph: Graph,
        plans: Mapping[Graph, QuantPlan],
        params: Mapping[Value, QuantParams],
        weights: WeightQuantizer,
        ctx: Context,
    ) -> dict[Value, float]:
        """Return by how much to narrow ranges, of those that the network's output gains by.

        Args:
            graph: A model's own float graph, as it will be quantized.
            plans: What will be quantized of it and of its bodies.
            params: Scale and zero point by value.
            weights: How weights will be quantized.
            ctx: Gives data, threads, progress and cache.
        """
        groups = _groups(plans, self.tails, ctx.ops)
        if not groups or ctx.data is None:
            return {}
        trial = _Trial(graph, plans, params, weights, ctx.ops)
        names = [[value.name for value in group] for group in groups]
        key = [model_digest(self.reference), model_digest(trial.graph), self.samples, names]
        found = remembered(ctx, lambda: self._searched(groups, params, trial, ctx), *key)
        return {value: factor for group, factor in zip(groups, found, strict=True) if factor < 1.0 for value in group}

    def _searched(
        self, groups: Sequence[Sequence[Value]], params: Mapping[Value, QuantParams], trial: _Trial, ctx: Context
    ) -> list[float]:
        """Return the factor of each group."""
        reference = _Reference(self.reference, ctx, self.samples)
        least = reference.error(trial.graph)
        found = [1.0] * len(groups)
        left = _TRIALS
        for number, group in enumerate(groups):
            factor = _STEP
            while left and factor * max(self.tails[value] for value in group) >= 1.0:
                left -= 1
                ctx.progress.step("ranges", _TRIALS - left, _TRIALS)
                trial.set({value: shrunk(params[value], factor) for value in group})
                error = reference.error(trial.graph)
                if error >= _GAIN * least:
                    break
                found[number], least = factor, error
                factor *= _STEP
            trial.set({value: shrunk(params[value], found[number]) for value in group})
        return found


class _Trial:
    """The model with its static ops quantized, whose scales may change.

    Biases stay float here: in integers each would have to follow the scale of its input.
    """

    def __init__(
        self,
        graph: Graph,
        plans: Mapping[Graph, QuantPlan],
        params: Mapping[Value, QuantParams],
        weights: WeightQuantizer,
        ops: OpTable,
    ) -> None:
        self.graph, mapping = graph.clone_with_map()
        weights = weights.mapped(mapping)
        self._pairs: dict[Value, tuple[Graph, Value]] = {}
        for part, twin in zip(graph.graphs(), self.graph.graphs(), strict=True):
            plan = plans[part].mapped(mapping)
            own = {cast(Value, mapping[value]): params[value] for value in plans[part].leaders}
            biases = {op: _bias(twin, op, ops) for op in plan.static}
            inserter = Inserter(twin, ops, plan, own, weights)
            inserter.run()
            for op, (slot, bias) in ((op, bias) for op, bias in biases.items() if bias is not None):
                quantized = op.input(slot)
                twin.set_input(op, slot, twin.add_constant(f"{op.output.name}_float_bias", bias))
                twin.remove_unused([quantized])
            scales = inserter.scales()
            self._pairs |= {value: (twin, scales[cast(Value, mapping[value])]) for value in plans[part].leaders}

    def set(self, params: Mapping[Value, QuantParams]) -> None:
        """Give values of the original graph other scales."""
        for value, one in params.items():
            part, scale = self._pairs[value]
            new = part.add_constant(f"{scale.name}_tried", np.array(one.scale, np.float32))
            part.replace_uses(scale, new)
            part.remove_unused([scale])
            self._pairs[value] = part, new


def _bias(graph: Graph, op: Op, ops: OpTable) -> tuple[int, Any] | None:
    slot = ops.quant(op, graph.opsets).bias
    array = graph.array(op.input(slot)) if slot is not None else None
    return (slot, array) if slot is not None and array is not None else None


def _groups(plans: Mapping[Graph, QuantPlan], tails: Mapping[Value, float], ops: OpTable) -> list[list[Value]]:
    """Return the values with tails, those that an op without weights ties together in one group; longest tail first.

    A sum of two tensors reaches as far as they do: to narrow one of them alone is half a step.
    """
    of = {value: [value] for value, tail in tails.items() if tail >= TAIL}
    for part, plan in plans.items():
        for op in plan.static:
            if ops.quant(op, part.opsets).weight is not None:
                continue
            ends = [plan.leader(value) for value in (*op.inputs, *op.outputs) if value is not None]
            joined = list(dict.fromkeys(value for end in ends if end in of for value in of[end]))
            of |= dict.fromkeys(joined, joined)
    groups = {id(group): group for group in of.values()}.values()
    return sorted(groups, key=lambda group: -max(tails[value] for value in group))


def shrunk(params: QuantParams, factor: float) -> QuantParams:
    """Return parameters whose range is ``factor`` times as wide."""
    return replace(params, scale=np.float32(params.scale * np.float32(factor)))


class _Reference:
    """What a model gives for some samples, and how far another one is from that."""

    def __init__(self, graph: Graph, ctx: Context, samples: int) -> None:
        assert ctx.data is not None
        self._executor = executor_of(ctx)
        session = Session(graph, optimize=True, frugal=True)
        step = max((ctx.data.size or 0) // samples, 1)  # data may be sorted: take some of all
        self._samples: list[tuple[int, Feeds, Mapping[str, Any]]] = []
        held = 0
        for number, feeds in enumerate(islice(iter(ctx.data), 0, samples * step, step)):
            outputs = session.run(feeds)
            held += sum(array.nbytes for array in outputs.values() if isinstance(array, np.ndarray))
            self._samples.append((number, feeds, outputs))
            if held >= _HELD:
                break

    def error(self, graph: Graph) -> float:
        """Return the mean over samples of noise / signal; a sample counts for 1 at the most, however wrong it is."""
        session = Session(graph, optimize=True, frugal=True)

        def noise(sample: tuple[int, Feeds, Mapping[str, Any]]) -> tuple[int, float]:
            number, feeds, expected = sample
            return number, min(10.0 ** (-compare([expected], [session.run(feeds)]).sqnr_db / 10.0), 1.0)

        found = sorted(self._executor.imap_unordered(noise, self._samples))
        return float(np.mean([one for _, one in found])) if found else 0.0
