"""The axis algebra: which elements of a network can be removed together, and their exact removal.

``analyse`` walks a graph with the ``axes`` rules of the op-semantics table, ``remove`` cuts atoms out of every tensor
that has them, ``masked`` is the same network at its old size with the same function, and ``check_removal`` holds one
against the other on ONNX Runtime.
"""

from nncomp.axes.analysis import analyse
from nncomp.axes.gating import check_removal, remove_checked
from nncomp.axes.masking import masked
from nncomp.axes.model import AxisAnalysis, Dimension, Member, PinnedDimension, Work
from nncomp.axes.surgery import remove

__all__ = [
    "AxisAnalysis",
    "Dimension",
    "Member",
    "PinnedDimension",
    "Work",
    "analyse",
    "check_removal",
    "masked",
    "remove",
    "remove_checked",
]
