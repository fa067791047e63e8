"""The gate: a library is handed over only when it gives what ONNX Runtime gives for the same graph.

TVM has a history of wrong results at some optimization levels, so each build is run. When it differs, the smallest
piece of the graph that still does is looked for and left beside the output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final, Protocol

import numpy as np
from onnx.reference import ReferenceEvaluator

from nncomp.errors import GateError, NncompError, NncompWarning, UnsupportedError
from nncomp.gate import HALF_LIMIT, compare
from nncomp.ir import DataType, Graph, TensorType
from nncomp.onnx_io import graph_to_proto
from nncomp.passes import Context
from nncomp.runtime import Feeds, RuntimeFailure, Session, random_feeds
from nncomp_tvm.emulation import KernelFault, TimeIsUp
from nncomp_tvm.exactness import exactly
from nncomp_tvm.manifest import Manifest
from nncomp_tvm.open_sizes import at_other_sizes
from nncomp_tvm.reproducing import Build, Reproducer
from nncomp_tvm.stages import QUANTIZING, Stages, quantizes

FLOAT_LIMIT: Final = 1e-4
"""Relative error (L2) of an output in single precision."""

QUANTIZED_LIMIT: Final = 0.05
"""The same for a graph that quantizes and cannot be cut: a number between two codes may become either of them."""

STAGED_LIMIT: Final = 0.3
"""The same where each stage was found right: what is left to see is that the whole is put together otherwise."""


class UnseenWarning(NncompWarning):
    """A build that could not be compared."""


class Runnable(Protocol):
    """What the gate runs: an artifact, or one of a GPU that the CPU emulates."""

    manifest: Manifest

    def run(self, feeds: Feeds, /) -> dict[str, Any]:
        """Run once; outputs by name."""


def checked(
    built: Runnable, graph: Graph, ctx: Context, build: Build, *, command: str, most: int = 4, excused: float = 0.0
) -> int:
    """Compare results with those of ONNX Runtime on calibration inputs, or on random ones; return on how many.

    What has open sizes is looked at with other ones, too, where the graph allows them.

    Args:
        built: What was built from ``graph``.
        graph: A model's own graph.
        ctx: For data, seed, and where to leave a reproducer.
        build: Builds another graph in the same way, for given inputs; for the search of what is wrong.
        command: Target as the command line writes it, for the replay.
        most: Samples to look at.
        excused: Relative error of floats that is the build's own choice, such as to compute in 16 bits.

    Raises:
        GateError: the results differ (NNC-G005).
    """
    try:
        samples = _samples(graph, built.manifest, ctx, most)
    except NncompError as error:
        return unseen(ctx, error.message)
    judge = Judge(graph, built, build, excused)
    other = at_other_sizes(built.manifest, samples[0]) if samples else None
    for feeds in [*samples, *([other] if other is not None else [])]:
        try:
            expected = judge.expected(feeds)
        except RuntimeFailure as error:
            if feeds is other:
                break
            return unseen(ctx, f"the graph cannot be run for comparison: {error.message}")
        try:
            problem = judge.problem(feeds, expected)
        except TimeIsUp as error:
            return unseen(ctx, error.message)
        except RuntimeFailure as error:
            if feeds is not other:
                raise
            unseen(ctx, f"with other sizes than those of the first sample it does not run: {error.message}")
            break
        if problem:
            hint = ""
            if ctx.reproducer is not None:
                search = Reproducer(lambda piece, fed: Judge(piece, build(piece, fed), build, excused).problem(fed))
                hint = search.write(graph, feeds, ctx.reproducer, command, problem)
            raise GateError(f"the compiled model is wrong: {problem}", code="NNC-G005", hint=hint)
    return len(samples)


def unseen(ctx: Context, reason: str) -> int:
    """Warn that nothing could be compared; return 0, the number of samples."""
    ctx.warn(UnseenWarning(f"the gate could not look: {reason}", code="NNC-W063"))
    return 0


class Judge:
    """Says what is wrong with a build.

    What does not quantize is compared with ONNX Runtime, op by op as it stands. What does is compared with its integer
    kernels, whose codes it should equal where nothing but integers decides. Where results differ, the graph is built
    once more, cut into stages (:mod:`~nncomp_tvm.stages`), and each is judged by what it is fed.

    Args:
        graph: A model's own graph.
        built: What was built from it.
        build: Builds another graph in the same way, for given inputs.
        excused: Relative error of floats that is the build's own choice.
    """

    def __init__(self, graph: Graph, built: Runnable, build: Build, excused: float = 0.0) -> None:
        self._graph, self._built, self._build, self._excused = graph, built, build, excused
        self._quantizes = quantizes(graph)
        self._reference = reference_of(graph, optimize=self._quantizes)
        self._staged: tuple[Stages, Runnable, Mapping[str, tuple[int, ...]]] | None = None

    def expected(self, feeds: Feeds) -> dict[str, Any]:
        """Return what ``feeds`` should give.

        Raises:
            RuntimeFailure: nobody runs the graph for comparison.
        """
        return self._reference(feeds)

    def problem(self, feeds: Feeds, expected: Mapping[str, Any] | None = None) -> str:
        """Say what is wrong when it runs on ``feeds``, which should give what is expected, "" if nothing is.

        Raises:
            RuntimeFailure: nobody runs the graph for comparison, or it does not run.
            TimeIsUp: it takes longer than it may.
        """
        expected = self._reference(feeds) if expected is None else expected
        try:
            got = self._built.run(feeds)
            if not self._quantizes:
                return self._problem_of(self._graph, feeds, expected, got, limit=self._excused)
            if not difference(self._graph, expected, got, limit=self._excused, steps=0):
                return ""
            problem = self._problem_in_stages(feeds)
        except KernelFault as fault:
            return fault.message
        if problem is None:
            return self._problem_of(self._graph, feeds, expected, got, limit=QUANTIZED_LIMIT)
        reals = {name: value for name, value in expected.items() if _has_float(value)}
        return problem or self._problem_of(self._graph, feeds, reals, got, limit=STAGED_LIMIT)

    def _problem_of(
        self, graph: Graph, feeds: Feeds, expected: Mapping[str, Any], got: Mapping[str, Any], *, limit: float
    ) -> str:
        """Say how results differ, "" if each is ONNX Runtime's or what the last operators give exactly."""
        optimize = self._quantizes and graph is self._graph
        for name, wanted in expected.items():
            problem = difference(graph, {name: wanted}, got, limit=limit)
            if not problem:
                continue
            exact = exactly(graph, feeds, name, optimize=optimize)
            if exact is None or difference(graph, {name: exact}, got, limit=limit):
                return problem
        return ""

    def _problem_in_stages(self, feeds: Feeds) -> str | None:
        """Say what is wrong in a stage, None where the graph cannot be cut, or its stages not be built."""
        stages = self._staged[0] if self._staged else Stages.of(self._graph)
        if stages is None:
            return None
        captured = stages.captured(feeds)
        fed = stages.feeds(feeds, captured)
        sizes = {name: np.shape(array) for name, array in fed.items()}
        if self._staged is None or self._staged[2] != sizes:
            try:
                self._staged = stages, self._build(stages.graph, fed), sizes
            except UnsupportedError:
                return None
        got, whole = self._staged[1].run(fed), stages.whole

        def differ(name: str, expected: Any, found: Any) -> str:
            return difference(whole, {name: expected}, {name: found}, limit=self._excused)

        ends = {stage.value for stage in stages.stages}
        results = {value.name: captured[value.name] for value in whole.outputs if value.name not in ends}
        problem = stages.misfit(captured, got, differ, excused=self._excused)
        return problem or self._problem_of(whole, feeds, results, got, limit=self._excused)


