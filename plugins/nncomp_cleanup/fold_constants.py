"""fold-constants: what does not depend on the inputs is computed now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from nncomp.errors import NncompWarning
from nncomp.ir import Graph, Op, Value
from nncomp.options import option
from nncomp.passes import Context, Effect, Pass
from nncomp.rewrite import rewrite
from nncomp.runtime import MAX_OPSET
from nncomp_cleanup.budget import WAITING, Limits, plan
from nncomp_cleanup.dims import small_integers
from nncomp_cleanup.evaluation import Step, evaluate
from nncomp_cleanup.proven import Proven, proven_types
from nncomp_cleanup.ranges import RANGES
from nncomp_cleanup.worth import choose

_MAX_ROUNDS: Final = 32
_LATE_ROUNDING: Final = "ONNX Runtime holds float16 in float32 between ops: rounding here would change bits"


class OverflowWarning(NncompWarning):
    """A fold would turn finite numbers into an infinite float16."""


@dataclass
class _SoFar:
    """What rounds leave for the next: ops not to be tried again, with the reason, and scalar operations spent."""

    settled: dict[Op, str] = field(default_factory=dict)
    work: int = 0


class FoldConstants(Pass):
    """Compute what depends on constants and on static dimensions only, as ONNX Runtime would.

    Ops with bodies, random ops, and ops that no table row calls foldable are left alone. Sizes are known before
    anything is computed, and an op is left alone when its size is not. DequantizeLinear of weights is computed only
    where the model is a float model with compressed weights, that is, has no QuantizeLinear; ``dequantize`` says
    otherwise.
    """

    name: ClassVar[str] = "fold-constants"
    effect: ClassVar[Effect] = Effect.EXACT

    max_bytes: int = option(67108864, ge=0, help="largest result, in bytes")
    max_total_bytes: int = option(1073741824, ge=0, help="results that are computed at once, in bytes")
    max_ops: int = option(10_000_000_000, ge=0, help="scalar operations that may be spent")
    max_growth: float = option(
        1.0,
        ge=0,
        help="how many times larger a result may be than the constants that go with its computation; "
        "results up to 64 KiB are always kept",
    )
    dequantize: bool | None = option(
        None,
        help="compute DequantizeLinear of constants, whatever the growth, or never; "
        "not given: within max_growth, if the model has no QuantizeLinear",
    )

    def run(self, graph: Graph, ctx: Context) -> None:
        """Fold round by round: a result may be the size or the divisor that another op waits for."""
        if graph.opsets.get("", 1) > MAX_OPSET:
            ctx.note("skipped", self.name, reason=f"ONNX Runtime evaluates up to opset {MAX_OPSET}")
            return
        so_far = _SoFar()
        declined: dict[Op, str] = {}
        for _ in range(_MAX_ROUNDS):
            version, tried = graph.version, len(so_far.settled)
            proven = proven_types(graph, ctx)
            _fold_shapes(graph, proven, ctx)
            declined = self._fold(graph, proven, so_far, ctx)
            rewrite(graph, RANGES, ctx)
            refused = len(so_far.settled) > tried
            if not _may_go_on(graph, declined, changed=graph.version != version, refused=refused):
                break
        for op, reason in declined.items():
            ctx.note("declined", self.name, node=op.label, reason=reason)

    def _fold(self, graph: Graph, proven: Proven, so_far: _SoFar, ctx: Context) -> dict[Op, str]:
        """Fold once; return what was declined."""
        settled = so_far.settled
        limits = Limits(self.max_bytes, self.max_total_bytes, self.max_ops, self.dequantize)
        found = plan(graph, proven, ctx.ops, limits, settled=settled, spent=so_far.work)
        so_far.work += found.work
        unlimited = frozenset({"DequantizeLinear"} if self.dequantize else ())
        choice = choose(found, proven, max_growth=self.max_growth, unlimited=unlimited)
        probes = [value for step in found.rounded for value in step.op.outputs]
        results = evaluate(choice.steps, [*(value for _, value in choice.kept), *probes])
        settled |= results.refused
        for step in found.rounded:
            settled[step.op] = _LATE_ROUNDING
            if any(_is_overflow(step, results.arrays.get(value)) for value in step.op.outputs):
                settled[step.op] = "the result overflows float16"
                message = f"{step.op.label!r} turns finite constants into infinite float16 numbers"
                ctx.warn(OverflowWarning(message, code="NNC-W031"), node=step.op.label)
        for part, value in choice.kept:
            if value in results.arrays:
                _replace(part, value, results.arrays[value], ctx)
        for step in reversed(found.steps):  # what was read inside a body only is dead outside, and removed there
            if step.op in step.graph:
                step.graph.remove_unused(step.op.outputs)
        return found.declined | choice.declined | settled


def _may_go_on(graph: Graph, declined: dict[Op, str], *, changed: bool, refused: bool) -> bool:
    """Return whether another round may find what this one did not: a size, a divisor or a shape.

    What only a refused op was to read was not asked for; now it is read by an op that stays.
    """
    if not changed:
        return refused
    waits = any(reason in WAITING for reason in declined.values())
    return refused or waits or any(op.kind in ("Range", "Shape", "Size") for _, op in graph.walk())


def _fold_shapes(graph: Graph, proven: Proven, ctx: Context) -> None:
    """Replace shape arithmetic of which every entry turns out to be a number."""
    known = small_integers(graph, proven)
    for part in list(graph.graphs()):
        for op in reversed(part.ops()):
            numbers = known[op.output].numbers if op in part and op.outputs and op.output in known else None
            if numbers is None or op.is_a("Constant") or (op.is_a("Identity") and part.is_output(op.output)):
                continue
            _replace(part, op.output, numbers, ctx)


def _replace(graph: Graph, old: Value, data: npt.NDArray[Any], ctx: Context) -> None:
    op, name = old.producer, old.name
    assert op is not None
    ctx.note("fired", FoldConstants.name, node=op.label)
    if not graph.is_output(old):  # an output keeps its name, and an Identity carries the constant to it
        graph.rename(old, graph.fresh_name(f"{name}_before"))
    graph.replace_uses(old, graph.add_constant(name, data, doc=old.doc))
    graph.remove_unused([old])


def _is_overflow(step: Step, result: npt.NDArray[Any] | None) -> bool:
    if result is None or result.dtype != np.float16 or not np.isinf(result).any():
        return False
    given = [step.graph.array(value) for value in step.op.inputs]
    return not any(array is not None and array.dtype.kind == "f" and np.isinf(array).any() for array in given)
