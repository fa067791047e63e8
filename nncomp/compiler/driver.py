"""The driver: plan, passes, target, measurement, report, files; in this order, and files only at the end."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from nncomp.cache import Cache, RecomputedWarning
from nncomp.checkpoint import Checkpoint
from nncomp.compiler.making import Made, make
from nncomp.compiler.outputs import (
    LOCK,
    MODEL,
    PAGE,
    REJECTED,
    REJECTED_PAGE,
    REJECTED_REPORT,
    REPORT,
    earlier,
    write_outputs,
)
from nncomp.compiler.planning import Prepared, prepare
from nncomp.compiler.request import BudgetMissedError, CompilePlan, CompileRequest, CompileResult
from nncomp.errors import ModelError, NncompWarning, ResourceError
from nncomp.plugins import Registry
from nncomp.report import Resources, Warned
from nncomp.report.jsontext import json_text
from nncomp.report.page import report_page
from nncomp.timelimit import runs_limited

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
    with _recorded() as caught, runs_limited(request.run_seconds):
        prepared = prepare(request, registry)
        log.info("loaded %s: %s", prepared.name, prepared.digest)
        plan = prepared.plan(check=request.dry_run)
        if request.dry_run:
            return CompileResult(plan)
        with _kept(prepared) as (checkpoint, cache):
            prepared, made = make(prepared, checkpoint, cache)
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
        disk_refused = isinstance(stop, ResourceError) and stop.code == "NNC-E001"
        problem = checkpoint.leave() if disk_refused else checkpoint.write()
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


def saved(result: CompileResult, out: Path) -> CompileResult:
    """Write what a compilation gave into a folder: all of it, or nothing.

    A result that misses its budget gets other names, and no exact recipe.

    Returns:
        The result with its files, and a report that knows their sizes.

    Raises:
        ResourceError: the disk refused (NNC-E001).
    """
    report, artifact = result.report, result.artifact
    assert report is not None
    assert artifact is not None
    rejected = bool(report.missed)
    sized = report

    def texts(written: Sequence[Path]) -> dict[str, str]:
        nonlocal sized
        sizes = tuple((path.name, path.stat().st_size) for path in written)
        sized = replace(report, files=sizes, after_bytes=sum(size for _, size in sizes))
        shown = sized.as_dict()
        text, page = f"{json_text(shown)}\n", report_page(shown)
        return (
            {REJECTED_REPORT: text, REJECTED_PAGE: page} if rejected else {REPORT: text, PAGE: page, LOCK: result.lock}
        )

    name = REJECTED if rejected else MODEL
    files = write_outputs(out, lambda folder: artifact.save(folder, name=name), texts)
    return replace(result, report=sized, files=files)


def _delivered(prepared: Prepared, plan: CompilePlan, made: Made, started: float, caught: _Recorded) -> CompileResult:
    out, missed = prepared.request.out, made.report.missed
    report = replace(
        made.report,
        status="rejected" if missed else "done",
        warnings=tuple(made.warnings),
        resources=Resources(time.process_time() - started, _peak_memory()),
    )
    lock, notices = prepared.lock().to_toml(), tuple(caught.notices)
    result = CompileResult(plan, report, made.artifact, made.graph, lock=lock, notices=notices)
    if out is not None:
        result = saved(result, out)
    if missed:
        files = result.files
        kept = f"the result is kept as {str(files[0])!r}" if files else "loosen the budget, or change the recipe"
        if older := [] if out is None else earlier(out):
            kept += f"; {' and '.join(older)} in that folder {'is' if len(older) == 1 else 'are'} of an earlier run"
        raise BudgetMissedError(f"the budget is missed: {'; '.join(missed)}", result=result, hint=kept)
    return result


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
