"""Each row of the list of bad inputs has a test: ``pytest -m row`` runs them all."""

import ast
from pathlib import Path

ROWS = range(1, 103)
TABLES = ("REFUSED", "ACCEPTED")


def rows_of(path: Path) -> set[int]:
    """Return the rows that tests of a file claim: arguments of ``mark.row``, first columns of the tables."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "row":
            found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in TABLES:
            found |= {case.elts[0].value for case in node.value.elts}
    return found


def test_all_102_rows_are_covered():
    covered = set().union(*(rows_of(path) for path in Path(__file__).parents[1].rglob("test_*.py")))
    assert sorted(set(ROWS) - covered) == []
    assert covered <= set(ROWS)
