"""For tests, ours and plugin authors': graphs from text, inputs for them, and what they must have in common."""

from nncomp.testing.asserts import assert_same_function, assert_text
from nncomp.testing.builders import feeds, graph
from nncomp.testing.laws import LawReport, check_axes

__all__ = ["LawReport", "assert_same_function", "assert_text", "check_axes", "feeds", "graph"]
