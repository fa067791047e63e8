"""The result against the original: on data where there is some, on random inputs otherwise; and against the budget."""

from __future__ import annotations

from itertools import islice
from typing import Final

from nncomp.compiler.planning import Prepared
from nncomp.errors import UnsupportedError
from nncomp.recipe import Budget
from nncomp.report import Accuracy, compare_runs
from nncomp.runtime import RuntimeFailure, Session
from nncomp.targets import Artifact

_SEEN_SAMPLES: Final = 32


def evaluate(prepared: Prepared, artifact: Artifact) -> tuple[Accuracy | None, str]:
    """Return how far ``artifact`` lies from the original, or why nobody knows."""
    data, progress = prepared.data, prepared.request.progress
    if not prepared.feeds:
        return None, prepared.feeds_skipped
    total = data.evaluation.size if data.evaluation is not None else len(prepared.feeds)
    samples = data.samples() if data.evaluation is not None else ((feeds, None) for feeds in prepared.feeds)
    if not data.held_out and data.labels is None:
        # Seen samples without labels say how near the result is, which a few say as well as all.
        samples, total = islice(samples, _SEEN_SAMPLES), min(total or _SEEN_SAMPLES, _SEEN_SAMPLES)
    try:
        original = Session(prepared.original, optimize=True, threads=prepared.request.threads)
        original.run(prepared.feeds[0])
    except (RuntimeFailure, UnsupportedError) as error:
        return None, f"the original cannot be run: {error.message}"
    found = compare_runs(
        original.run,
        artifact.run,
        samples,
        source=source_of(prepared),
        step=lambda done: progress.step("accuracy", done, total),
    )
    return found, ""


def missed_budget(budget: Budget, accuracy: Accuracy | None) -> tuple[str, ...]:
    """Return one line for each limit that the result does not keep."""
    if budget.empty:
        return ()
    if accuracy is None:
        return ("the result could not be compared with the original",)
    limits = (
        ("SQNR", accuracy.sqnr_db, budget.min_sqnr_db, 1, " dB"),
        ("cosine similarity", accuracy.cosine, budget.min_cosine, 1, ""),
        ("agreement", accuracy.agreement, budget.min_agreement, 1, ""),
        ("drop of accuracy", accuracy.drop, budget.max_drop, -1, ""),
    )
    lines = []
    for name, value, limit, sign, unit in limits:
        if limit is None:
            continue
        word = "least" if sign > 0 else "most"
        if value is None:
            lines.append(f"{name} is not known, expected at {word} {limit:g}{unit}")
        elif sign * value < sign * limit:
            lines.append(f"{name} is {value:.4g}{unit}, expected at {word} {limit:g}{unit}")
    return tuple(lines)


def source_of(prepared: Prepared) -> str:
    """Return what the report calls the samples."""
    if prepared.data.evaluation is None:
        return "random inputs"
    return "held-out samples" if prepared.data.held_out else "calibration samples"
