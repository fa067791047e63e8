"""Which results of an evaluation are kept: those that something else reads, if the model does not grow too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nncomp.ir import CaptureKey, Graph, Op, Use, Value
from nncomp_cleanup.budget import Plan
from nncomp_cleanup.evaluation import Step
from nncomp_cleanup.proven import Proven, source_of

ALWAYS_KEPT_BYTES: Final = 65536
"""A result up to this size is kept however small the constants are that it is computed from."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to evaluate and keep.

    Attributes:
        steps: those of the plan that the kept values need.
        kept: values that become constants.
        declined: ops whose result is not worth its size, with the reason.
    """

    steps: list[Step]
    kept: list[tuple[Graph, Value]]
    declined: dict[Op, str]


def choose(plan: Plan, proven: Proven, *, max_growth: float, unlimited: frozenset[str]) -> Choice:
    """Decide backwards which results are read by something that stays.

    A result may be ``max_growth`` times as large as the constants that vanish with its computation. Constants that
    something else reads too do not vanish: a transposed copy of a shared weight would be a second weight.

    Args:
        plan: What can be evaluated.
        proven: Types of the graph.
        max_growth: See above.
        unlimited: Kinds of op whose results may have any size.
    """
    vanishing = _vanishing_bytes(plan)
    rounded = {step.op for step in plan.rounded}
    gone: set[Op] = set()
    kept: list[tuple[Graph, Value]] = []
    declined: dict[Op, str] = {}
    for step in reversed(plan.steps):
        graph, op = step.graph, step.op
        if op in rounded:
            continue
        needed = [value for value in op.outputs if value.name and _is_needed(graph, value, gone)]
        grown = sum(_nbytes(proven, value) for value in needed)
        allowed = max(ALWAYS_KEPT_BYTES, int(max_growth * vanishing[op]))
        if grown > allowed and op.kind not in unlimited:
            declined[op] = f"its result takes {grown} bytes, the constants that would go take {vanishing[op]}"
            continue
        kept.extend((graph, value) for value in needed)
        gone.add(op)
    wanted = {value for _, value in kept} | {value for op in rounded for value in op.outputs}
    return Choice(_steps_for(plan.steps, wanted), kept[::-1], declined)


def _vanishing_bytes(plan: Plan) -> dict[Op, int]:
    steps = {step.op for step in plan.steps}
    result: dict[Op, int] = {}
    for graph, op in ((step.graph, step.op) for step in plan.steps):
        result[op] = 0
        for value in {value for value in op.inputs if value is not None}:
            data, producer = graph.constant(value), source_of(graph, value).producer
            if data is None:
                result[op] += 0 if producer is None else result.get(producer, 0)
            elif steps.issuperset(graph.users(value)) and not graph.is_output(value):
                result[op] += data.nbytes
    return result


def _is_needed(graph: Graph, value: Value, gone: set[Op]) -> bool:
    return graph.is_output(value) or any(_reads(use, gone) for use in graph.uses(value))


def _reads(use: Use, gone: set[Op]) -> bool:
    if not isinstance(use.slot, CaptureKey):
        return use.op not in gone
    body = use.op.bodies[use.slot.body]
    inner = use.slot.inner
    return body.is_output(inner) or any(_reads(deeper, gone) for deeper in body.uses(inner))


def _nbytes(proven: Proven, value: Value) -> int:
    type_ = proven.types.get(value)
    return 0 if type_ is None else type_.nbytes or 0


def _steps_for(steps: Sequence[Step], wanted: set[Value]) -> list[Step]:
    found: list[Step] = []
    wanted = set(wanted)
    for step in reversed(steps):
        if wanted.intersection(step.op.outputs):
            found.append(step)
            wanted |= {source_of(step.graph, value) for value in step.op.inputs if value is not None}
    return found[::-1]
