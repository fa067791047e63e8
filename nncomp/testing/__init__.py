"""For tests, ours and plugin authors': graphs from text, inputs for them, and what they must have in common."""

from nncomp.testing.asserts import assert_same_function, assert_text
from nncomp.testing.builders import feeds, graph
from nncomp.testing.laws import LawReport, check_axes
from nncomp.testing.pass_kit import PassReport, bare, calibrated, check_pass
from nncomp.testing.specimens import specimens
from nncomp.testing.target_kit import TargetReport, check_target
from nncomp.testing.violations import PASS_LAWS, TARGET_LAWS

__all__ = [
    "PASS_LAWS",
    "TARGET_LAWS",
    "LawReport",
    "PassReport",
    "TargetReport",
    "assert_same_function",
    "assert_text",
    "bare",
    "calibrated",
    "check_axes",
    "check_pass",
    "check_target",
    "feeds",
    "graph",
    "specimens",
]
