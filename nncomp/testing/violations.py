"""Violations: a broken law told so that whoever reads it learns the law and sees the graph."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from nncomp.ir import Graph
from nncomp.text import print_graph

PASS_LAWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "declared": "a pass has a name of lower-case words joined by hyphens, an effect, a docstring whose first line "
        "says what it does, and a help text for each option",
        "options": "what a recipe writes of a pass, and its JSON, give back an equal pass",
        "refusals": "an option that is unknown or wrong is refused with a RecipeError that names it",
        "errors": "what goes wrong is told by an NncompError with a code of nncomp.errors.CODES that fits; any other "
        "exception is a bug",
        "valid": "a pass leaves a valid graph, which is read back as it was written",
        "interface": "names, order and types of the model's inputs and outputs stay",
        "effect": "outputs change by no more than the declared effect allows, whatever the sizes of open dimensions",
        "given": "the graph that the pass got a copy of stays as it was, above all its constants: copies share them, "
        "and nobody writes to them",
        "determinism": "the same graph gives the same bytes: a second time, on more threads, and in a process with "
        "another hash seed",
        "names": "names inside mean nothing: with other names, the same ops come out",
        "settles": "run on what it made, the pass changes nothing more",
        "fires": "the pass changes each graph of fires_on, and at least one graph at all",
    }
)
"""What :func:`nncomp.testing.check_pass` holds a pass to."""

TARGET_LAWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "declared": "a target has a name of lower-case words joined by hyphens, a summary of one line, capabilities "
        "with a range of opsets, the name of a recipe or an empty one, and a help text for each option",
        "options": "what a recipe writes of a target gives back the same target",
        "refusals": "an option that is unknown or wrong is refused with a RecipeError that names it",
        "missing": "a target that lacks its library says which command installs it, and refuses to build (NNC-T001)",
        "errors": "what goes wrong is told by an NncompError with a code of nncomp.errors.CODES that fits; any other "
        "exception is a bug",
        "findings": "check() gives findings of level ok, float or refused, the latter two with a reason, about ops of "
        "the graph",
        "agreement": "build() refuses what check() refuses, and nothing else",
        "given": "the graph that the target got stays as it was, with its constants",
        "outputs": "the artifact gives the outputs of the graph, by name, to the tolerance that was asked for, "
        "whatever the sizes of open dimensions",
        "determinism": "the same graph gives the same files and the same report, and the same inputs the same outputs",
        "files": "save() writes into the folder that it is given, under the given name, and returns all that it wrote, "
        "the main file first",
        "measure": "measure() compares with a baseline: positive finite numbers, the ratio that of the latencies or "
        "between the ends of its spread",
        "report": "report() is JSON, tables() have as many cells a row as columns, costs() are finite and not negative",
        "builds": "the target builds at least one graph",
    }
)
"""What :func:`nncomp.testing.check_target` holds a target to."""

_SHOWN: Final = 8  # elements of a constant


def violation(
    who: str, law: str, laws: Mapping[str, str], found: str, *, label: str = "", graphs: Mapping[str, Graph | None]
) -> AssertionError:
    """Return the error that tells of a broken law.

    Args:
        who: As ``pass 'fold'``.
        law: Key of ``laws``.
        laws: What each law says.
        found: What was found instead.
        label: What is odd about the graph.
        graphs: Graphs to show, by what they are; those that are None are left out.
    """
    at = f" on {label}" if label else ""
    lines = [f"{who} breaks the law of {law!r}{at}", f"law: {laws[law]}", f"found: {found}"]
    for what, graph in graphs.items():
        if graph is not None:
            lines += ["", f"{what}:", print_graph(graph, max_elements=_SHOWN).rstrip()]
    return AssertionError("\n".join(lines))
