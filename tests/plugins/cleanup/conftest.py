"""What all cleanup tests do: run a pass as a pipeline does, and hold it to its bits, its interface and itself."""

from dataclasses import dataclass

import pytest

import nncomp
from nncomp.runtime import random_feeds
from nncomp.testing import assert_same_function, assert_text, graph

SIZES = ({"N": 1, "S": 1, "H": 4, "W": 4}, {"N": 3, "S": 2, "H": 5, "W": 4})


@dataclass
class Outcome:
    """What a pass did: the graph it made, what fired, and why the rest declined."""

    graph: nncomp.Graph
    fired: list[str]
    declined: list[str]
    skipped: list[str]
    warnings: list[str]

    @property
    def kinds(self):
        """Kinds of the ops that are left, bodies included, in order."""
        return [op.kind for _, op in self.graph.walk()]


@pytest.fixture(scope="session")
def check():
    """Run a pass on a graph, or its text; assert equal bits at several sizes, and that a second run changes nothing.

    ``expected`` is the text of the result, None when the graph must be left alone; ``...`` asserts nothing.
    ``feeds`` are lists of inputs; () compares nothing.
    """

    def run_and_check(step, before, expected=..., *, opset=17, constants=None, feeds=None):
        if isinstance(before, str):
            before = graph(before, opset=opset, constants=constants)
        after, ctx = before.clone(), nncomp.Context()
        (record,) = nncomp.Pipeline([step]).run(after, ctx)
        chosen = [random_feeds(before, dims=dims, unknown=2) for dims in SIZES] if feeds is None else feeds
        for one in chosen:
            assert_same_function(before, after, feeds=one, exact=True)
        again = nncomp.Context()
        (second,) = nncomp.Pipeline([step]).run(after.clone(), again)
        assert not second.changed, f"a second run fires {[note for note in again.notes if note.event == 'fired']}"
        assert record.changed == any(note.event == "fired" for note in ctx.notes)
        if expected is None:
            assert not record.changed
        elif expected is not ...:
            assert_text(after, expected)
        said = {
            event: [note.reason or note.subject for note in ctx.notes if note.event == event]
            for event in ("fired", "declined", "skipped", "warning")
        }
        return Outcome(after, said["fired"], said["declined"], said["skipped"], said["warning"])

    return run_and_check
