"""check_pass: what every pass must keep, tried on graphs that models are made of and on generated ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from nncomp.errors import NncompError
from nncomp.ir import Graph
from nncomp.options import parse_spec
from nncomp.passes import Context, Effect, Pass
from nncomp.testing import builders
from nncomp.testing.elsewhere import digests_elsewhere, digests_here
from nncomp.testing.lawful import Breach, Feeds, MakeContext, broken_by, compared, made, runs, tried
from nncomp.testing.option_kit import refusals, silent
from nncomp.testing.specimens import specimens
from nncomp.testing.violations import PASS_LAWS, violation
from nncomp.text import model_digest

BATCHES: Final = (2, 3)
"""Sizes of open dimensions that outputs are compared at."""

NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_WRONG: Final = ({"no": {"such": "thing"}}, "no such thing", -(2**70), ["no such thing", {}], None)


@dataclass(slots=True)
class PassReport:
    """What was tried.

    Attributes:
        graphs: How many graphs the pass ran on.
        changed: What is odd about those that it changed.
        refused: Why the pass refused graphs, by what is odd about them.
        elsewhere: Another process was asked, too.
    """

    graphs: int = 0
    changed: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    elsewhere: bool = False


def check_pass(
    step: Pass,
    *,
    fires_on: Sequence[Graph] = (),
    settles: bool = True,
    context: MakeContext | None = None,
    examples: int = 10,
    hash_seeds: Sequence[int] = (1,),
) -> PassReport:
    """Hold a pass to the laws of :data:`nncomp.testing.PASS_LAWS`.

    It runs on the graphs of :func:`nncomp.testing.specimens`, on those of ``fires_on``, and on generated ones. It may
    refuse any of them with an :class:`~nncomp.errors.NncompError`, but what it makes must keep the laws.

    Args:
        step: The pass, with the options to try.
        fires_on: Graphs that the pass must change; at least one graph at all must change.
        settles: A second run must change nothing; False for passes that take a share of what they find.
        context: Gives the context to run in, by graph; default: one with nothing in it. :func:`calibrated` brings data.
        examples: Generated graphs; needs the package hypothesis unless it is 0. Always the same ones.
        hash_seeds: Seeds of processes that must make the same bytes; () starts none. Passes and contexts that no other
            process can import, as those of a test module, are not asked there.

    Raises:
        AssertionError: a law is broken; the message says which, what was found, and shows the graph.
    """
    __tracebackhide__ = True  # in pytest: the message says it all
    run = context or bare
    report = PassReport()
    for breach in _declarations(step):
        raise _told(step, breach)
    named = {**specimens(), **{f"graph {number} of fires_on": graph for number, graph in enumerate(fires_on)}}
    for label, graph in named.items():
        _hold(step, label, graph, run, report, settles=settles)
        if label not in report.changed and label.startswith("graph "):
            why = report.refused.get(label, "it comes out as it went in")
            raise _told(step, Breach("fires", why), label=label, given=graph)
    if examples:
        _hold_on_generated(step, run, report, settles=settles, examples=examples)
    if not report.changed:
        raise _told(step, Breach("fires", f"none of {report.graphs} graphs changed: give one in fires_on"))
    if hash_seeds:
        report.elsewhere = _hold_elsewhere(step, named, run, hash_seeds)
    return report


def bare(graph: Graph) -> Context:
    """Return a context with nothing in it."""
    del graph
    return Context()


def calibrated(graph: Graph) -> Context:
    """Return a context with two random samples as calibration data, where the graph's inputs can be made up."""
    from nncomp.data import RandomSource

    try:
        builders.feeds(graph)
    except NncompError:
        return Context()
    return Context(data=RandomSource(graph, 2))


def _hold(step: Pass, label: str, graph: Graph, context: MakeContext, report: PassReport, *, settles: bool) -> None:
    """Hold a pass to what can be seen on one graph."""
    __tracebackhide__ = True  # in pytest: the message says it all
    trial = tried([step], graph, context)
    report.graphs += 1
    if isinstance(trial, Breach):
        raise _told(step, trial, label=label, given=graph)
    if trial.after is None:
        report.refused[label] = trial.refused
        return
    after = trial.after
    result = compared([step], graph, after, samples(graph))
    for breach in broken_by([step], graph, after, result, settles=settles, context=context):
        raise _told(step, breach, label=label, given=graph)
    if label not in report.changed and model_digest(after) != model_digest(made([], graph)):
        report.changed.append(label)


def _hold_on_generated(step: Pass, context: MakeContext, report: PassReport, *, settles: bool, examples: int) -> None:
    __tracebackhide__ = True  # in pytest: the message says it all
    from nncomp.testing.generate import graphs  # isort: skip  it says what to install

    from hypothesis import HealthCheck, Phase, assume, given, settings

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(graphs())
    def check(drawn: Graph) -> None:
        assume(runs(drawn))
        _hold(step, "a generated graph", drawn, context, report, settles=settles)

    check()


def _hold_elsewhere(step: Pass, graphs: Mapping[str, Graph], context: MakeContext, seeds: Sequence[int]) -> bool:
    __tracebackhide__ = True  # in pytest: the message says it all
    here = digests_here(step, list(graphs.values()), context)
    for seed in seeds:
        found = digests_elsewhere([step], list(graphs.values()), context, seed)
        if found is None:
            return False
        for (label, graph), mine, other in zip(graphs.items(), here, found[0], strict=True):
            if mine != other:
                breach = Breach("determinism", f"in a process with hash seed {seed} it makes other bytes")
                raise _told(step, breach, label=label, given=graph)
    return True


def _declarations(step: Pass) -> Iterator[Breach]:
    """Yield the laws that are broken before anything runs."""
    kind = type(step)
    if not NAME.fullmatch(getattr(kind, "name", "")):
        yield Breach("declared", f"the name is {getattr(kind, 'name', '')!r}")
    elif not isinstance(getattr(kind, "effect", None), Effect):
        yield Breach("declared", "there is no effect")
    elif not (kind.__dict__.get("__doc__") or "").strip():
        yield Breach("declared", f"class {kind.__name__} has no docstring")
    else:
        yield from silent(kind)
    yield from _round_trips(step)
    yield from refusals(kind.from_options, kind, _WRONG)


def _round_trips(step: Pass) -> Iterator[Breach]:
    from nncomp.recipe import full_spec

    kind = type(step)
    for spec in (step.spec, full_spec(step)):
        try:
            name, options = parse_spec(spec)
            again = kind.from_options(options)
        except NncompError as error:
            yield Breach("options", f"{spec!r} is not read back: {error.message}")
            continue
        if name != kind.name or again != step:
            yield Breach("options", f"{spec!r} is read back as {again!r}")
    if kind.model_validate_json(step.model_dump_json()) != step:
        yield Breach("options", f"{step.model_dump_json()} is read back as another pass")


def samples(graph: Graph, sizes: Sequence[int] = BATCHES) -> Sequence[Feeds]:
    """Return inputs, one for each size of the open dimensions; none where they cannot be made up."""
    try:
        found = [builders.feeds(graph, batch=size) for size in sizes]
    except NncompError:
        return []
    shapes = [{name: array.shape for name, array in one.items()} for one in found]
    return found if any(one != shapes[0] for one in shapes) else found[:1]


def _told(step: Pass, breach: Breach, *, label: str = "", given: Graph | None = None) -> AssertionError:
    graphs: dict[str, Graph | None] = {"given": given, "made": breach.after}
    name = getattr(step, "name", type(step).__name__)
    return violation(f"pass {name!r}", breach.law, PASS_LAWS, breach.found, label=label, graphs=graphs)
