"""Search: from a model in which every layer is treated, give back what a budget asks for, and no more.

Layers are ordered by the noise that each alone makes for each microsecond that treating it saves, measured on the
target. The first 1, 2, 4, 8, ... of them are given back until the budget holds, then bisection finds how many suffice,
and then one after the other is taken back as long as the budget still holds. Whatever happens, the best so far is kept.

All that is known of a candidate is what the pass says of its units, what the target measures, and what the outputs are.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final

import numpy as np

from nncomp.cache import Cache, key_of
from nncomp.compiler.comparison import Comparison, noise_of
from nncomp.compiler.evaluation import missed_budget, shortfall
from nncomp.compiler.workbench import Workbench
from nncomp.errors import UnsupportedError
from nncomp.recipe import SearchOptions
from nncomp.report import Accuracy, Candidate, SearchReport, Trial, with_frontier
from nncomp.runtime import RuntimeFailure
from nncomp.targets import Artifact
from nncomp.tuning import TunablePass

log = logging.getLogger(__name__)

Judge = Callable[[Artifact], Accuracy | None]

_MEASURED_SHARE: Final = 0.98
"""Layers that together make this share of the noise are measured; the others are taken to cost what is usual."""

_MEASURED_MOST: Final = 24
_NOISE_TIME: Final = 0.35
_RANKING_TIME: Final = 0.5
"""Shares of the time after which no more layers are looked at alone, and none is measured: the rest is for trials."""

_FLOAT_MODEL: Final = "nothing is left to treat: this is the model as it was"
_NOTHING: Final = "NNC-M052"

_MEASURE_S: Final = 1.0
"""Wall time to measure a trial for, and twice as long as to measure what one layer costs."""


class _StopSearch(Exception):  # noqa: N818  it is no error
    """The time or the trials are used up."""


class Search:
    """One search.

    Args:
        bench: The pass, and the graph in front of it.
        judge: Compares an artifact with the original.
        options: How long to search.
        kept: Where results of trials are kept, with a key of all that they depend on, so that a search that was stopped
            goes on; None keeps nothing.
    """

    def __init__(
        self, bench: Workbench, judge: Judge, options: SearchOptions, kept: tuple[Cache, str] | None = None
    ) -> None:
        self._bench, self._judge, self._options, self._kept = bench, judge, options, kept
        self._prepared = bench.prepared
        self._budget = self._prepared.recipe.budget
        self._started = time.monotonic()
        self._trials: list[Trial] = []
        self._units = {unit.name: unit for unit in bench.step.units(bench.base, bench.context())}
        self._original = self._built_original()
        self._whole: Artifact | None = None

    def run(self) -> tuple[TunablePass, SearchReport]:
        """Return the pass with the settings that were found, and how."""
        candidates: list[Candidate] = [Candidate(unit.name, unit.kind) for unit in self._units.values()]
        stopped = "there is nothing left to give back"
        try:
            first = self._tried({})
            candidates = self._ranked(first)
            chosen = self._fewest([candidate.name for candidate in candidates]) or self._in_between()
            if chosen is not None:
                self._taken_back(chosen, candidates)
                stopped = "the budget is kept, and nothing more can be taken back"
        except _StopSearch as stop:
            stopped = str(stop)
        best = self._best()
        log.info("search: %s; %d layers are given back", stopped, len(best.settings))
        report = SearchReport(
            self._bench.step.name,
            self._reached(best),
            stopped,
            tuple(candidates),
            with_frontier(self._trials, best),
        )
        return self._bench.step.tuned(best.settings), report

    def _ranked(self, first: Trial) -> list[Candidate]:
        """Return the candidates, the one with most noise for its time first."""
        noise: dict[str, float] = {}
        comparison = Comparison(self._bench, self._options.samples)
        for number, unit in enumerate(self._units.values()):
            if self._spent() > _NOISE_TIME:
                break
            self._prepared.request.progress.step("layers alone", number, len(self._units))
            alone = self._bench.step.alone(unit.name)
            noise[unit.name] = noise_of(self._remembered(["alone", unit.name], partial(_sqnr, comparison, alone)))
        total = sum(noise.values())
        by_noise = sorted(self._units, key=lambda name: -noise.get(name, 0.0))
        costs = self._costs(by_noise, noise, first)

        usual = float(np.median(list(costs.values()))) if costs else 1.0
        order = sorted(by_noise, key=lambda name: -noise.get(name, 0.0) / costs.get(name, usual))
        return [
            Candidate(
                name,
                self._units[name].kind,
                noise[name] / total if name in noise and total else None,
                costs.get(name),
            )
            for name in order
        ]

    def _costs(self, by_noise: Sequence[str], noise: Mapping[str, float], first: Trial) -> dict[str, float]:
        """Return what the noisiest layers cost when they are given back, microseconds of a run, each on its own."""
        if first.latency_us is None:
            return {}
        found: dict[str, float] = {}
        told, total = 0.0, sum(noise.values())
        least = 1e-3 * first.latency_us  # what is less is noise of the measurement
        for number, name in enumerate(by_noise[:_MEASURED_MOST]):
            if told >= _MEASURED_SHARE * total or name not in noise or self._spent() > _RANKING_TIME:
                break
            told += noise[name]
            self._prepared.request.progress.step("time of layers", number, _MEASURED_MOST)
            found[name] = max(self._remembered(["cost", name], partial(self._cost, name)), least)
        return found

    def _cost(self, name: str) -> float:
        if self._whole is None:
            self._whole = self._built({})
        measured = self._built({name: self._units[name].settings[-1]}).compare_with(
            self._whole, self._prepared.feeds[0], seconds=_MEASURE_S / 2
        )
        return measured.baseline_us * (1 / measured.ratio - 1)

    def _fewest(self, order: Sequence[str]) -> Mapping[str, str] | None:
        """Return the settings that give back the fewest layers from the front of ``order`` and keep the budget.

        Giving back all, or all that the pass cares for, leaves the model as it was: that is taken to keep any budget,
        so that each lesser count has its turn, but it is no result where the pass refuses it.
        """

        def reaches(count: int) -> bool:
            if count >= len(order):
                return True
            trial = self._tried(self._given_back(order[:count]))
            return self._reached(trial) or trial.missed == (_FLOAT_MODEL,)

        missed, kept = 0, 1
        while not reaches(kept):
            missed, kept = kept, min(2 * kept, len(order))
        while kept - missed > 1:
            middle = (missed + kept) // 2
            missed, kept = (missed, middle) if reaches(middle) else (middle, kept)
        settings = self._given_back(order[:kept])
        return settings if self._reached(self._tried(settings)) else None

    def _in_between(self) -> Mapping[str, str] | None:
        """Return all layers at the last setting before they are given back, where not even giving back all is enough.

        As a rule that is because then there is nothing left to do, which a pass refuses.
        """
        settings = {name: unit.settings[-2] for name, unit in self._units.items() if len(unit.settings) > 2}
        return settings if settings and self._reached(self._tried(settings)) else None

    def _taken_back(self, settings: Mapping[str, str], candidates: Sequence[Candidate]) -> None:
        """Take back what the budget can do without, what is worth least first; else leave less than all of it."""
        for candidate in reversed([one for one in candidates if one.name in settings]):
            name = candidate.name
            less = {key: value for key, value in settings.items() if key != name}
            tries = [less] if less else []  # everything taken back is the first trial, which missed
            tries += [{**settings, name: between} for between in self._units[name].settings[1:-1]]
            settings = next((one for one in tries if self._reached(self._tried(one))), settings)

    def _given_back(self, names: Sequence[str]) -> dict[str, str]:
        return {name: self._units[name].settings[-1] for name in names}

    def _tried(self, settings: Mapping[str, str]) -> Trial:
        """Return the trial of ``settings``, which is compiled and compared if that was not done before."""
        settings = {name: settings[name] for name in self._units if name in settings}
        known = next((trial for trial in self._trials if trial.settings == settings), None)
        if known is not None:
            return known
        if len(self._trials) > self._options.trials:
            raise _StopSearch(f"{self._options.trials} trials are used up")
        if self._trials:
            self._check_time()
        self._prepared.request.progress.step("trials", len(self._trials), self._options.trials + 1)
        found = self._remembered(["trial", settings], lambda: _plain(self._made(settings)))
        trial = Trial(**{**found, "settings": settings, "missed": tuple(found["missed"])})
        if trial.sqnr_db is not None:  # what was remembered may have been tried for another budget
            trial = replace(trial, missed=missed_budget(self._budget, trial))
        self._trials.append(trial)
        log.info("trial %d: %d given back, SQNR %s dB", len(self._trials), len(settings), trial.sqnr_db)
        return trial

    def _made(self, settings: Mapping[str, str]) -> Trial:
        try:
            artifact = self._built(settings)
            accuracy = self._judge(artifact)
        except (UnsupportedError, RuntimeFailure) as error:
            if settings and error.code == _NOTHING:
                return Trial(settings, missed=(_FLOAT_MODEL,))
            return Trial(settings, missed=(error.message,), error=error.message)
        trial = Trial(settings, missed=missed_budget(self._budget, accuracy))
        if accuracy is not None:
            trial = replace(
                trial,
                sqnr_db=accuracy.sqnr_db,
                cosine=accuracy.cosine,
                agreement=accuracy.agreement,
                drop=accuracy.drop,
            )
        if self._original is None:
            return trial
        measured = artifact.compare_with(self._original, self._prepared.feeds[0], seconds=_MEASURE_S)
        return replace(trial, latency_us=measured.latency_us, ratio=measured.ratio)

    def _built(self, settings: Mapping[str, str]) -> Artifact:
        graph, _, ctx = self._bench.made(self._bench.step.tuned(settings))
        return self._prepared.target.build(graph, ctx)

    def _built_original(self) -> Artifact | None:
        """Return the original on the target, None where latency is not asked for or the target cannot run it."""
        if not self._prepared.request.measure or not self._prepared.feeds:
            return None
        try:
            return self._prepared.target.build(self._prepared.original.clone(), self._prepared.context())
        except (UnsupportedError, RuntimeFailure):
            return None

    def _reached(self, trial: Trial) -> bool:
        return not trial.missed and not trial.error

    def _best(self) -> Trial:
        """Return the fastest trial that keeps the budget, else the one that comes nearest.

        What gives back the same and more is no faster, whatever a measurement among other programs says.
        """
        kept = [trial for trial in self._trials if self._reached(trial)]
        least = [
            trial for trial in kept if not any(one.settings.items() < trial.settings.items() for one in kept)
        ]  # fmt: skip
        if least:
            return min(least, key=lambda trial: (trial.latency_us or 0.0, len(trial.settings), self._whole_ones(trial)))
        sound = [trial for trial in self._trials if not trial.error]
        return min(sound, key=lambda trial: shortfall(self._budget, trial), default=self._trials[0])

    def _whole_ones(self, trial: Trial) -> int:
        """Return how many layers ``trial`` gives back altogether."""
        return sum(setting == self._units[name].settings[-1] for name, setting in trial.settings.items())

    def _spent(self) -> float:
        """Return the share of the time that is gone."""
        gone = time.monotonic() - self._started
        return gone / self._options.seconds if self._options.seconds else 1.0

    def _check_time(self) -> None:
        if self._spent() >= 1:
            raise _StopSearch(f"{self._options.seconds:g} s are used up")

    def _remembered(self, what: Sequence[Any], find: Callable[[], Any]) -> Any:
        """Return what an earlier run, which was stopped, found; or find it."""
        if self._kept is None:
            return find()
        cache, basis = self._kept
        key = key_of(basis, self._options.samples, self._prepared.request.threads, list(what))
        found = cache.get(key)
        if found is None:
            found = find()
            cache.put(key, found)
        return found


def _sqnr(comparison: Comparison, step: TunablePass) -> float:
    return comparison.of(step)[0]


def _plain(trial: Trial) -> dict[str, Any]:
    return {**asdict(trial), "settings": dict(trial.settings)}
