"""Laws that every pass obeys, on any graph: same interface, same bytes each time, its declared effect, and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy.typing as npt

from nncomp.errors import CODES, NncompError
from nncomp.gate import Gate, GateResult, interface
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.onnx_io import from_bytes, to_bytes
from nncomp.passes import Context, Effect, Pass
from nncomp.pipeline import Pipeline
from nncomp.runtime import RuntimeFailure, Session
from nncomp.testing import builders

Feeds: TypeAlias = Mapping[str, npt.NDArray[Any]]
MakeContext: TypeAlias = Callable[[Graph], Context]

_BROKEN_BY = {
    "NNC-G002": "valid",
    "NNC-G003": "interface",
    "NNC-P011": "errors",
}
"""The law that a pass has broken when the pipeline ends with this code."""


@dataclass(frozen=True, slots=True)
class Breach:
    """A broken law: which, what was found, and what the passes made, where they made something."""

    law: str
    found: str
    after: Graph | None = None


@dataclass(slots=True)
class Trial:
    """What passes did with one graph.

    Attributes:
        after: What they made; None when they refused the graph.
        refused: With what message.
    """

    after: Graph | None = None
    refused: str = ""


def assert_lawful(
    steps: Pass | Sequence[Pass],
    graph: Graph,
    *,
    feeds: Feeds | None = None,
    settles: bool = True,
) -> Graph:
    """Assert that passes keep function and interface, give the same bytes each time, and find nothing a second time.

    Outputs are compared on ONNX Runtime without optimizations: bit for bit when all passes are exact, otherwise to
    rounding, as the gate does. The result must load again and give the same bytes when it is written again. Names of
    values inside mean nothing: with other names, the same ops must come out.

    Args:
        steps: One pass or several, none of them lossy.
        graph: A model's own graph that ONNX Runtime runs; it stays as it is.
        feeds: Inputs; default: random ones.
        settles: A second run must change nothing.

    Returns:
        What the passes made.

    Raises:
        AssertionError: a law is broken; the message says which, and how.
        NncompError: what a pass raised.
    """
    __tracebackhide__ = True  # in pytest: the message says it all
    passes = [steps] if isinstance(steps, Pass) else list(steps)
    after = made(passes, graph)
    result = compared(passes, graph, after, [builders.feeds(graph) if feeds is None else feeds])
    assert not result.skipped, f"the graph does not run: {result.skipped}"
    for breach in broken_by(passes, graph, after, result, settles=settles):
        raise AssertionError(breach.found)
    return after


def tried(steps: Sequence[Pass], graph: Graph, context: MakeContext) -> Trial | Breach:
    """Run passes once: what came of it, or the law that was broken before anything did."""
    given = to_bytes(graph)
    trial = Trial()
    try:
        trial.after = made(steps, graph, context)
    except NncompError as error:
        if error.code in _BROKEN_BY:
            return Breach(_BROKEN_BY[error.code], error.message)
        if error.code not in CODES or error.code == NncompError.default_code:
            return Breach("errors", f"{type(error).__name__} has the code {error.code!r}: {error.message}")
        trial.refused = error.message
    if to_bytes(graph) != given:
        return Breach("given", "the graph that the passes got a copy of is another than before", trial.after)
    return trial


def broken_by(
    steps: Sequence[Pass],
    graph: Graph,
    after: Graph,
    compared: GateResult,
    *,
    settles: bool = True,
    context: MakeContext = lambda graph: Context(),
) -> Iterator[Breach]:
    """Yield the laws that passes broke when they made ``after`` of ``graph``, the most telling first.

    Args:
        steps: The passes.
        graph: A model's own graph.
        after: What they made of it.
        compared: What :func:`compared` says of both.
        settles: A second run must change nothing.
        context: Gives the context that passes run in.
    """
    before = graph.clone()
    infer_types(before)
    if interface(after) != interface(before):
        yield Breach("interface", f"the interface was {interface(before)} and is {interface(after)}", after)
    if not compared.passed:
        yield Breach("effect", _changed(compared), after)
    written = to_bytes(after)
    again = tried(steps, graph, lambda given: replace(context(given), threads=2))
    if isinstance(again, Breach):
        yield again
    elif not _gives(again, written):
        once = tried(steps, graph, context)
        same = isinstance(once, Trial) and _gives(once, written)
        what = "two threads make other bytes" if same else "a second run on the same graph gives other bytes"
        yield Breach("determinism", what, again.after)
    if to_bytes(from_bytes(written)) != written:
        yield Breach("valid", "the written model is read as another", after)
    if settles:
        twice = tried(steps, after, context)
        if isinstance(twice, Breach):
            yield twice
        elif twice.after is not None and kinds(twice.after) != kinds(after):
            yield Breach("settles", f"run again, it goes on: {kinds(after)} become {kinds(twice.after)}", twice.after)
    renamed = tried(steps, with_other_names(graph), context)
    if isinstance(renamed, Breach):
        yield renamed
    elif renamed.after is None or kinds(renamed.after) != kinds(after):
        yield Breach("names", "with other names inside, other ops come out", renamed.after)


def compared(steps: Sequence[Pass], before: Graph, after: Graph, samples: Sequence[Feeds]) -> GateResult:
    """Hold passes to the loosest of their effects, as the gate does; without samples nothing is said."""
    effects = [step.effect for step in steps]
    effect = max(effects, key=list(Effect).index, default=Effect.EXACT)
    if not samples:
        return GateResult(effect, passed=True, skipped="there are no inputs to compare on")
    typed = before.clone()
    infer_types(typed)
    return Gate(samples).check(typed, after, effect)


def runs(graph: Graph, feeds: Feeds | None = None) -> bool:
    """True when ONNX Runtime runs ``graph``: not each op has a kernel for each type."""
    try:
        Session(graph).run(builders.feeds(graph) if feeds is None else feeds)
    except RuntimeFailure:
        return False
    return True


def made(steps: Sequence[Pass], graph: Graph, context: MakeContext = lambda graph: Context()) -> Graph:
    """Return what passes make of a copy of ``graph``.

    Raises:
        NncompError: what a pipeline raises.
    """
    copy = graph.clone()
    Pipeline(steps).run(copy, context(graph))
    return copy


def kinds(graph: Graph) -> list[str]:
    """Return the kinds of all ops, bodies included, sorted."""
    return sorted(op.kind for _, op in graph.walk())


def with_other_names(graph: Graph) -> Graph:
    """Return a copy in which values that are not of the interface have names that sort the other way round."""
    copy = graph.clone()
    fixed = {*copy.inputs, *copy.outputs}
    inside = [value for value in copy.values() if value.name and value not in fixed]
    for number, value in enumerate(inside):
        copy.rename(value, copy.fresh_name(f"z{len(inside) - number}"))
    return copy


def _gives(trial: Trial, written: bytes) -> bool:
    return trial.after is not None and to_bytes(trial.after) == written


def _changed(result: GateResult) -> str:
    if result.deviation is None:
        return result.first_divergence
    found, at = result.deviation, result.first_divergence
    where = f", first at {at!r}" if at else ""
    return f"output {found.worst_output!r} changed by {found.relative:.2g} relative{where}; declared is {result.effect}"