def difference(
    graph: Graph, expected: Mapping[str, Any], got: Mapping[str, Any], *, limit: float = 0.0, steps: int = 1
) -> str:
    """Say how results differ from ONNX Runtime's by more than the graph's types excuse, "" if they do not.

    Float outputs are held to a relative error (L2), integers to equality.

    Args:
        graph: What gives them.
        expected: What ONNX Runtime gives.
        got: What a build gives.
        limit: A relative error that is excused beyond that of the graph's types.
        steps: How far quantized outputs may be off.
    """
    limit = max(_limit(graph), limit)
    for name, wanted in expected.items():
        found = got[name]
        if isinstance(wanted, list) != isinstance(found, list):
            return f"output {name!r} is {_form(found)}, not {_form(wanted)}"
        quantized = _is_code(graph, name)
        if quantized and np.shape(wanted) == np.shape(found):
            farthest = int(np.abs(np.asarray(wanted, np.int64) - np.asarray(found, np.int64)).max(initial=0))
            if farthest > steps:
                return f"output {name!r} is up to {farthest} steps away from ONNX Runtime's"
            continue
        deviation = compare([{name: _saturated(wanted)}], [{name: _saturated(found)}])
        if deviation.identical or (deviation.relative <= limit and _has_float(wanted)):
            continue
        if _negligible(wanted, found):
            continue
        return f"output {name!r} is {deviation.relative:.2g} relative away from ONNX Runtime's"
    return ""


