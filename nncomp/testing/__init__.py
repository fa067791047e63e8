"""For tests, ours and plugin authors': graphs from text, inputs for them, and what they must have in common."""

from nncomp.testing.asserts import assert_same_function, assert_text
from nncomp.testing.builders import feeds, graph

__all__ = ["assert_same_function", "assert_text", "feeds", "graph"]
