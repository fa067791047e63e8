"""check_target: what every target must keep, tried on graphs that models are made of."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nncomp.errors import CODES, NncompError, UnsupportedError
from nncomp.gate import HALF_LIMIT, compare
from nncomp.infer import infer_types
from nncomp.ir import DataType, Graph, TensorType
from nncomp.onnx_io import to_bytes
from nncomp.options import parse_spec
from nncomp.runtime import RuntimeFailure, Session
from nncomp.targets import Artifact, Capabilities, Target
from nncomp.testing.lawful import Breach, Feeds, MakeContext
from nncomp.testing.option_kit import refusals, silent
from nncomp.testing.pass_kit import BATCHES, NAME, bare, samples
from nncomp.testing.specimens import specimens
from nncomp.testing.violations import TARGET_LAWS, violation

_LEVELS: Final = frozenset({"ok", "float", "refused"})


@dataclass(slots=True)
class TargetReport:
    """What was tried.

    Attributes:
        built: What is odd about the graphs that the target built.
        refused: Why it refused the others.
        missing: The command that installs what it lacks; then nothing was built.
    """

    built: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    missing: str = ""


def check_target(
    target: Target,
    *,
    builds: Sequence[Graph] = (),
    graphs: Mapping[str, Graph] | None = None,
    context: MakeContext | None = None,
    tolerance: float = 1e-4,
    sizes: Sequence[int] = BATCHES,
) -> TargetReport:
    """Hold a target to the laws of :data:`nncomp.testing.TARGET_LAWS`.

    It gets the graphs of :func:`nncomp.testing.specimens` and those of ``builds``, as they are: what recipes make of
    them is not asked. It may refuse specimens; ``check`` and ``build`` must agree on which.

    Args:
        target: The target, with the options to try.
        builds: Graphs that the target must build; at least one graph at all must be built.
        graphs: Others than the specimens, by what is odd about them: fewer for a compiler that takes its time.
        context: Gives the context to build in, by graph; default: one with nothing in it but the capabilities.
        tolerance: Relative error (L2) of each output against ONNX Runtime without optimizations; graphs with half
            precision get 1e-2.
        sizes: Of open dimensions that one artifact must run; one only for a target that fixes them when it builds.

    Raises:
        AssertionError: a law is broken; the message says which, what was found, and shows the graph.
    """
    __tracebackhide__ = True  # in pytest: the message says it all
    report = TargetReport()
    for breach in _declarations(target):
        raise _told(target, breach)
    given = specimens() if graphs is None else graphs
    named = {**given, **{f"graph {number} of builds": graph for number, graph in enumerate(builds)}}
    report.missing = target.missing()
    for label, graph in named.items():
        infer_types(graph)
        for breach in _broken_by(_Trial(target, label, graph, context or bare, tolerance, sizes, report)):
            raise _told(target, breach, label=label, given=graph)
        if report.missing:
            return report
        if label not in report.built and label.startswith("graph "):
            raise _told(target, Breach("builds", report.refused[label]), label=label, given=graph)
    if not report.built:
        raise _told(target, Breach("builds", f"all of {len(named)} graphs are refused: give one in builds"))
    return report


@dataclass(frozen=True, slots=True)
class _Trial:
    """One graph on one target."""

    target: Target
    label: str
    graph: Graph
    context: MakeContext
    tolerance: float
    sizes: Sequence[int]
    report: TargetReport

    def build(self) -> Artifact:
        ctx = self.context(self.graph)
        ctx.target = self.target.capabilities
        return self.target.build(self.graph, ctx)

    def refusal(self) -> str:
        """Return why ``check`` refuses the graph, "" if it does not."""
        refused = [one for one in self.target.check(self.graph, self.context(self.graph)) if one.level == "refused"]
        return refused[0].reason if refused else ""


def _declarations(target: Target) -> Iterator[Breach]:
    kind = type(target)
    name, summary, found = (getattr(kind, key, None) for key in ("name", "summary", "capabilities"))
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield Breach("declared", f"the name is {name!r}")
    elif not isinstance(summary, str) or not summary.strip() or "\n" in summary:
        yield Breach("declared", f"the summary is {summary!r}")
    elif not isinstance(found, Capabilities) or not 1 <= found.opsets[0] <= found.opsets[1]:
        yield Breach("declared", f"capabilities are {found!r}")
    elif not isinstance(getattr(kind, "default_recipe", None), str):
        yield Breach("declared", "there is no default_recipe: it may be empty")
    elif not isinstance(target.missing(), str):
        yield Breach("missing", f"missing() gives {target.missing()!r}")
    else:
        yield from silent(kind.option_type)
        yield from _options(target)


def _options(target: Target) -> Iterator[Breach]:
    kind = type(target)
    try:
        name, options = parse_spec(target.spec)
        again = kind.from_options(options)
        if (name, again.spec) != (kind.name, target.spec):
            yield Breach("options", f"{target.spec!r} is read back as {again.spec!r}")
    except NncompError as error:
        yield Breach("options", f"{target.spec!r} is not read back: {error.message}")
    yield from refusals(kind.from_options, kind.option_type)


def _broken_by(trial: _Trial) -> Iterator[Breach]:
    """Yield the laws that a target breaks on one graph."""
    given = to_bytes(trial.graph)
    try:
        yield from _broken(trial)
    except NncompError as error:
        yield Breach("errors", f"{type(error).__name__} {error.code}: {error.message}")
    except Exception as error:  # noqa: BLE001  as above
        yield Breach("errors", f"{type(error).__name__}: {error}")
    if to_bytes(trial.graph) != given:
        yield Breach("given", "the graph is another than before")


def _broken(trial: _Trial) -> Iterator[Breach]:
    if trial.report.missing:
        yield from _without_library(trial)
        return
    yield from _findings(trial)
    refused = trial.refusal()
    try:
        artifact = trial.build()
    except NncompError as error:
        if error.code not in CODES or error.code == NncompError.default_code:
            yield Breach("errors", f"{type(error).__name__} has the code {error.code!r}: {error.message}")
        elif not refused:
            yield Breach("agreement", f"check() refuses nothing, and build() says: {error.message}")
        trial.report.refused[trial.label] = refused
        return
    if refused:
        yield Breach("agreement", f"check() says {refused!r}, and build() builds")
    trial.report.built.append(trial.label)
    yield from _files(artifact, trial.build())
    yield from _said(artifact)
    yield from _outputs(trial, artifact)


def _without_library(trial: _Trial) -> Iterator[Breach]:
    try:
        trial.build()
    except UnsupportedError as error:
        if error.code != "NNC-T001":
            yield Breach("missing", f"without its library it says {error.code}: {error.message}")
    else:
        yield Breach("missing", f"missing() says {trial.report.missing!r}, and build() builds")


def _findings(trial: _Trial) -> Iterator[Breach]:
    labels = {"", *(op.label for _, op in trial.graph.walk()), *(op.name for _, op in trial.graph.walk())}
    for one in trial.target.check(trial.graph, trial.context(trial.graph)):
        if one.level not in _LEVELS or one.node not in labels or not (one.reason or one.level == "ok"):
            yield Breach("findings", f"{one}")


def _files(artifact: Artifact, again: Artifact) -> Iterator[Breach]:
    """Save two builds of one graph, one of them twice."""
    with tempfile.TemporaryDirectory(prefix="nncomp-") as folder:
        found = [
            _saved(one, Path(folder) / place, name)
            for one, place, name in ((artifact, "a", "model"), (again, "b", "model"), (again, "c", "other"))
        ]
    for name, (returned, files) in zip(("model", "model", "other"), found, strict=True):
        if not returned or not returned[0].startswith(name):
            yield Breach("files", f"save(..., name={name!r}) returns {returned}")
        elif set(returned) != set(files):
            yield Breach("files", f"save() returns {returned}, and wrote {sorted(files)}")
    if found[0][1] != found[1][1]:
        differing = [name for name, data in found[0][1].items() if found[1][1].get(name) != data]
        yield Breach("determinism", f"built again, {differing[0]!r} has other bytes")
    if json.dumps(artifact.report(), default=str) != json.dumps(again.report(), default=str):
        yield Breach("determinism", "built again, the report is another")


def _saved(artifact: Artifact, folder: Path, name: str) -> tuple[list[str], dict[str, bytes]]:
    """Return the files that ``save`` names, and what lies in the folder afterwards."""
    folder.mkdir()
    returned = [_inside(Path(path), folder) for path in artifact.save(folder, name=name)]
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return returned, files


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _said(artifact: Artifact) -> Iterator[Breach]:
    try:
        json.dumps(artifact.report())
    except (TypeError, ValueError) as error:
        yield Breach("report", f"report() is no JSON: {error}")
    for table in artifact.tables():
        if any(len(row) != len(table.columns) for row in table.rows):
            yield Breach("report", f"table {table.title!r} has rows of other lengths than its columns")
    for label, cost in (artifact.costs() or {}).items():
        if not all(math.isfinite(one) and one >= 0 for one in (cost.latency_us, cost.energy_pj)):
            yield Breach("report", f"costs() of {label!r} are {cost}")


def _outputs(trial: _Trial, artifact: Artifact) -> Iterator[Breach]:
    """Compare outputs with ONNX Runtime's, for two sizes of open dimensions, and one latency with itself."""
    found = samples(trial.graph, trial.sizes)
    try:
        reference = Session(trial.graph)
    except RuntimeFailure:
        return  # nobody knows what is right
    expected = [reference.run(feeds) for feeds in found]
    for feeds, wanted in zip(found, expected, strict=True):
        got = artifact.run(feeds)
        if set(got) != set(wanted):
            yield Breach("outputs", f"the outputs are {sorted(got)}, expected {sorted(wanted)}")
            return
        deviation = compare([wanted], [got])
        if not deviation.identical and deviation.relative > _limit(trial):
            off = f"output {deviation.worst_output!r} is off by {deviation.relative:.2g} relative"
            yield Breach("outputs", f"with inputs {_shapes(feeds)} {off}")
        elif not compare([got], [artifact.run(feeds)]).identical:
            yield Breach("determinism", "run again on the same inputs, it gives other outputs")
    if found:
        yield from _measured(trial, artifact, found[0])


def _measured(trial: _Trial, artifact: Artifact, feeds: Feeds) -> Iterator[Breach]:
    found = artifact.measure(feeds, trial.graph, seconds=0.0)
    low, high = found.spread
    numbers = (found.latency_us, found.baseline_us, found.ratio, low, high)
    if not all(math.isfinite(one) and one > 0 for one in numbers) or not low <= found.ratio <= high:
        yield Breach("measure", f"{found}")


def _limit(trial: _Trial) -> float:
    types = [value.type for value in trial.graph.values()]
    half = any(isinstance(one, TensorType) and one.dtype in (DataType.FLOAT16, DataType.BFLOAT16) for one in types)
    return max(trial.tolerance, HALF_LIMIT) if half else trial.tolerance


def _shapes(feeds: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in feeds.items()}


def _told(target: Target, breach: Breach, *, label: str = "", given: Graph | None = None) -> AssertionError:
    name = getattr(target, "name", type(target).__name__)
    return violation(f"target {name!r}", breach.law, TARGET_LAWS, breach.found, label=label, graphs={"given": given})
