"""Laws that every pass that loses nothing obeys, on any graph: same function, same interface, settled after one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from nncomp.gate import Gate, interface
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.onnx_io import from_bytes, to_bytes
from nncomp.passes import Context, Effect, Pass
from nncomp.pipeline import Pipeline
from nncomp.runtime import RuntimeFailure, Session
from nncomp.testing import builders


def assert_lawful(
    steps: Pass | Sequence[Pass],
    graph: Graph,
    *,
    feeds: Mapping[str, npt.NDArray[Any]] | None = None,
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
    """
    passes = [steps] if isinstance(steps, Pass) else list(steps)
    exact = all(step.effect is Effect.EXACT for step in passes)
    before = graph.clone()
    infer_types(before)
    inputs = builders.feeds(graph) if feeds is None else feeds
    after = _made(passes, graph)
    assert interface(after) == interface(before), f"the interface was {interface(before)} and is {interface(after)}"
    result = Gate([inputs]).check(before, after, Effect.EXACT if exact else Effect.REASSOCIATES)
    assert not result.skipped, f"the graph does not run: {result.skipped}"
    assert result.passed, f"the function changed at {result.first_divergence!r}: {result.deviation}"
    written = to_bytes(after)
    assert to_bytes(_made(passes, graph)) == written, "a second run on the same graph gives other bytes"
    assert to_bytes(from_bytes(written)) == written, "the written model is read as another"
    if settles:
        twice = _made(passes, after)
        assert _kinds(twice) == _kinds(after), f"run again, it goes on: {_kinds(after)} become {_kinds(twice)}"
    renamed = _renamed(graph)
    assert _kinds(_made(passes, renamed)) == _kinds(after), "with other names inside, other ops come out"
    return after


def runs(graph: Graph, feeds: Mapping[str, npt.NDArray[Any]] | None = None) -> bool:
    """True when ONNX Runtime runs ``graph``: not each op has a kernel for each type."""
    try:
        Session(graph).run(builders.feeds(graph) if feeds is None else feeds)
    except RuntimeFailure:
        return False
    return True


def _made(passes: Sequence[Pass], graph: Graph) -> Graph:
    copy = graph.clone()
    Pipeline(passes).run(copy, Context())
    return copy


def _kinds(graph: Graph) -> list[str]:
    return sorted(op.kind for _, op in graph.walk())


def _renamed(graph: Graph) -> Graph:
    """Return a copy in which values that are not of the interface have names that sort the other way round."""
    copy = graph.clone()
    fixed = {*copy.inputs, *copy.outputs}
    inside = [value for value in copy.values() if value.name and value not in fixed]
    for number, value in enumerate(inside):
        copy.rename(value, copy.fresh_name(f"z{len(inside) - number}"))
    return copy
