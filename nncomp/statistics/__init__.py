"""Streaming statistics of what a graph computes on calibration data."""

from nncomp.statistics.accumulators import BINS, Histogram, Range
from nncomp.statistics.collect import Accumulator, Executor, Threads, collect
from nncomp.statistics.layerwise import LayerWalk, collect_moments, spread
from nncomp.statistics.moments import Moments, MomentSums

__all__ = [
    "BINS",
    "Accumulator",
    "Executor",
    "Histogram",
    "LayerWalk",
    "MomentSums",
    "Moments",
    "Range",
    "Threads",
    "collect",
    "collect_moments",
    "spread",
]
