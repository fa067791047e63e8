"""Calibration: the parameters of each value that has some of its own, from what samples make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nncomp.errors import DataError, NncompWarning
from nncomp.ir import Graph, Op, Value
from nncomp.passes import Context
from nncomp.statistics import Histogram, Range, exposed, observe
from nncomp_quant.insert import require_finite
from nncomp_quant.plan import QuantPlan
from nncomp_quant.scales import Method, QuantParams, activation_params, chosen_range, tail, within, without_weight
from nncomp_quant.weights import WeightQuantizer


class QuantizationWarning(NncompWarning):
    """Something about calibration that should be known."""


def calibrate(
    graph: Graph,
    plans: Mapping[Graph, QuantPlan],
    ctx: Context,
    *,
    watched: Mapping[Graph, QuantPlan],
    method: Method,
    percentile: float,
) -> tuple[dict[Value, QuantParams], dict[Value, float]]:
    """Return the parameters of all values that have some of their own, and how far each reaches (:func:`tail`).

    What calibration never came to, such as a branch that was not taken, loses its plan.

    Args:
        graph: The model.
        plans: What is quantized, by graph and body.
        ctx: With the data.
        watched: Plans whose values are observed beside those of ``plans``: one observation serves all choices.
        method: How ranges are chosen.
        percentile: For that method.

    Raises:
        DataError: there is no data (NNC-D006).
    """
    static = [op for plan in plans.values() for op in plan.static]
    if ctx.data is None:
        raise _no_data(static)
    seen = _observed(graph, plans, ctx, watched, method)
    for part, plan in plans.items():
        if part is not graph and not any(_reached(seen[value]) for value in plan.leaders):
            plan.give_up_static("calibration never came here: no sample took this branch")
    params: dict[Value, QuantParams] = {}
    for plan in plans.values():
        for value in plan.leaders:
            _warn_of_nothing(value, _extent(seen[value]), ctx)
            code = plan.code_type(value).numpy()
            chosen = activation_params(*_range(seen[value], method, percentile, code), code)
            params[value] = within(chosen, *plan.clips.get(value, (None, None)))
    return params, {value: tail(seen[value], one) for value, one in params.items()}


def look_at_weights(graph: Graph, plan: QuantPlan, weights: WeightQuantizer, ctx: Context) -> None:
    """Refuse weights that are not finite before any data is read; warn of channels that hold none."""
    for op in plan.static:
        role = ctx.ops.quant(op, graph.opsets)
        if role.weight is None:
            continue
        for slot in (role.weight, role.bias):
            value = op.input(slot) if slot is not None else None
            array = graph.array(value)
            if value is not None and array is not None:
                require_finite(array, value.name, op)
        array = graph.array(op.input(role.weight))
        assert array is not None
        empty = without_weight(array, weights.axis(op, role))
        if empty.any():
            which = f"{np.count_nonzero(empty)} of {empty.size} output channels" if empty.ndim else "all channels"
            ctx.warn(QuantizationWarning(f"the weights of {which} are zero", code="NNC-W033"), node=op.label)


def _no_data(static: list[Op]) -> DataError:
    return DataError(
        f"{static[0].label!r} and {len(static) - 1} more ops need calibration data",
        code="NNC-D006",
        hint="give --data with a folder of images, an .npz, or module:function; --data random to try it out",
    )


def _observed(
    graph: Graph,
    plans: Mapping[Graph, QuantPlan],
    ctx: Context,
    watched: Mapping[Graph, QuantPlan],
    method: Method,
) -> dict[Value, Range | Histogram]:
    """Return what samples make of each value that has parameters of its own; of those in bodies, too."""
    places = [(part, value) for part in plans for value in (*watched[part].leaders, *plans[part].leaders)]
    run, names = graph, {value: value.name for _, value in places}
    if any(part is not graph for part, _ in places):
        run, names = exposed(graph, dict.fromkeys(places))

    def accumulator(name: str) -> Range | Histogram:
        del name
        return Range() if method is Method.MINMAX else Histogram()

    seen: Mapping[str, Range | Histogram] = observe(run, ctx, list(dict.fromkeys(names.values())), accumulator)
    return {value: seen[name] for value, name in names.items()}


def _warn_of_nothing(value: Value, extent: Range, ctx: Context) -> None:
    if extent.count and extent.low != extent.high:
        return
    nothing = "was never finite" if extent.bad else "had no elements"
    state = f"was always {extent.low:g}" if extent.count else nothing
    ctx.warn(QuantizationWarning(f"in calibration, this value {state}", code="NNC-W032"), node=value.name)


def _range(seen: Range | Histogram, method: Method, percentile: float, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the range to quantize; over more codes than bins, a divergence says nothing: then all."""
    taken = Method.MINMAX if method is Method.ENTROPY and dtype.itemsize > 1 else method
    return chosen_range(seen, taken, percentile, levels=np.iinfo(dtype).max - np.iinfo(dtype).min)


def _reached(seen: Range | Histogram) -> bool:
    extent = _extent(seen)
    return bool(extent.count + extent.bad)


def _extent(seen: Range | Histogram) -> Range:
    return seen if isinstance(seen, Range) else seen.range
