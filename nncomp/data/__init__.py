"""Calibration and evaluation data: files, folders, images, functions and arrays, as samples that fit a model.

Everything is read once, front to back, and one run's samples are held at a time. What a file claims is compared with
what it is, and with what the model takes, before it is read; nothing is ever unpickled.
"""

from nncomp.data.callables import FunctionSource, from_object
from nncomp.data.checked import Checked
from nncomp.data.feeds import FeedSource, ReaderSource
from nncomp.data.folder import FolderSource
from nncomp.data.images import ImageSource
from nncomp.data.labels import Labelled, labels
from nncomp.data.npz import NpzSource
from nncomp.data.opening import open_data, open_labelled
from nncomp.data.options import DataOptions, resolve_path
from nncomp.data.preprocess import PRESETS, Preprocess
from nncomp.data.source import DataSource, DataWarning
from nncomp.data.stacking import ArraySource
from nncomp.data.synthetic import RandomSource

__all__ = [
    "PRESETS",
    "ArraySource",
    "Checked",
    "DataOptions",
    "DataSource",
    "DataWarning",
    "FeedSource",
    "FolderSource",
    "FunctionSource",
    "ImageSource",
    "Labelled",
    "NpzSource",
    "Preprocess",
    "RandomSource",
    "ReaderSource",
    "from_object",
    "labels",
    "open_data",
    "open_labelled",
    "resolve_path",
]
