"""Calibration statistics: small, and the same whatever the order, the shards or the threads."""

from __future__ import annotations

import hashlib
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nncomp.errors import DataError
from nncomp.passes import Context
from nncomp.runtime import Array, RuntimeFailure
from nncomp.statistics import BINS, Histogram, Range, Threads, collect, executor_of
from nncomp.testing import graph

S = TypeVar("S")
T = TypeVar("T")

MODULE = sys.modules[collect.__module__]  # the package has a function of this name
FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
SHAPES = hnp.array_shapes(max_dims=2, min_side=0, max_side=5)
SAMPLES = st.lists(hnp.arrays(np.float32, SHAPES, elements=FLOATS), max_size=8)

TINY = 1.401298464324817e-45  # the smallest float32


def array(*numbers: float) -> npt.NDArray[np.float32]:
    return np.array(numbers, np.float32)


def state(one: Range | Histogram) -> tuple[Any, ...]:
    """All that an accumulator holds, down to signs of zero."""
    if isinstance(one, Range):
        return float(one.low).hex(), float(one.high).hex(), one.count, one.bad
    return (*state(one.range), one.exponent, one.counts.tobytes())


def of(kind: type[Range] | type[Histogram], samples: Iterable[Array]) -> Range | Histogram:
    made = kind()
    for sample in samples:
        made.update(sample)
    return made


# ---------------------------------------------------------------- exactly mergeable


@pytest.mark.parametrize("kind", [Range, Histogram])
@given(samples=SAMPLES, data=st.data())
@example(samples=[array(-TINY), array(1e30)], data=None)
@example(samples=[array(0.0), array(-0.0)], data=None)
def test_any_split_in_any_order_gives_the_same(
    kind: type[Range] | type[Histogram], samples: list[Array], data: st.DataObject | None
) -> None:
    expected = state(of(kind, samples))
    order, owners = list(range(len(samples)))[::-1], [0] * len(samples)
    if data is not None:
        order = data.draw(st.permutations(range(len(samples))))
        owners = data.draw(st.lists(st.integers(0, 3), min_size=len(samples), max_size=len(samples)))
    workers = [kind() for _ in range(4)]
    for index in order:
        workers[owners[index]].update(samples[index])
    total = kind()
    for worker in workers if data is None else data.draw(st.permutations(workers)):
        total.merge(worker)  # type: ignore[arg-type]
    assert state(total) == expected


