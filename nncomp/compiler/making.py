"""Make: run the passes, build for the target, compare with the original; and search where the budget asks for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

from nncomp import __version__
from nncomp.cache import Cache
from nncomp.checkpoint import Checkpoint
from nncomp.compiler.datasets import data_options
from nncomp.compiler.evaluation import Reference, evaluate, missed_budget
from nncomp.compiler.layering import layer_report
from nncomp.compiler.planning import Prepared
from nncomp.compiler.search import Search
from nncomp.compiler.watching import SEEN, ValueWatch, seen_values
from nncomp.compiler.workbench import Workbench, tunable
from nncomp.errors import ModelError, UnsupportedError, Where
from nncomp.gate import Gate
from nncomp.infer import contradiction
from nncomp.ir import Graph
from nncomp.passes import Context, Pass
from nncomp.pipeline import PassRecord, Pipeline
from nncomp.report import Accuracy, Report, SearchReport, Warned, model_facts, sized_facts, with_shapes
from nncomp.runtime import RuntimeFailure
from nncomp.targets import Artifact, Measurement

log = logging.getLogger(__name__)


class _PassLog:
    """Logs each pass that held."""

    name: ClassVar[str] = "log"

    def before_pass(self, step: Pass, graph: Graph) -> None:
        log.info("pass %s", step.spec)

    def after_pass(self, step: Pass, graph: Graph, record: PassRecord) -> None:
        log.info("pass %s: %d ops, %.2f s of CPU", step.name, record.ops_after, record.cpu_s + record.check_cpu_s)


@dataclass
class Made:
    """What came out of the passes and the target, and what is known of it."""

    records: list[PassRecord]
    graph: Graph
    artifact: Artifact
    report: Report
    warnings: list[Warned]


def make(prepared: Prepared, checkpoint: Checkpoint | None, cache: Cache | None) -> tuple[Prepared, Made]:
    """Return what is made, and the compilation with the passes that made it.

    When the result misses the budget, and a pass of the recipe can be tuned, others are looked for.
    """
    request = prepared.request
    ctx = prepared.context(cache)
    graph = prepared.original.clone()
    pipeline = Pipeline(
        prepared.passes,
        gate=_gate(prepared),
        owners={step.name: prepared.registry.owner("pass", step.name) for step in prepared.passes},
        keep_going=request.keep_going,
        apart=request.isolate,
        instruments=[_PassLog(), ValueWatch(ctx, prepared.feeds)],
        reproducer=prepared.reproducer,
        replay_options=prepared.registry.flags,
        keeper=checkpoint,
    )
    records = pipeline.run(graph, ctx)
    made = _judged(prepared, graph, records, ctx)
    if not made.report.missed or made.report.accuracy is None or not prepared.recipe.search.trials:
        return prepared, made
    try:
        number = tunable(prepared)
    except UnsupportedError:
        return prepared, made
    return _searched(prepared, made, Workbench.at(prepared, number, cache), checkpoint)


def _searched(prepared: Prepared, made: Made, bench: Workbench, checkpoint: Checkpoint | None) -> tuple[Prepared, Made]:
    """Give back what the budget asks for; ``made`` is what comes of giving back nothing."""
    log.info("searching: %s", "; ".join(made.report.missed))
    reference = Reference(prepared)
    kept = checkpoint.search_memory(prepared.passes) if checkpoint is not None else None

    def judge(artifact: Artifact) -> Accuracy | None:
        return evaluate(prepared, artifact, reference)[0]

    step, report = Search(bench, judge, prepared.recipe.search, kept).run()
    if step == bench.step:
        made.report = replace(made.report, search=report)
        return prepared, made
    graph, records, ctx = bench.made(step, _gate(prepared))
    if prepared.feeds:
        ctx.results[SEEN] = seen_values(bench.base, graph, prepared.feeds[0], ctx, step.name)
    passes = [*prepared.passes]
    passes[bench.number] = step
    tuned = replace(prepared, passes=passes)
    result = _judged(tuned, graph, [*made.records[: bench.number], *records], ctx, reference=reference, search=report)
    result.warnings = [*made.warnings, *result.warnings]
    return tuned, result


def _gate(prepared: Prepared) -> Gate | None:
    recipe = prepared.recipe
    return Gate(prepared.feeds, seed=recipe.seed) if recipe.gate.enabled else None


def _judged(
    prepared: Prepared,
    graph: Graph,
    records: list[PassRecord],
    ctx: Context,
    *,
    reference: Reference | None = None,
    search: SearchReport | None = None,
) -> Made:
    """Build what the passes made, and compare it with the original."""
    recipe = prepared.recipe
    _sign(graph, prepared)
    log.info("building for target %s", prepared.target.name)
    artifact = _built(prepared, graph, ctx)
    feeds = prepared.feeds[0] if prepared.feeds else None
    log.info("comparing with the original")
    accuracy, skipped = evaluate(prepared, artifact, reference)
    latency, not_measured = _measured(prepared, artifact)
    results = {name: result for name, result in ctx.results.items() if name != SEEN}
    sized = with_shapes(graph, prepared.registry.ops, {}, feeds=feeds)
    report = Report(
        nncomp=__version__,
        status="done",
        model_name=prepared.name,
        digest=prepared.digest,
        seed=recipe.seed,
        target=prepared.target.name,
        recipe=tuple(record.spec for record in records),
        gated=recipe.gate.enabled,
        before=model_facts(prepared.original, prepared.registry.ops, feeds=feeds),
        after=sized_facts(sized, prepared.registry.ops),
        before_bytes=prepared.input_bytes,
        passes=tuple(records),
        results=results,
        layers=layer_report(prepared, sized, artifact, results, ctx.results.get(SEEN, {})),
        accuracy=accuracy,
        accuracy_skipped=skipped,
        target_report=artifact.report(),
        budget={name: limit for name, limit in recipe.budget.model_dump().items() if limit is not None},
        missed=missed_budget(recipe.budget, accuracy),
        search=search,
        latency=latency,
        latency_skipped=not_measured,
    )
    found = [*_of_passes(records), *(Warned(code, message) for code, message in ctx.data_warnings)]
    return Made(records, graph, artifact, report, found)


def _built(prepared: Prepared, graph: Graph, ctx: Context) -> Artifact:
    try:
        return prepared.target.build(graph, ctx)
    except UnsupportedError as refusal:
        wrong = contradiction(prepared.original)
        if wrong:  # nobody could run it
            where = Where(file=prepared.name)
            raise ModelError(f"types do not fit: {wrong}", code="NNC-M040", where=where) from refusal
        raise


def _sign(graph: Graph, prepared: Prepared) -> None:
    """Note in the model what made it, and what its images went through; no dates: the same input, the same bytes."""
    notes = {"nncomp.version": __version__, "nncomp.recipe": "\n".join(prepared.lock_passes())}
    preprocess = data_options(prepared.request, prepared.recipe).preprocess
    if preprocess is not None:
        notes["nncomp.preprocess"] = preprocess.model_dump_json(exclude_defaults=True)
    graph.set_info(metadata=MappingProxyType({**graph.info.metadata, **notes}))


def _measured(prepared: Prepared, artifact: Artifact) -> tuple[Measurement | None, str]:
    """Return the comparison with the original, or why there is none: the target may not take the original at all."""
    if not prepared.request.measure:
        return None, "not asked for"
    if not prepared.feeds:
        return None, prepared.feeds_skipped
    if artifact.unrunnable():
        return None, artifact.unrunnable()
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
