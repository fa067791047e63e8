"""What a search under a budget tried and found: candidates, trials, and which of them nobody beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layer that could be given back.

    Attributes:
        name: As options of the pass name it.
        kind: Operator kind.
        share: Of the noise of all layers, each treated alone; None when there was no time to find out.
        costs_us: What a run takes longer when it is given back, microseconds; None when that was not measured.
    """

    name: str
    kind: str
    share: float | None = None
    costs_us: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to treat the model, compiled and compared.

    Attributes:
        settings: What was given back: setting by layer.
        sqnr_db, cosine, agreement, drop: Against the original; None when unknown.
        missed: One line for each limit of the budget that it does not keep.
        latency_us: Of a run; None when it was not measured.
        ratio: Latency of the original over it.
        error: Why it came to nothing.
        frontier: No other trial is both faster and more accurate.
        chosen: It is the result.
    """

    settings: Mapping[str, str]
    sqnr_db: float | None = None
    cosine: float | None = None
    agreement: float | None = None
    drop: float | None = None
    missed: tuple[str, ...] = ()
    latency_us: float | None = None
    ratio: float | None = None
    error: str = ""
    frontier: bool = False
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class SearchReport:
    """A search.

    Attributes:
        step: The pass whose layers were given back.
        reached: Whether the budget is kept.
        stopped: Why it ended.
        candidates: The one with most noise for its time first.
        trials: In the order in which they were made; the first treats everything.
    """

    step: str
    reached: bool
    stopped: str
    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]


def with_frontier(trials: Sequence[Trial], chosen: Trial) -> tuple[Trial, ...]:
    """Mark the trials that no other beats in both speed and SQNR, and the one that was chosen."""

    def place(trial: Trial) -> tuple[float, float]:
        speed = trial.ratio if trial.ratio is not None else -float(len(trial.settings))
        return speed, trial.sqnr_db if trial.sqnr_db is not None else -math.inf

    sound = [place(trial) for trial in trials if not trial.error]
    marked = []
    for trial in trials:
        speed, sqnr = place(trial)
        beaten = any(a >= speed and b >= sqnr and (a, b) != (speed, sqnr) for a, b in sound)
        marked.append(replace(trial, frontier=not (trial.error or beaten), chosen=trial is chosen))
    return tuple(marked)
