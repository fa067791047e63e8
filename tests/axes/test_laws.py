"""The local lemma for every kind of op: what a rule lets go can go, and what should be free is."""

import re
from pathlib import Path

import pytest

from nncomp.ops import OpSemantics, builtin_table
from nncomp.testing import check_axes, graph

CASES = re.findall(r"^# (.+) \| (\d+) \| (.+)\n(.+)\n", (Path(__file__).parent / "laws.txt").read_text(), re.MULTILINE)
LAWS = {name: (int(opset), "" if free == "-" else free, text) for name, opset, free, text in CASES}


@pytest.mark.parametrize("name", LAWS)
def test_what_a_rule_lets_go_can_go(name: str) -> None:
    opset, free, text = LAWS[name]
    found = check_axes(graph(text, opset=opset), trials=3)
    assert not free or (free in found.free and found.removals > 0)


def test_a_wrong_rule_is_found() -> None:
    def wrong(c):
        c.give(c.axes(0))

    rows = [row for row in builtin_table() if row.kind != "Softmax"]
    table = type(builtin_table())([*rows, OpSemantics("Softmax", axes=wrong)])
    with pytest.raises(AssertionError, match="is off by"):
        check_axes(graph("g (float[6,4] x) => (float[6,4] y) { y = Softmax (x) }"), table)


def test_every_row_of_the_table_has_a_rule() -> None:
    assert [(row.domain, row.kind) for row in builtin_table() if row.axes is None] == []


def test_grouped_queries_go_in_groups() -> None:
    opset, _, text = LAWS["attention flat"]
    found = check_axes(graph(text, opset=opset), trials=1)
    places = {(one.value.name, one.axis): one.positions.shape for d in found.analysis.dimensions for one in d.members}
    assert places["q", 2] == (2, 12)  # two groups of two heads of six channels
    assert places["k", 2] == places["v", 2] == (2, 6)
