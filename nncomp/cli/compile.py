"""``nncomp compile``: run passes, build for a target, compare with the original, write results.

JSON: the report (see :mod:`nncomp.report.report`) with ``out`` in front; with ``--dry-run`` the plan (see
:class:`nncomp.compiler.CompilePlan`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nncomp.cli.options import (
    CacheFolder,
    Data,
    Debug,
    Json,
    Limit,
    Model,
    NoCache,
    PassSpecs,
    Plugins,
    Preprocess,
    RecipeName,
    SkipBad,
    TargetWish,
    Threads,
)

if TYPE_CHECKING:
    from nncomp.compiler import CompileRequest, CompileResult
    from nncomp.plugins import Registry

Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Where results go.", show_default=False)
]
Hardware = Annotated[
    str, typer.Option("--hw", metavar="NAME|FILE", help="For a target that describes machines: which one.")
]
Compare = Annotated[bool, typer.Option("--compare", help="For a target that prices: the dense baseline beside it.")]
MaxDrop = Annotated[str, typer.Option("--max-drop", metavar="SHARE", help="Accuracy that may be lost: 0.005, or 0.5%.")]
MinSqnr = Annotated[str, typer.Option("--min-sqnr", metavar="DB", help="Least SQNR of each output: 20, or 20dB.")]
Trials = Annotated[
    int | None,
    typer.Option(
        "--trials", metavar="N", min=0, max=10_000, show_default=False,
        help="Results to try when the first misses the budget; 0 does not search (default: 40).",
    ),
]  # fmt: skip
SearchSeconds = Annotated[
    float | None,
    typer.Option(
        "--search-seconds", metavar="S", min=0, help="Wall time to search (default: 900).", show_default=False
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and what the target says; do nothing.")]
Explain = Annotated[bool, typer.Option("--explain", help="Show which rules fired or declined, and why.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files of our names that no compilation wrote.")]
KeepGoing = Annotated[bool, typer.Option("--keep-going", help="Roll back a pass that fails and go on.")]
Isolate = Annotated[bool, typer.Option("--isolate", help="Run each pass in a process of its own, which may crash.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a result that comes with warnings (exit 3).")]
NoGate = Annotated[bool, typer.Option("--no-gate", help="Do not check each pass against the graph before it.")]
RunSeconds = Annotated[
    float,
    typer.Option(
        "--run-seconds", metavar="S", min=0.001, show_default=False,
        help="Wall time that one run of a model may take (default: 600).",
    ),
]  # fmt: skip
NoMeasure = Annotated[bool, typer.Option("--no-measure", help="Do not measure latency.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier run of the same was stopped.")]
Freeze = Annotated[
    bool, typer.Option("--freeze", help="Make constants of inputs with defaults; changes the interface.")
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Of everything random.", show_default=False),
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say on stderr what is going on.")]


def compile_(
    model: Model,
    *,
    out: Out = None,
    target: TargetWish = "",
    hw: Hardware = "",
    compare: Compare = False,
    recipe: RecipeName = "",
    pass_: PassSpecs = None,
    data: Data = "",
    preprocess: Preprocess = "",
    limit: Limit = None,
    skip_bad: SkipBad = None,
    max_drop: MaxDrop = "",
    min_sqnr: MinSqnr = "",
    trials: Trials = None,
    search_seconds: SearchSeconds = None,
    dry_run: DryRun = False,
    explain: Explain = False,
    force: Force = False,
    keep_going: KeepGoing = False,
    isolate: Isolate = False,
    strict: Strict = False,
    no_gate: NoGate = False,
    run_seconds: RunSeconds = 600.0,
    no_measure: NoMeasure = False,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    resume: Resume = False,
    freeze: Freeze = False,
    seed: Seed = None,
    threads: Threads = 1,
    verbose: Verbose = False,
    plugin: Plugins = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile a model and compare it with the original."""
    from nncomp.cli.options import cache_folder, quantity
    from nncomp.cli.registry import load_registry
    from nncomp.cli.streams import shown_log
    from nncomp.compiler import CompileRequest
    from nncomp.compiler.planning import DEFAULT_TARGET
    from nncomp.errors import UsageError

    registry = load_registry(plugin)
    if out is None and not dry_run and not _prices(target, registry):
        raise UsageError("where to? -o is missing", hint="-o FOLDER, or --dry-run for the plan alone")
    options: dict[str, object] = ({"hw": hw} if hw else {}) | ({"compare": True} if compare else {})
    if options and not recipe and not _prices(target or DEFAULT_TARGET, registry):
        _refuse_options(target or DEFAULT_TARGET, options, registry)
    request = CompileRequest.of(
        model,
        out=out,
        target=target,
        target_options=options,
        recipe=recipe,
        passes=tuple(pass_ or ()),
        data=data,
        preprocess=preprocess,
        limit=limit,
        skip_bad=skip_bad,
        max_drop=quantity("--max-drop", max_drop, "%", 0.01),
        min_sqnr_db=quantity("--min-sqnr", min_sqnr, "dB"),
        trials=trials,
        search_seconds=search_seconds,
        seed=seed,
        threads=threads,
        gate=not no_gate,
        run_seconds=run_seconds,
        measure=not no_measure,
        freeze=freeze,
        force=force,
        dry_run=dry_run,
        keep_going=keep_going,
        isolate=isolate,
        strict=strict,
        cache=cache_folder(cache, no_cache=no_cache),
        resume=resume,
    )
    with shown_log(verbose=verbose):
        run_and_show(request, registry, json=json, explain=explain)


