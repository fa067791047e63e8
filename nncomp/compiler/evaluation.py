"""The result against the original: on data where there is some, on random inputs otherwise; and against the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import numpy as np

from nncomp.compiler.planning import Prepared
from nncomp.errors import UnsupportedError
from nncomp.recipe import Budget
from nncomp.report import Accuracy, Trial, compare_runs
from nncomp.runtime import Feeds, RuntimeFailure, Session
from nncomp.targets import Artifact

_SEEN_SAMPLES: Final = 32
_REPLAY_BYTES: Final = 1 << 28


class Replay:
    """A run whose outputs are kept in order, so that one reference serves many comparisons on the same samples."""

    def __init__(self, run: Callable[[Feeds], Mapping[str, Any]], limit_bytes: int = _REPLAY_BYTES) -> None:
        self._run, self._left = run, limit_bytes
        self._kept: list[Mapping[str, Any]] = []
        self._next = 0

    def restart(self) -> None:
        """Begin with the first sample again."""
        self._next = 0

    def __call__(self, feeds: Feeds) -> Mapping[str, Any]:
        """Return the outputs of the next sample, which ``feeds`` is."""
        number, self._next = self._next, self._next + 1
        if number < len(self._kept):
            return self._kept[number]
        outputs = self._run(feeds)
        size = sum(np.asarray(value).nbytes for value in outputs.values() if not isinstance(value, list | dict))
        if number == len(self._kept) and size <= self._left:
            self._kept.append(outputs)
            self._left -= size
        return outputs


class Reference:
    """The original's outputs on the evaluation samples, kept as far as memory allows: one serves many artifacts."""

    def __init__(self, prepared: Prepared) -> None:
        self._session = Session(prepared.original, optimize=True, threads=prepared.request.threads)
        if prepared.feeds:
            self._session.run(prepared.feeds[0])  # what cannot be run is told before anything else
        self.run = Replay(self._session.run)


def evaluate(prepared: Prepared, artifact: Artifact, reference: Reference | None = None) -> tuple[Accuracy | None, str]:
    """Return how far ``artifact`` lies from the original, or why nobody knows."""
    data, progress = prepared.data, prepared.request.progress
    if artifact.unrunnable():
        return None, artifact.unrunnable()
    if not prepared.feeds:
        return None, prepared.feeds_skipped
    total = data.evaluation.size if data.evaluation is not None else len(prepared.feeds)
    samples = data.samples() if data.evaluation is not None else ((feeds, None) for feeds in prepared.feeds)
    if not data.held_out and data.labels is None:
        # Seen samples without labels say how near the result is, which a few say as well as all.
        samples, total = islice(samples, _SEEN_SAMPLES), min(total or _SEEN_SAMPLES, _SEEN_SAMPLES)
    try:
        reference = reference or Reference(prepared)
    except (RuntimeFailure, UnsupportedError) as error:
        return None, f"the original cannot be run: {error.message}"
    reference.run.restart()
    found = compare_runs(
        reference.run,
        artifact.run,
        samples,
        source=source_of(prepared),
        step=lambda done: progress.step("accuracy", done, total),
    )
    return found, ""


def missed_budget(budget: Budget, accuracy: Accuracy | Trial | None) -> tuple[str, ...]:
    """Return one line for each limit that the result does not keep."""
    if budget.empty:
        return ()
    if accuracy is None:
        return ("the result could not be compared with the original",)
    lines = []
    for name, value, limit, sign, unit, _ in _limits(budget, accuracy):
        word = "least" if sign > 0 else "most"
        if value is None:
            lines.append(f"{name} is not known, expected at {word} {limit:g}{unit}")
        elif sign * value < sign * limit:
            lines.append(f"{name} is {value:.4g}{unit}, expected at {word} {limit:g}{unit}")
    return tuple(lines)


def shortfall(budget: Budget, found: Accuracy | Trial) -> float:
    """Return by how much the limit that is missed by most is missed: in dB, thousandths of cosine, or points."""
    short = 0.0
    for _, value, limit, sign, _, scale in _limits(budget, found):
        short = max(short, math.inf if value is None else scale * sign * (limit - value))
    return short


def _limits(budget: Budget, found: Accuracy | Trial) -> Iterator[tuple[str, float | None, float, int, str, float]]:
    """Yield (name, value, limit, 1 for at least or -1 for at most, unit, scale) of each limit that is set."""
    limits = (
        ("SQNR", found.sqnr_db, budget.min_sqnr_db, 1, " dB", 1.0),
        ("cosine similarity", found.cosine, budget.min_cosine, 1, "", 1e3),
        ("agreement", found.agreement, budget.min_agreement, 1, "", 1e2),
        ("drop of accuracy", found.drop, budget.max_drop, -1, "", 1e2),
    )
    for name, value, limit, sign, unit, scale in limits:
        if limit is not None:
            yield name, value, limit, sign, unit, scale


def source_of(prepared: Prepared) -> str:
    """Return what the report calls the samples."""
    if prepared.data.evaluation is None:
        return "random inputs"
    return "held-out samples" if prepared.data.held_out else "calibration samples"
