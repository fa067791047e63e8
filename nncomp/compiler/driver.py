"""The driver: plan, passes, target, measurement, report, files; in this order, and files only at the end."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from nncomp import __version__
from nncomp.cache import Cache, RecomputedWarning
from nncomp.checkpoint import Checkpoint
from nncomp.compiler.evaluation import evaluate, missed_budget
from nncomp.compiler.outputs import LOCK, MODEL, REJECTED, REJECTED_REPORT, REPORT, write_outputs
from nncomp.compiler.planning import Prepared, prepare
from nncomp.compiler.request import BudgetMissedError, CompilePlan, CompileRequest, CompileResult
from nncomp.errors import ModelError, NncompWarning, ResourceError, UnsupportedError
from nncomp.gate import Gate
from nncomp.ir import Graph
from nncomp.passes import Pass
from nncomp.pipeline import PassRecord, Pipeline
from nncomp.plugins import Registry
from nncomp.report import Report, Resources, Warned, model_facts
from nncomp.runtime import RuntimeFailure
from nncomp.targets import Artifact, Measurement

log = logging.getLogger(__name__)


def compile_model(request: CompileRequest, registry: Registry | None = None) -> CompileResult:
    """Compile a model; ``request.model`` stays as it is.

    Nothing is written unless all of it went well, but for a result that misses its budget
    (``model.rejected.onnx`` and ``report.rejected.json``) and for what replays a pass that broke (``OUT.repro/``).

    Raises:
        BudgetMissedError: the result misses the budget (NNC-G004); it carries the result.
        NncompError: whatever went wrong; its code says what.
    """
    started = time.process_time()
    registry = registry if registry is not None else Registry.discover()
    with _recorded() as caught:
        prepared = prepare(request, registry)
        log.info("loaded %s: %s", prepared.name, prepared.digest)
        plan = prepared.plan(check=request.dry_run)
        if request.dry_run:
            return CompileResult(plan)
        with _kept(prepared) as (checkpoint, cache):
            made = _made(prepared, checkpoint, cache)
            made.warnings = _unique([*prepared.warnings, *made.warnings, *_of_data(prepared), *caught.ours])
            _refuse_warnings(request, made.warnings)
            return _delivered(prepared, plan, made, started, caught)


@contextlib.contextmanager
def _kept(prepared: Prepared) -> Iterator[tuple[Checkpoint | None, Cache | None]]:
    """Give what remembers; the checkpoint stays when the work is stopped, and goes when it ends."""
    checkpoint, folder = prepared.checkpoint(), prepared.request.cache
    if checkpoint is None:
        yield None, Cache(folder) if folder is not None else None
        return
    try:
        yield checkpoint, Cache(folder or checkpoint.cache_folder)
    except (KeyboardInterrupt, ResourceError, MemoryError) as stop:
        problem = checkpoint.write()
        if isinstance(stop, KeyboardInterrupt) and not problem:
            raise KeyboardInterrupt(f"--resume goes on after {checkpoint.place}") from stop
        raise
    except BaseException:
        checkpoint.discard()
        raise
    checkpoint.discard()


def _refuse_warnings(request: CompileRequest, warnings: Sequence[Warned]) -> None:
    if request.strict and warnings:
        first = warnings[0]
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        raise ModelError(f"--strict: a warning: {first.message}{more}", code=first.code or "NNC-W000")


class _PassLog:
    """Logs each pass that held."""

    name: ClassVar[str] = "log"

    def before_pass(self, step: Pass, graph: Graph) -> None:
        log.info("pass %s", step.spec)

    def after_pass(self, step: Pass, graph: Graph, record: PassRecord) -> None:
        log.info("pass %s: %d ops, %.2f s of CPU", step.name, record.ops_after, record.cpu_s + record.check_cpu_s)


@dataclass
class _Made:
    """What came out of the passes and the target, and what is known of it."""

    records: list[PassRecord]
    artifact: Artifact
    report: Report
    warnings: list[Warned]


def _made(prepared: Prepared, checkpoint: Checkpoint | None, cache: Cache | None) -> _Made:
    request, recipe = prepared.request, prepared.recipe
    ctx = prepared.context(cache)
    graph = prepared.original.clone()
    gate = Gate(prepared.feeds, seed=recipe.seed) if recipe.gate.enabled else None
    pipeline = Pipeline(
        prepared.passes,
        gate=gate,
        owners={step.name: prepared.registry.owner("pass", step.name) for step in prepared.passes},
        keep_going=request.keep_going,
        instruments=[_PassLog()],
        reproducer=Path(f"{request.out.resolve()}.repro") if request.out is not None else None,
        keeper=checkpoint,
    )
    records = pipeline.run(graph, ctx)
    _sign(graph, prepared.lock_passes())
    log.info("building for target %s", prepared.target.name)
    artifact = prepared.target.build(graph, ctx)
    feeds = prepared.feeds[0] if prepared.feeds else None
    log.info("comparing with the original")
    accuracy, skipped = evaluate(prepared, artifact)
    latency, not_measured = _measured(prepared, artifact)
    report = Report(
        nncomp=__version__,
        status="done",
        model_name=prepared.name,
        digest=prepared.digest,
        seed=recipe.seed,
        target=prepared.target.name,
        recipe=tuple(record.spec for record in records),
        gated=gate is not None,
        before=model_facts(prepared.original, prepared.registry.ops, feeds=feeds),
        after=model_facts(graph, prepared.registry.ops, feeds=feeds),
        before_bytes=prepared.input_bytes,
        passes=tuple(records),
        results=ctx.results,
        accuracy=accuracy,
        accuracy_skipped=skipped,
        target_report=artifact.report(),
        budget={name: limit for name, limit in recipe.budget.model_dump().items() if limit is not None},
        missed=missed_budget(recipe.budget, accuracy),
        latency=latency,
        latency_skipped=not_measured,
    )
    found = [*_of_passes(records), *(Warned(code, message) for code, message in ctx.data_warnings)]
    return _Made(records, artifact, report, found)


def _delivered(prepared: Prepared, plan: CompilePlan, made: _Made, started: float, caught: _Recorded) -> CompileResult:
    request = prepared.request
    lock = prepared.lock().to_toml()
    rejected = bool(made.report.missed)
    report = replace(
        made.report,
        status="rejected" if rejected else "done",
        warnings=tuple(made.warnings),
        resources=Resources(time.process_time() - started, _peak_memory()),
    )
    files: tuple[Path, ...] = ()

    def texts(artifact: Sequence[Path]) -> dict[str, str]:
        nonlocal report
        sizes = tuple((path.name, path.stat().st_size) for path in artifact)
        report = replace(report, files=sizes, after_bytes=sum(size for _, size in sizes))
        return {REJECTED_REPORT: report.to_json()} if rejected else {REPORT: report.to_json(), LOCK: lock}

    if request.out is not None:
        name = REJECTED if rejected else MODEL
        files = write_outputs(request.out, lambda folder: made.artifact.save(folder, name=name), texts)
    result = CompileResult(plan, report, made.artifact, files, lock, tuple(caught.notices))
    if rejected:
        kept = f"the result is kept as {str(files[0])!r}" if files else "loosen the budget, or change the recipe"
        raise BudgetMissedError(f"the budget is missed: {'; '.join(report.missed)}", result=result, hint=kept)
    return result


def _sign(graph: Graph, passes: Sequence[str]) -> None:
    """Note in the model what made it; no dates, so that the same input gives the same bytes."""
    metadata = {**graph.info.metadata, "nncomp.version": __version__, "nncomp.recipe": "\n".join(passes)}
    graph.set_info(metadata=MappingProxyType(metadata))


def _measured(prepared: Prepared, artifact: Artifact) -> tuple[Measurement | None, str]:
    """Return the comparison with the original, or why there is none: the target may not take the original at all."""
    if not prepared.request.measure:
        return None, "not asked for"
    if not prepared.feeds:
        return None, prepared.feeds_skipped
    prepared.request.progress.step("latency", 0, None)
    try:
        seconds = prepared.request.measure_seconds
        return artifact.measure(prepared.feeds[0], prepared.original, seconds=seconds), ""
    except (UnsupportedError, RuntimeFailure) as error:
        return None, error.message


def _of_passes(records: Sequence[PassRecord]) -> list[Warned]:
    found = []
    for record in records:
        for note in record.notes:
            if note.event == "warning":
                at = f" at {note.node!r}" if note.node else ""
                found.append(Warned(note.code, f"{record.spec.partition('{')[0]}{at}: {note.reason}"))
        if record.gate is not None and record.gate.skipped:
            found.append(Warned("NNC-W063", f"the gate could not look: {record.gate.skipped}"))
    return found


def _of_data(prepared: Prepared) -> list[Warned]:
    sources = list(dict.fromkeys([prepared.data.calibration, prepared.data.evaluation]))
    return [Warned(one.code, one.message) for source in sources if source is not None for one in source.warnings]


def _unique(found: Sequence[Warned]) -> list[Warned]:
    return list(dict.fromkeys(found))


class _Recorded:
    """Warnings of ours that were raised so far."""

    def __init__(self, caught: Sequence[warnings.WarningMessage]) -> None:
        self._caught = caught

    @property
    def ours(self) -> list[Warned]:
        """Those that the report lists."""
        return self._of(NncompWarning, RecomputedWarning)

    @property
    def notices(self) -> list[Warned]:
        """Those that are shown, and say nothing of the result."""
        return self._of(RecomputedWarning, ())

    def _of(self, kind: type[NncompWarning], other: type[NncompWarning] | tuple[()]) -> list[Warned]:
        found = [one.message for one in self._caught if not isinstance(one.message, other)]
        return [Warned(one.code, one.message) for one in found if isinstance(one, kind)]


@contextlib.contextmanager
def _recorded() -> Iterator[_Recorded]:
    """Collect warnings of ours that are raised inside; others are shown as always, afterwards."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NncompWarning)
        yield _Recorded(caught)
    for one in caught:
        if not isinstance(one.message, NncompWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def _peak_memory() -> int:
    """Return the peak resident memory of this process in bytes, 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
