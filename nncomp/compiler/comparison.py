"""Comparison: how far what a pass makes of a graph lies from that graph, again and again on the same samples."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import Final, TypeVar

from nncomp.compiler.evaluation import Replay, source_of
from nncomp.compiler.metric import Metric, measured
from nncomp.compiler.workbench import Workbench
from nncomp.errors import DataError
from nncomp.passes import Pass
from nncomp.report import compare_runs
from nncomp.runtime import Array, Feeds, Session

T = TypeVar("T")

_GOLDEN: Final = (math.sqrt(5) - 1) / 2


class Comparison:
    """Compares what passes make of the base with the base, on the same samples each time.

    Args:
        bench: Holds the base.
        samples: How many, at the most; they are spread over all that there are.
        metric: The task's; default: accuracy, where there are labels.

    Attributes:
        runs: How many samples there are.
        metric: Of the base; None when there is none.

    Raises:
        DataError: there is no sample (NNC-D004).
    """

    def __init__(self, bench: Workbench, samples: int, metric: Metric | None = None) -> None:
        self._bench, prepared = bench, bench.prepared
        self._source = source_of(prepared)
        data = prepared.data.samples() if prepared.data.evaluation is not None else ((x, None) for x in prepared.feeds)
        self._samples: list[tuple[Feeds, Array | None]] = spread_over(data, samples)
        if not self._samples:
            raise DataError(f"there is nothing to compare on: {prepared.feeds_skipped}", code="NNC-D004")
        self._original = Replay(Session(bench.base, optimize=True).run)
        self._metric = metric
        self.metric = None if metric is None else measured(metric, Session(bench.base, optimize=True).run)
        self.runs = len(self._samples)

    def of(self, step: Pass) -> tuple[float, float | None]:
        """Return the SQNR of what ``step`` makes, and what the metric loses."""
        session = Session(self._bench.made(step)[0], optimize=True)
        self._original.restart()
        found = compare_runs(self._original, session.run, self._samples, source=self._source)
        if self._metric is not None and self.metric is not None:
            return found.sqnr_db, self.metric - measured(self._metric, session.run)
        self.metric = found.before
        return found.sqnr_db, found.drop


def noise_of(sqnr_db: float) -> float:
    """Return the power of an error over that of the output: 10^(-SQNR / 10); inf when outputs cannot be compared."""
    return 10 ** (-sqnr_db / 10) if sqnr_db > -math.inf else math.inf


def spread_over(stream: Iterable[T], most: int) -> list[T]:
    """Return at the most ``most`` elements, in order and evenly spread over all of ``stream``, the first among them.

    Those are kept whose numbers, times the golden ratio, have the least fractional parts: of the distances between them
    there are three at the most (Sos, 1958), and they keep step with no period in the data, as every fourth would.
    """
    kept: list[tuple[float, int, T]] = []  # a heap, the largest fractional part first; no two numbers are alike
    for number, one in enumerate(stream):
        entry = (-(number * _GOLDEN % 1), number, one)
        heapq.heappush(kept, entry) if len(kept) < most else heapq.heappushpop(kept, entry)
    return [one for _, _, one in sorted(kept, key=lambda entry: entry[1])]
