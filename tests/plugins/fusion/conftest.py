"""What all fusion tests do: run a pass as a pipeline does, and hold it to its effect, its result and itself."""

from dataclasses import dataclass

import pytest

import nncomp
from nncomp.gate import REASSOCIATION_LIMIT, compare
from nncomp.runtime import random_feeds, run
from nncomp.testing import assert_same_function, assert_text, graph

DIMS = {"N": 2, "H": 6, "W": 5, "S": 3}


@dataclass
class Outcome:
    """What a pass did: the graph it made, the rules that fired, and why others declined."""

    graph: nncomp.Graph
    fired: list[str]
    declined: list[str]
    skipped: list[str]


@pytest.fixture(scope="session")
def check():
    """Run a pass on a graph, or its text; assert that the function stays, and that a second run changes nothing.

    ``expected`` is the text of the result, None when it must be left alone; ``...`` asserts nothing.
    """

    def run_and_check(step, before, expected=..., *, opset=17, target=None, constants=None, exact=False):
        if isinstance(before, str):
            before = graph(before, opset=opset, constants=constants)
            before.remove_unused(before.constants())  # templates declare more than each case needs
        after, ctx = before.clone(), nncomp.Context(target=target)
        (first,) = nncomp.Pipeline([step]).run(after, ctx)
        by_event = {
            event: [note.reason or note.subject for note in ctx.notes if note.event == event]
            for event in ("fired", "declined", "skipped")
        }
        feeds = random_feeds(before, dims=DIMS, unknown=2)
        assert_same_function(before, after, feeds=feeds, exact=exact)
        assert compare([run(before, feeds)], [run(after, feeds)]).relative <= REASSOCIATION_LIMIT
        again = nncomp.Context(target=target)
        (record,) = nncomp.Pipeline([step]).run(after.clone(), again)
        assert not record.changed, f"a second run fires {again.notes}"
        if expected is None:
            assert not by_event["fired"]
            assert not first.changed
        elif expected is not ...:
            assert_text(after, expected)
        return Outcome(after, **by_event)

    return run_and_check
