"""Latency comparisons that hold on a noisy machine: the two sides in turn, the median of pairwise ratios."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from nncomp.targets import Measurement


def compare_latency(
    ours: Callable[[], object],
    baseline: Callable[[], object],
    *,
    seconds: float = 2.0,
    warmup: int = 3,
    min_pairs: int = 15,
    threads: int = 1,
) -> Measurement:
    """Time two callables in turn.

    With one thread the clock is the calling thread's CPU time, which other processes do not disturb; with more it is
    wall time.

    Args:
        ours: What is measured.
        baseline: What it is compared with.
        seconds: Wall time to spend, at least; ``min_pairs`` are taken in any case.
        warmup: Runs of each that do not count.
        min_pairs: Pairs at the least.
        threads: Threads that the callables use.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    for _ in range(warmup):
        ours()
        baseline()
    pairs: list[tuple[float, float]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(pairs) < min_pairs:
        first = clock()
        baseline()
        second = clock()
        ours()
        pairs.append((second - first, clock() - second))
    times = np.maximum(np.array(pairs), 1e-9)
    ratios = times[:, 0] / times[:, 1]
    low, ratio, high = np.percentile(ratios, [10, 50, 90])
    base, mine = np.median(times, axis=0) * 1e6
    return Measurement(float(mine), float(base), float(ratio), (float(low), float(high)), len(pairs), threads)