def reference_of(graph: Graph, *, optimize: bool = False) -> Callable[[Feeds], dict[str, Any]]:
    """Return what runs ``graph`` as ONNX means it: ONNX Runtime, or ONNX's evaluator where that has no kernel.

    Args:
        graph: A model's own graph.
        optimize: Let ONNX Runtime rewrite the graph, for its integer kernels.

    Raises, when called, RuntimeFailure: neither runs it.
    """
    try:
        return Session(graph, optimize=optimize).run
    except RuntimeFailure as refusal:
        message = refusal.message
        try:
            evaluator = ReferenceEvaluator(graph_to_proto(graph))
        except Exception as error:
            raise RuntimeFailure(message) from error

    def run(feeds: Feeds) -> dict[str, Any]:
        try:
            with np.errstate(all="ignore"):
                return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))
        except Exception as error:  # it raises whatever numpy does where it has no kernel
            raise RuntimeFailure(message) from error

    return run


def _samples(graph: Graph, manifest: Manifest, ctx: Context, most: int) -> list[Feeds]:
    if ctx.data is not None:
        return list(islice(iter(ctx.data), most))
    return [random_feeds(with_sizes(graph, manifest), seed=ctx.seed)]


def with_sizes(graph: Graph, manifest: Manifest) -> Graph:
    """Return a copy of ``graph`` whose inputs have the sizes that were compiled for."""
    twin = graph.clone()
    for port in manifest.inputs:
        value = twin.find(port.name)
        if port.shape is not None and isinstance(value.type, TensorType):
            twin.set_type(value, TensorType(value.type.dtype, tuple(dim or None for dim in port.shape)))
    return twin


def _limit(graph: Graph) -> float:
    dtypes = {value.type.dtype for value in graph.values() if isinstance(value.type, TensorType)}
    return HALF_LIMIT if dtypes & {DataType.FLOAT16, DataType.BFLOAT16} else FLOAT_LIMIT


def _is_code(graph: Graph, name: str) -> bool:
    producer = graph.find(name).producer
    return producer is not None and producer.kind in QUANTIZING and not producer.domain


def _form(value: Any) -> str:
    return "a sequence" if isinstance(value, list) else "a tensor"


def _has_float(value: Any) -> bool:
    return isinstance(value, list) or np.asarray(value).dtype.kind not in "iub"


def _saturated(value: Any) -> Any:
    """Return floats with the largest finite numbers as infinities.

    What is masked out is one in ONNX Runtime's kernels and the other in ONNX's definitions; so is the maximum of
    nothing but minus infinity.
    """
    if isinstance(value, list) or not np.issubdtype(np.asarray(value).dtype, np.floating):
        return value
    array = np.asarray(value)
    return np.where(np.abs(array) >= np.finfo(array.dtype).max, np.copysign(np.inf, array), array)


def _negligible(wanted: Any, found: Any) -> bool:
    """Whether both are nothing but rounding: outputs that cancel to zero have no relative error to speak of."""
    if isinstance(wanted, list) or np.shape(wanted) != np.shape(found) or not _has_float(wanted):
        return False
    a, b = np.asarray(wanted, np.float64), np.asarray(found, np.float64)
    return bool((np.abs(a) < 1e-6).all() and (np.abs(b) < 1e-6).all())
