"""Evaluate ops on constants, by ONNX Runtime without optimizations: what it would have computed is what is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph, ModelInfo, Op, Value
from nncomp.runtime import RuntimeFailure, Session
from nncomp_cleanup.proven import source_of

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Step:
    """An op to evaluate, and the graph or body that it stands in."""

    graph: Graph
    op: Op


@dataclass(frozen=True, slots=True)
class Results:
    """Arrays by value, and why the runtime refused an op."""

    arrays: dict[Value, Array]
    refused: dict[Op, str]


def evaluate(steps: Sequence[Step], wanted: Iterable[Value]) -> Results:
    """Return the ``wanted`` outputs of ``steps``, which stand in topological order and read constants or each other.

    All run in one session. When the runtime refuses it, halves are tried, down to the op that it refuses: f refused ops
    among n cost O(f log n) sessions. What depends on a refused op is left out.
    """
    results = Results({}, {})
    _evaluate(list(steps), set(wanted), results)
    return results


def _evaluate(steps: list[Step], wanted: set[Value], results: Results) -> None:
    available = _available(steps, results)
    if not any(value in wanted for step in available for value in step.op.outputs):
        return
    try:
        results.arrays.update(_run(available, wanted, results.arrays))
    except RuntimeFailure as error:
        if len(available) == 1:
            results.refused[available[0].op] = error.message
            return
        middle = len(available) // 2
        first, second = available[:middle], available[middle:]
        crossing = {value for step in second for value in _sources(step) if value is not None}
        _evaluate(first, wanted | crossing, results)
        _evaluate(second, wanted, results)


def _available(steps: list[Step], results: Results) -> list[Step]:
    """Return the steps whose inputs are constants, known results, or computed by the steps before."""
    found: list[Step] = []
    computed: set[Value] = set(results.arrays)
    for step in steps:
        sources = [value for value in _sources(step) if value is not None]
        if all(value in computed or value.producer is None or value.producer.is_a("Constant") for value in sources):
            found.append(step)
            computed.update(step.op.outputs)
    return found


def _run(steps: list[Step], wanted: set[Value], known: Mapping[Value, Array]) -> dict[Value, Array]:
    info = steps[0].graph.info
    model = Graph("folded", info=ModelInfo(ir_version=info.ir_version, opsets=info.opsets))
    twins: dict[Value, Value] = {}
    for step in steps:
        inputs = []
        for value, source in zip(step.op.inputs, _sources(step), strict=True):
            if source is not None and source not in twins:
                data = known[source] if source in known else step.graph.constant(value)
                assert data is not None, "an op is evaluated whose inputs are not fixed"
                twins[source] = model.add_constant("c", data)
            inputs.append(None if source is None else twins[source])
        names = ["v" if value.name else "" for value in step.op.outputs]
        twin = model.add_op(step.op.kind, inputs, names, attrs=step.op.attrs, domain=step.op.domain)
        twins |= dict(zip(step.op.outputs, twin.outputs, strict=True))
    asked = [value for step in steps for value in step.op.outputs if value in wanted and value.name]
    model.set_outputs([twins[value] for value in asked])
    results = Session(model).run({})
    return {value: _frozen(results[twins[value].name]) for value in asked}


def _sources(step: Step) -> list[Value | None]:
    return [None if value is None else source_of(step.graph, value) for value in step.op.inputs]


def _frozen(result: Any) -> Array:
    array = np.asarray(result, order="C")
    array.flags.writeable = False
    return array