def _prices(target: str, registry: Registry) -> bool:
    """True for a target that only prices: an unknown name is somebody else's to refuse."""
    from nncomp.options import parse_spec

    found = registry.targets.get(parse_spec(target)[0])
    return found is not None and found.prices


def _refuse_options(target: str, options: dict[str, object], registry: Registry) -> None:
    """Say which targets have the options that ``target`` lacks.

    Raises:
        NncompError: as the target's own refusal.
    """
    from nncomp.errors import RecipeError
    from nncomp.options import parse_spec

    try:
        registry.target(target, options)
    except RecipeError as error:
        known = {name: found.option_type.model_fields for name, found in sorted(registry.targets.items())}
        lacking = options.keys() - known.get(parse_spec(target)[0], options).keys()
        having = [f"-t {name}" for name, fields in known.items() if lacking and lacking <= fields.keys()]
        if having:
            error.hint = f"--{next(name for name in options if name in lacking)} is for {' or '.join(having)}"
        raise


def run_and_show(request: CompileRequest, registry: Registry, *, json: bool, explain: bool = False) -> CompileResult:
    """Compile with progress on stderr, then print plan or report; a missed budget shows its report, too."""
    from dataclasses import replace

    from nncomp.cli.memory import give_back_at_once
    from nncomp.cli.progress import shown_progress
    from nncomp.compiler import BudgetMissedError, compile_model

    give_back_at_once()
    try:
        with shown_progress() as progress:
            result = compile_model(replace(request, progress=progress), registry)
    except BudgetMissedError as missed:
        _show(missed.result, request, json=json, explain=explain, error=missed.as_dict())
        if json:
            raise typer.Exit(missed.exit_status) from None
        raise
    _show(result, request, json=json, explain=explain)
    return result


def _show(
    result: CompileResult,
    request: CompileRequest,
    *,
    json: bool,
    explain: bool,
    error: dict[str, object] | None = None,
) -> None:
    from dataclasses import asdict

    from nncomp.cli.streams import message, one_line
    from nncomp.cli.summary import show_plan, show_report
    from nncomp.cli.tables import show_json
    from nncomp.report import plain

    warnings = result.plan.warnings if result.report is None else result.report.warnings
    for warning in (*result.notices, *warnings):
        message(f"warning {warning.code}: {one_line(warning.message)}")
    if json:
        shown: dict[str, Any] = plain(asdict(result.plan)) if result.report is None else result.report.as_dict()
        if result.report is not None:
            shown = {"out": None if request.out is None else str(request.out), **shown}
        show_json(shown if error is None else {**shown, "error": error})
    elif result.report is None:
        show_plan(result.plan)
    else:
        tables = () if result.artifact is None else result.artifact.tables()
        show_report(result.report, result.files, explain=explain, tables=tables)
