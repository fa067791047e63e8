"""Latency comparisons: in turn, as the median of pairwise ratios; the clock is a fake one here."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from nncomp.bench import compare_latency


class Machine:
    """A clock that only what is measured moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.runs: list[str] = []
        clocks = dict.fromkeys(("thread_time", "perf_counter", "monotonic"), lambda: self.now)
        monkeypatch.setattr("nncomp.bench.time", SimpleNamespace(**clocks))

    def takes(self, name: str, *times: float) -> Callable[[], None]:
        """A callable that takes each of ``times`` in turn, then the last one for ever."""
        left = list(times)

        def run() -> None:
            self.runs.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_the_two_sides_run_in_turn_after_a_warm_up(machine: Machine) -> None:
    compare_latency(machine.takes("ours", 1), machine.takes("theirs", 1), seconds=0, warmup=2, min_pairs=3)
    assert machine.runs == ["ours", "theirs"] * 2 + ["theirs", "ours"] * 3


def test_latencies_are_medians_in_microseconds_and_the_ratio_is_theirs_to_ours(machine: Machine) -> None:
    found = compare_latency(machine.takes("ours", 0.002), machine.takes("theirs", 0.003), seconds=0)
    assert found.latency_us == pytest.approx(2000)
    assert found.baseline_us == pytest.approx(3000)
    assert found.ratio == pytest.approx(1.5)
    assert list(found.spread) == pytest.approx([1.5, 1.5])
    assert (found.pairs, found.threads) == (15, 1)


def test_one_slow_run_changes_no_median(machine: Machine) -> None:
    ours = machine.takes("ours", 1, 1, 1, 1, 500, 1)
    assert compare_latency(ours, machine.takes("theirs", 2), seconds=0).ratio == pytest.approx(2)


def test_a_machine_that_slows_down_slows_both(machine: Machine) -> None:
    times = [1.0] * 10 + [7.0] * 30
    found = compare_latency(machine.takes("ours", *times), machine.takes("theirs", *times), seconds=0, min_pairs=21)
    assert found.ratio == pytest.approx(1)


def test_the_spread_is_the_10th_to_the_90th_percentile_of_the_ratios(machine: Machine) -> None:
    theirs = machine.takes("theirs", 1, 1, 1, *range(1, 12))
    found = compare_latency(machine.takes("ours", 1), theirs, seconds=0, min_pairs=11)
    assert found.ratio == pytest.approx(6)
    assert list(found.spread) == pytest.approx([2, 10])


def test_pairs_are_taken_until_the_time_is_up(machine: Machine) -> None:
    found = compare_latency(machine.takes("ours", 1), machine.takes("theirs", 1), seconds=100, warmup=0)
    assert found.pairs == 50


def test_what_takes_no_time_is_no_division_by_zero(machine: Machine) -> None:
    assert compare_latency(machine.takes("ours", 0), machine.takes("theirs", 0), seconds=0).ratio == 1


def test_with_one_thread_the_clock_is_cpu_time_and_with_more_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def clock(name: str) -> Callable[[], float]:
        def tell() -> float:
            asked.append(name)
            return 0.0

        return tell

    clocks = {name: clock(name) for name in ("thread_time", "perf_counter", "monotonic")}
    monkeypatch.setattr("nncomp.bench.time", SimpleNamespace(**clocks))
    for threads in (1, 4):
        asked.clear()
        found = compare_latency(lambda: None, lambda: None, seconds=0, min_pairs=1, threads=threads)
        assert found.threads == threads
        assert set(asked) == {"monotonic", "thread_time" if threads == 1 else "perf_counter"}
