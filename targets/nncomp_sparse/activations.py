"""Zeros of activations, counted while calibration data streams by: by channel, and by runs in storage order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp.ir import Graph
from nncomp.passes import Context
from nncomp.runtime import Feeds
from nncomp.statistics import collect, executor_of

Array = npt.NDArray[np.generic]
Counts = npt.NDArray[np.int64]

LONGEST_RUN_BITS: Final = 16


@dataclass
class Zeros:
    """What is known of a value's zeros.

    Attributes:
        axis: Axis of the channels; None counts the whole value as one channel.
        samples, elements: Tensors seen, and their elements in all.
        nonzeros: By channel.
        pads: Entry r: how many padding entries a run-length code with r bits needs, that is the sum of floor(run / 2^r)
            over the runs of zeros in front of each non-zero element.
    """

    axis: int | None = None
    samples: int = 0
    elements: int = 0
    nonzeros: Counts = field(default_factory=lambda: np.zeros(1, np.int64))
    pads: Counts = field(default_factory=lambda: np.zeros(LONGEST_RUN_BITS + 1, np.int64))

    def update(self, array: Array) -> None:
        """Add one sample's tensor."""
        mask = array != 0
        axis = self.axis if self.axis is not None and self.axis < mask.ndim else None
        others = tuple(other for other in range(mask.ndim) if other != axis)
        found = np.atleast_1d(np.count_nonzero(mask, axis=others) if axis is not None else np.count_nonzero(mask))
        self._add(1, mask.size, found.astype(np.int64), run_pads(mask))

    def merge(self, other: Zeros) -> None:
        """Add what ``other`` saw; exact."""
        if other.samples:
            self._add(other.samples, other.elements, other.nonzeros, other.pads)

    def _add(self, samples: int, elements: int, nonzeros: Counts, pads: Counts) -> None:
        if nonzeros.size != self.nonzeros.size:
            if self.samples:  # channels differ between samples: only the total means anything
                nonzeros, self.nonzeros = nonzeros.sum(keepdims=True), self.nonzeros.sum(keepdims=True)
            else:
                self.nonzeros = np.zeros_like(nonzeros)
        self.samples, self.elements = self.samples + samples, self.elements + elements
        self.nonzeros, self.pads = self.nonzeros + nonzeros, self.pads + pads


def run_pads(mask: npt.NDArray[np.bool_]) -> Counts:
    """Return the padding entries of a run-length code, by width of the run; zeros at the end cost nothing."""
    places = np.flatnonzero(mask)
    runs = np.diff(places, prepend=-1) - 1
    runs = runs[runs > 1]
    return np.array([int((runs >> bits).sum()) for bits in range(LONGEST_RUN_BITS + 1)], np.int64)


def measure_zeros(
    graph: Graph, feeds: Iterable[Feeds], axes: Mapping[str, int | None], ctx: Context, *, samples: int
) -> Mapping[str, Zeros]:
    """Return the zeros of values by name.

    Args:
        graph: What runs.
        feeds: Calibration data.
        axes: Values to watch, with the axis of their channels.
        ctx: For threads and progress.
        samples: How many samples to look at.

    Raises:
        DataError: there is no sample (NNC-D004).
        RuntimeFailure: the graph cannot be run.
    """
    return collect(
        graph,
        islice(feeds, samples),
        list(axes),
        lambda name: Zeros(axes[name]),
        executor=executor_of(ctx),
        progress=ctx.progress,
        total=samples,
    )
