"""Streaming statistics of what a graph computes on calibration data."""

from nncomp.statistics.accumulators import BINS, Histogram, Range
from nncomp.statistics.collect import Accumulator, Executor, Threads, collect

__all__ = ["BINS", "Accumulator", "Executor", "Histogram", "Range", "Threads", "collect"]
