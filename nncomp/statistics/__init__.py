"""Streaming statistics of what a graph computes on calibration data."""

from nncomp.statistics.accumulators import BINS, Histogram, Range
from nncomp.statistics.bodies import exposed, watchable
from nncomp.statistics.collect import Accumulator, Begun, Executor, Threads, collect, executor_of
from nncomp.statistics.layers import spread
from nncomp.statistics.layerwise import POSITIONS, LayerWalk, collect_moments
from nncomp.statistics.moments import Moments, MomentSums
from nncomp.statistics.observe import observe, remembered
from nncomp.statistics.order import residual_aims
from nncomp.statistics.rows import Rows

__all__ = [
    "BINS",
    "POSITIONS",
    "Accumulator",
    "Begun",
    "Executor",
    "Histogram",
    "LayerWalk",
    "MomentSums",
    "Moments",
    "Range",
    "Rows",
    "Threads",
    "collect",
    "collect_moments",
    "executor_of",
    "exposed",
    "observe",
    "remembered",
    "residual_aims",
    "spread",
    "watchable",
]
