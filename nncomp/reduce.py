"""Make a failing graph small: take away what it does not need to fail.

Greedy, in the manner of delta debugging (Zeller and Hildebrandt, 2002): outputs are given up, values become inputs so
that all before them goes, and ops are passed by, largest pieces first, for as long as something can be taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from nncomp import __version__
from nncomp.errors import NncompError, UsageError
from nncomp.gate import Gate
from nncomp.infer import infer_types
from nncomp.ir import Graph, Op, TensorType, Value
from nncomp.onnx_io import save, write_atomically
from nncomp.options import toml_text
from nncomp.passes import Context, Pass
from nncomp.pipeline import Pipeline
from nncomp.runtime import runtime_version


def reduce_graph(graph: Graph, fails: Callable[[Graph], bool], *, tries: int = 2000) -> Graph:
    """Return a graph, as small as it gets, for which ``fails`` still holds.

    Args:
        graph: A model's own graph that fails; it stays as it is.
        fails: Says whether a candidate, which it may change, fails in the way that matters.
        tries: Most candidates.

    Returns:
        The smallest found; a copy of ``graph`` where nothing can go.
    """
    best = graph.clone()
    infer_types(best)
    left = tries
    shrunk = True
    while shrunk and left > 0:
        shrunk = False
        for candidate in _smaller(best):
            left -= 1
            if fails(candidate.clone()):
                best, shrunk = candidate, True
                break
            if left <= 0:
                break
    return best


def _smaller(graph: Graph) -> Iterator[Graph]:
    """Yield copies of ``graph`` that lack something, those that lack most first."""
    if len(graph.outputs) > 1:
        for number in range(len(graph.outputs)):
            yield _with_outputs(graph, [number])
        for number in range(len(graph.outputs)):
            yield _with_outputs(graph, [other for other in range(len(graph.outputs)) if other != number])
    order = graph.ops()
    for place in range(len(order)):
        candidate = _ending_at(graph, place)
        if candidate is not None:
            yield candidate
    for place in reversed(range(len(order))):
        for change in (_fed_behind, _passed_by):
            candidate = change(graph, place)
            if candidate is not None:
                yield candidate


def _twin(graph: Graph, place: int) -> tuple[Graph, Op]:
    copy, mapping = graph.clone_with_map()
    op = mapping[graph.ops()[place]]
    assert isinstance(op, Op)
    return copy, op


def _with_outputs(graph: Graph, numbers: list[int]) -> Graph:
    copy = graph.clone()
    given_up = [value for number, value in enumerate(copy.outputs) if number not in numbers]
    copy.set_outputs([copy.outputs[number] for number in numbers])
    return _trimmed(copy, given_up)


def _ending_at(graph: Graph, place: int) -> Graph | None:
    """Return what computes the first output of an op, and what nobody reads."""
    copy, op = _twin(graph, place)
    if len(copy.outputs) == 1 and copy.outputs[0] is op.output:
        return None
    given_up = copy.outputs
    copy.set_outputs([op.output])
    return _trimmed(copy, given_up)


def _fed_behind(graph: Graph, place: int) -> Graph | None:
    """Return a graph in which the outputs of an op are inputs."""
    copy, op = _twin(graph, place)
    wanted = [value for value in op.outputs if copy.users(value)]
    if op.kind == "Constant" or not wanted or any(_unfit(copy, value) for value in wanted):
        return None
    for value in wanted:
        copy.replace_uses(value, copy.add_input(copy.fresh_name(f"{value.name}_fed"), value.type))
    return _trimmed(copy, op.outputs)


def _passed_by(graph: Graph, place: int) -> Graph | None:
    """Return a graph without an op: who read its output reads its first input, where that has the same type."""
    copy, op = _twin(graph, place)
    source = op.input(0)
    if not copy.users(op.output) and not any(map(copy.is_output, op.outputs)):
        return _trimmed(copy, op.outputs)
    if source is None or source.type != op.output.type or source.type is None or copy.is_output(op.output):
        return None
    copy.replace_uses(op.output, source)
    return _trimmed(copy, op.outputs)


def _unfit(graph: Graph, value: Value) -> bool:
    return graph.is_output(value) or not isinstance(value.type, TensorType)


def _trimmed(graph: Graph, values: Iterable[Value]) -> Graph:
    """Remove those of ``values`` that nothing needs any more, with all before them, and inputs that nobody reads.

    What nobody read before stays: it may be what a pass trips over.
    """
    graph.remove_unused(values)
    graph.remove_inputs([value for value in graph.inputs if not graph.users(value) and not graph.is_output(value)])
    return graph


@dataclass(frozen=True)
class Failure:
    """A sequence of passes that fails on some graph, and how to see that it does.

    Attributes:
        passes: in order.
        seed: of the inputs that the gate compares on.
    """

    passes: Sequence[Pass]
    seed: int = 0

    def of(self, graph: Graph) -> NncompError | None:
        """Return what goes wrong on ``graph``, None if nothing does, or if the graph itself cannot be run."""
        try:
            Pipeline(self.passes, gate=Gate(seed=self.seed)).run(graph.clone(), Context(seed=self.seed))
        except NncompError as error:
            return error
        return None


@dataclass(frozen=True)
class Reduced:
    """What came of a reduction; ``files`` are names in the folder."""

    code: str
    message: str
    ops_before: int
    ops_after: int
    files: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields, JSON-able."""
        return asdict(self) | {"files": list(self.files)}


def reduce_failure(graph: Graph, failure: Failure, folder: Path, *, tries: int = 2000) -> Reduced:
    """Reduce ``graph`` while the passes fail on it with the same code; write what replays it into ``folder``.

    ``repro.onnx``, ``recipe.toml`` and ``repro.json`` (code, message, seed, versions).

    Raises:
        UsageError: the passes do not fail on ``graph``.
        ResourceError: the disk refused (NNC-E001).
    """
    first = failure.of(graph)
    if first is None:
        raise UsageError("the passes do not fail on this model: there is nothing to reduce")

    def fails(candidate: Graph) -> bool:
        found = failure.of(candidate)
        return found is not None and found.code == first.code

    small = reduce_graph(graph, fails, tries=tries)
    last = failure.of(small) or first
    versions = {"nncomp": __version__, "onnx": onnx.__version__, "onnxruntime": runtime_version()}
    record = {"code": last.code, "message": last.message, "seed": failure.seed, "versions": versions}
    save(small, folder / "repro.onnx")
    specs = ", ".join(toml_text(step.spec) for step in failure.passes)
    write_atomically(folder / "recipe.toml", [f"passes = [{specs}]\n".encode()])
    write_atomically(folder / "repro.json", [json.dumps(record, indent=2).encode() + b"\n"])
    before, after = (sum(1 for _ in one.walk()) for one in (graph, small))
    return Reduced(last.code, last.message, before, after, ("repro.onnx", "recipe.toml", "repro.json"))
