"""How far a result lies from the original, over a stream of samples: sums only, one sample held at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.narrow import widened
from nncomp.runtime import Feeds

Run: TypeAlias = Callable[[Feeds], Mapping[str, Any]]

_MAX_CLASSES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class OutputAccuracy:
    """One output against the original's.

    Attributes:
        name: Of the output.
        identical: Bit for bit (NaN equals NaN), over all samples.
        sqnr_db: 10 log10(sum a^2 / sum (a - b)^2); inf when the numbers are equal, -inf when they cannot be compared.
        cosine: Mean over samples of the cosine similarity.
        agreement: Share of rows whose largest element is the same, for outputs that look like scores of classes:
            float, two axes (samples, classes). None for others.
    """

    name: str
    identical: bool
    sqnr_db: float
    cosine: float
    agreement: float | None


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A result against the original.

    Attributes:
        source: What the samples are: ``held-out samples``, ``calibration samples`` or ``random inputs``.
        runs: Number of runs of each.
        outputs: One an output that is a dense numeric tensor.
        labelled: Number of samples with labels.
        before, after: Share of labelled samples whose largest score is the label's; None without labels.
    """

    source: str
    runs: int
    outputs: tuple[OutputAccuracy, ...]
    labelled: int = 0
    before: float | None = None
    after: float | None = None

    @property
    def identical(self) -> bool:
        """True when all outputs are."""
        return all(output.identical for output in self.outputs)

    @property
    def sqnr_db(self) -> float:
        """Of the worst output."""
        return min((output.sqnr_db for output in self.outputs), default=math.inf)

    @property
    def cosine(self) -> float:
        """Of the worst output."""
        return min((output.cosine for output in self.outputs), default=1.0)

    @property
    def agreement(self) -> float | None:
        """Of the worst output that looks like scores; None when none does."""
        return min((output.agreement for output in self.outputs if output.agreement is not None), default=None)

    @property
    def drop(self) -> float | None:
        """Accuracy lost; None without labels."""
        return None if self.before is None or self.after is None else self.before - self.after


@dataclass
class _Sums:
    identical: bool = True
    signal: float = 0.0
    noise: float = 0.0
    cosines: float = 0.0
    runs: int = 0
    rows: int = 0
    agreed: int = 0
    scores: bool = True

    def add(self, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
        self.runs += 1
        self.identical &= a.dtype == b.dtype and bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
        self._add_scores(a, b)
        if a.shape != b.shape:
            self.noise = math.inf
            return
        x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        if not (np.isfinite(x[~same]).all() and np.isfinite(y[~same]).all()):
            self.noise = math.inf
            return
        x, y = np.where(np.isfinite(x), x, 0.0), np.where(np.isfinite(y), y, 0.0)
        power, difference = float(x @ x), float((x - y) @ (x - y))
        norm = math.sqrt(power * float(y @ y))
        self.signal, self.noise = self.signal + power, self.noise + difference
        self.cosines += float(x @ y) / norm if norm else float(not difference)

    def _add_scores(self, a: npt.NDArray[Any], b: npt.NDArray[Any]) -> None:
        fits = a.ndim == 2 and a.shape == b.shape and a.dtype.kind == "f" and 2 <= a.shape[1] <= _MAX_CLASSES
        self.scores &= fits
        if fits:
            self.rows += len(a)
            self.agreed += int((a.argmax(axis=1) == b.argmax(axis=1)).sum())

    def result(self, name: str) -> OutputAccuracy:
        sqnr = math.inf if self.noise == 0 else -math.inf
        if 0 < self.noise < math.inf:
            sqnr = 10 * math.log10(max(self.signal, 1e-300) / self.noise)
        cosine = min(self.cosines / self.runs, 1.0) if math.isfinite(self.noise) else 0.0
        agreement = self.agreed / self.rows if self.scores and self.rows else None
        return OutputAccuracy(name, self.identical, sqnr, cosine, agreement)


@dataclass
class _Labelled:
    count: int = 0
    before: int = 0
    after: int = 0

    def add(self, a: npt.NDArray[Any], b: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        wanted = labels.reshape(-1)
        self.count += len(wanted)
        self.before += int((a.argmax(axis=1) == wanted).sum())
        self.after += int((b.argmax(axis=1) == wanted).sum())


def compare_runs(
    original: Run,
    result: Run,
    samples: Iterable[tuple[Feeds, npt.NDArray[Any] | None]],
    *,
    source: str,
    step: Callable[[int], None] = lambda done: None,
) -> Accuracy:
    """Run both on each sample and compare.

    Args:
        original, result: From feeds to outputs by name.
        samples: Feeds, and the labels of their rows or None.
        source: What to call the samples.
        step: Told how many samples are done.
    """
    sums: dict[str, _Sums] = {}
    labelled = _Labelled()
    runs = 0
    for feeds, labels in samples:
        expected, got = original(feeds), result(feeds)
        runs += 1
        for name, a, b in _comparable(expected, got):
            sums.setdefault(name, _Sums()).add(a, b)
        if labels is not None:
            scores = next(((a, b) for _, a, b in _comparable(expected, got) if _fits_labels(a, b, labels)), None)
            if scores is not None:
                labelled.add(*scores, labels)
        step(runs)
    outputs = tuple(one.result(name) for name, one in sums.items())
    if not labelled.count:
        return Accuracy(source, runs, outputs)
    return Accuracy(
        source, runs, outputs, labelled.count, labelled.before / labelled.count, labelled.after / labelled.count
    )


def _comparable(
    expected: Mapping[str, Any], got: Mapping[str, Any]
) -> list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    shared = [(name, value, got[name]) for name, value in expected.items() if name in got]
    pairs = [
        (name, widened(np.asarray(a)), widened(np.asarray(b)))
        for name, a, b in shared
        if not isinstance(a, list | dict)
    ]
    return [(name, a, b) for name, a, b in pairs if a.dtype.kind in "fiub" and b.dtype.kind in "fiub"]


def _fits_labels(a: npt.NDArray[Any], b: npt.NDArray[Any], labels: npt.NDArray[Any]) -> bool:
    return a.ndim == 2 and a.shape == b.shape and a.dtype.kind == "f" and labels.size == len(a) and a.shape[1] > 1