@given(samples=SAMPLES)
@example(samples=[array(TINY, -TINY, 3e38)])
@example(samples=[array(-1.0), array(1.0), array(2.0)])
@example(samples=[array(0.0)])
def test_growing_gives_the_counts_of_a_histogram_that_was_wide_from_the_start(samples: list[Array]) -> None:
    found = of(Histogram, samples)
    assert isinstance(found, Histogram)
    numbers = [float(number) for sample in samples for number in sample.reshape(-1).tolist() if math.isfinite(number)]
    if not numbers:
        assert found.exponent is None
        assert not found.counts.any()
        return
    peak = max([2.0**-100, *map(abs, numbers)])
    assert found.exponent == math.frexp(peak)[1]
    expected = np.zeros(BINS, np.int64)
    for number in numbers:
        expected[math.floor(Fraction(number) * (BINS // 2) / Fraction(2) ** found.exponent) + BINS // 2] += 1
    assert np.array_equal(found.counts, expected)


@given(samples=SAMPLES)
def test_the_range_is_that_of_all_finite_elements(samples: list[Array]) -> None:
    found = of(Range, samples)
    assert isinstance(found, Range)
    flat = np.concatenate([sample.reshape(-1) for sample in samples] or [array()])
    finite = flat[np.isfinite(flat)]
    assert (found.count, found.bad) == (finite.size, flat.size - finite.size)
    if finite.size:
        assert (found.low, found.high) == (finite.min(), finite.max())


# ---------------------------------------------------------------- ranges


def test_a_range_that_saw_nothing_is_empty() -> None:
    assert state(Range()) == (math.inf.hex(), (-math.inf).hex(), 0, 0)


def test_nan_and_infinity_are_counted_and_left_out() -> None:
    found = Histogram()
    found.update(array(1, math.nan, math.inf, -math.inf, -2))
    assert (found.range.low, found.range.high, found.range.count, found.range.bad) == (-2, 1, 2, 3)
    assert (found.exponent, found.counts.sum()) == (2, 2)


def test_a_tensor_without_a_finite_element_has_no_range() -> None:
    found = Histogram()
    found.update(array(math.nan, math.inf))
    assert (found.range.count, found.range.bad, found.exponent) == (0, 2, None)


def test_an_empty_tensor_changes_nothing() -> None:
    found = Histogram()
    found.update(np.zeros((0, 3), np.float32))
    assert state(found) == state(Histogram())


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_, np.float16, np.float64])
def test_other_element_types_are_counted_too(dtype: type[np.generic]) -> None:
    found = Histogram()
    found.update(np.array([0, 1, 1]).astype(dtype))
    assert (found.range.low, found.range.high, found.range.count, found.counts.sum()) == (0, 1, 3, 3)


def test_a_double_that_float32_cannot_hold_counts_in_the_range_only() -> None:
    found = Histogram()
    found.update(np.array([1.0, 1e300]))
    assert (found.range.high, found.range.count, found.counts.sum()) == (1e300, 2, 1)


# ---------------------------------------------------------------- histograms


def test_a_tensor_of_zeros_has_a_positive_scale() -> None:
    found = Histogram()
    found.update(np.zeros(7, np.float32))
    assert found.exponent == -99
    assert found.bin_width > 0
    assert np.float32(found.bin_width) > 0
    assert found.counts[BINS // 2] == 7


def test_zeros_join_whatever_comes_later() -> None:
    found = of(Histogram, [np.zeros(7, np.float32), array(1.0)])
    assert isinstance(found, Histogram)
    assert (found.exponent, found.counts[BINS // 2], found.counts.sum()) == (1, 7, 8)


def test_bins_are_equal_and_their_centers_between_the_limits() -> None:
    found = Histogram()
    found.update(array(-3.0, 2.5))
    centers = found.centers()
    assert found.exponent == 2
    assert (centers[0], centers[-1]) == (-4 + found.bin_width / 2, 4 - found.bin_width / 2)
    assert np.allclose(np.diff(centers), found.bin_width)
    for number in (-3.0, 2.5):
        assert abs(centers - number).min() <= found.bin_width / 2


def test_a_power_of_two_lies_inside_the_limit() -> None:
    found = Histogram()
    found.update(array(-4.0, 4.0))
    assert (found.exponent, found.counts.sum()) == (3, 2)


def test_a_large_tensor_is_read_with_a_stride_and_its_range_is_of_all() -> None:
    data = np.arange(100_000, dtype=np.float32)
    found = Histogram(per_sample=1000)
    found.update(data)
    assert found.range.count == 100_000
    assert 900 <= found.counts.sum() <= 1000
    assert found.range.high == 99_999


@pytest.mark.parametrize("shape", [(64, 14, 14), (32, 56, 56), (100, 98)])
def test_a_stride_visits_all_rows_and_columns_alike(shape: tuple[int, ...]) -> None:
    data = np.broadcast_to(np.arange(shape[-1], dtype=np.float32), shape)
    found = Histogram(per_sample=512)
    found.update(data)
    assert np.count_nonzero(found.counts) == shape[-1]


@pytest.mark.parametrize("batch", [2, 4, 8])
def test_batches_do_not_matter_even_where_a_stride_is_used(batch: int) -> None:
    data = np.random.default_rng(0).normal(size=(8, 70, 51)).astype(np.float32)
    alone, together = Histogram(per_sample=512), Histogram(per_sample=512)
    for start in range(8):
        alone.update(data[start : start + 1])
    for start in range(0, 8, batch):
        together.update(data[start : start + batch])
    assert alone.counts.sum() < data.size
    assert state(together) == state(alone)


def test_how_much_is_remembered_does_not_grow_with_samples() -> None:
    found = of(Histogram, (np.random.default_rng(n).normal(size=1000).astype(np.float32) for n in range(50)))
    assert isinstance(found, Histogram)
    assert found.counts.nbytes == 8 * BINS
    assert found.counts.sum() == 50_000


# ---------------------------------------------------------------- collecting

NET = """
g (float[N,8] x, float[8] d = {1, 2, 3, 4, 5, 6, 7, 8}) => (float[N,4] y) <float[8,16] w, float[16,4] v> {
   s = Mul (x, d)  a = MatMul (s, w)  b = Relu (a)  y = MatMul (b, v)
}
"""


def feeds(count: int) -> list[dict[str, Array]]:
    rng = np.random.default_rng(0)
    return [{"x": (rng.standard_normal((2, 8)) * 3.0**n).astype(np.float32)} for n in range(count)]


def digest(found: Any) -> str:
    return hashlib.sha256(repr([(name, state(one)) for name, one in found.items()]).encode()).hexdigest()


NAMES = ["x", "a", "b", "y", "d"]
MAKE: dict[str, Callable[[str], Any]] = {"range": lambda _: Range(), "histogram": lambda _: Histogram()}


class Shuffled:
    """An executor that gives its results in another order."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def imap_unordered(self, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
        """See Executor."""
        shards = list(items)
        for index in np.random.default_rng(self.seed).permutation(len(shards)):
            yield work(shards[index])


@pytest.mark.parametrize("make", MAKE)
def test_the_digest_is_the_same_for_any_threads_shards_and_order(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g, data = graph(NET), feeds(13)
    expected = digest(collect(g, data, NAMES, MAKE[make]))
    for count in (1, 2, 4):
        assert digest(collect(g, data, NAMES, MAKE[make], executor=Threads(count))) == expected
    for seed in range(3):
        assert digest(collect(g, data, NAMES, MAKE[make], executor=Shuffled(seed))) == expected
    assert digest(collect(g, data[::-1], NAMES, MAKE[make])) == expected
    for size in (1, 3, 100):
        monkeypatch.setattr(MODULE, "_SHARD", size)
        assert digest(collect(g, data, NAMES, MAKE[make], executor=Threads(2))) == expected


def test_a_pass_runs_samples_where_its_caller_says_or_else_on_threads() -> None:
    elsewhere = Shuffled(0)
    assert executor_of(Context(executor=elsewhere, threads=3)) is elsewhere
    assert executor_of(Context(threads=3)) == Threads(3)


def test_what_is_collected_is_what_the_graph_computes() -> None:
    g = graph(NET)
    w = g.array(g.find("w"))
    assert w is not None
    data = feeds(3)
    found = collect(g, data, ["x", "a"], MAKE["range"])
    scaled = np.concatenate([feed["x"] for feed in data]) * np.arange(1, 9, dtype=np.float32)
    products = scaled @ w.astype(np.float32)
    assert list(found) == ["x", "a"]
    assert (found["a"].low, found["a"].high) == pytest.approx((products.min(), products.max()), rel=1e-5)
    assert found["x"].count == 3 * 16


def test_inputs_alone_need_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "Session", None)
    found = collect(graph(NET), feeds(2), ["x", "d"], MAKE["range"])
    assert (found["x"].count, found["d"].low, found["d"].high) == (32, 1, 8)


def test_a_default_that_is_given_counts_as_given() -> None:
    data = [{**feed, "d": np.full(8, 0.5, np.float32)} for feed in feeds(2)]
    found = collect(graph(NET), data, ["d"], MAKE["range"])
    assert (found["d"].low, found["d"].high, found["d"].count) == (0.5, 0.5, 16)


def test_progress_is_told_how_far_it_is() -> None:
    steps: list[tuple[str, int, int | None]] = []

    class Counter:
        def step(self, task: str, done: int, total: int | None) -> None:
            steps.append((task, done, total))

    collect(graph(NET), feeds(10), ["a"], MAKE["range"], progress=Counter(), total=10)
    assert steps == [("calibration", 4, 10), ("calibration", 8, 10), ("calibration", 10, 10)]


def test_no_data_is_an_error() -> None:
    with pytest.raises(DataError) as error:
        collect(graph(NET), [], ["a"], MAKE["range"])
    assert (error.value.code, error.value.message) == ("NNC-D004", "the calibration data holds no sample")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_sample_that_does_not_run_stops_the_collection(threads: int) -> None:
    wrong: dict[str, Array] = {"x": np.zeros((2, 7), np.float32)}
    data = [*feeds(5), wrong, *feeds(50)]
    with pytest.raises(RuntimeFailure) as error:
        collect(graph(NET), data, ["a"], MAKE["range"], executor=Threads(threads))
    assert "Got invalid dimensions for input: x" in error.value.message


def test_data_is_drawn_only_as_fast_as_it_is_used() -> None:
    drawn: list[int] = []
    most = 0
    lock = threading.Lock()
    done: list[int] = []

    def items() -> Iterator[int]:
        for number in range(40):
            drawn.append(number)
            yield number

    def work(item: int) -> int:
        nonlocal most
        with lock:
            most = max(most, len(drawn) - len(done))
            done.append(item)
        return item

    found: Sequence[int] = list(Threads(2).imap_unordered(work, items()))
    assert sorted(found) == list(range(40))
    assert most <= 2 * 2 + 1
