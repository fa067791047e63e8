"""What differs between two graphs."""

from nncomp.diff.changes import Change, ConstantChange, GraphDiff, OpChange, WeightChange
from nncomp.diff.compare import diff

__all__ = ["Change", "ConstantChange", "GraphDiff", "OpChange", "WeightChange", "diff"]
