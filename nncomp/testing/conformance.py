"""Replay ONNX's backend tests through a rewrite: what is kept, what is lost, what is silently wrong.

A rewrite is a function from a model to the bytes of another. Each model is run as onnx wrote it, and as it was
rewritten, on ONNX Runtime without optimizations, on the test's own inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
from onnx import ModelProto

from nncomp.runtime import RuntimeFailure, run_bytes
from nncomp.testing.asserts import result_problems
from nncomp.testing.corpus import BackendCase

Rewrite: TypeAlias = Callable[[ModelProto], bytes]
_BFLOAT16_RTOL = 2.0**-6  # two units in the last place; what onnx's own runner allows


class Outcome(StrEnum):
    """What became of a model."""

    KEPT = "kept"
    """It runs, with the interface that it had and the outputs that it gave."""
    LOST = "lost"
    """The rewrite failed, or ONNX Runtime refuses what it made."""
    CHANGED = "changed"
    """It has other inputs or outputs than before: callers must be changed, too."""
    WRONG = "wrong"
    """It runs, and gives other outputs: nobody is told."""


@dataclass(frozen=True)
class Reference:
    """A model that ONNX Runtime runs as it stands.

    Attributes:
        case: the test.
        outputs: what it gives, by sample.
        passes: whether that is what the test expects.
        known: verdicts by the bytes that were judged: rewrites that change nothing are run once.
    """

    case: BackendCase
    outputs: list[dict[str, Any]]
    passes: bool
    known: dict[bytes, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a rewrite did to one model; ``reason`` says why it is not kept."""

    outcome: Outcome
    reason: str = ""
    identical: bool = False


@dataclass
class Scoreboard:
    """Verdicts of one rewrite, by label of the test."""

    name: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> int:
        """Return how many models had this outcome."""
        return sum(verdict.outcome is outcome for verdict in self.verdicts.values())

    @property
    def identical(self) -> int:
        """How many gave the same bits."""
        return sum(verdict.identical for verdict in self.verdicts.values())

    def complaints(self) -> list[str]:
        """Return one line a model that was not kept."""
        return [
            f"{label}: {verdict.outcome}: {verdict.reason}"
            for label, verdict in self.verdicts.items()
            if verdict.outcome is not Outcome.KEPT
        ]

    def __str__(self) -> str:
        total = len(self.verdicts)
        return (
            f"{self.name}: {self.count(Outcome.KEPT)} of {total} kept ({self.identical} bit-identical), "
            f"{self.count(Outcome.LOST)} lost, {self.count(Outcome.CHANGED)} with another interface, "
            f"{self.count(Outcome.WRONG)} silently wrong"
        )


def references(cases: Iterable[BackendCase]) -> list[Reference]:
    """Run each model as it stands; those that ONNX Runtime refuses are left out."""
    found = []
    for case in cases:
        try:
            outputs = run_bytes(case.model.SerializeToString(), [inputs for inputs, _ in case.samples])
        except RuntimeFailure:
            continue
        found.append(Reference(case, outputs, not mismatches(case, outputs)))
    return found


def mismatches(case: BackendCase, outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how ``outputs`` differ from what the test expects, nothing if it passes."""
    expected = [wanted for _, wanted in case.samples]
    return _differences(expected, outputs, case)


def judge(reference: Reference, rewritten: bytes) -> Verdict:
    """Compare a rewritten model with the one that it was made from."""
    case = reference.case
    before, after = interface(case.model), interface(ModelProto.FromString(rewritten))
    if before != after:
        return Verdict(Outcome.CHANGED, f"the interface was {before} and is {after}")
    try:
        outputs = run_bytes(rewritten, [inputs for inputs, _ in case.samples])
    except RuntimeFailure as error:
        return Verdict(Outcome.LOST, error.message)
    if not _differences(reference.outputs, outputs, None):
        return Verdict(Outcome.KEPT, identical=True)
    problems = _differences(reference.outputs, outputs, case)
    return Verdict(Outcome.WRONG, problems[0]) if problems else Verdict(Outcome.KEPT)


def replay(name: str, rewrite: Rewrite, refs: Iterable[Reference]) -> Scoreboard:
    """Rewrite and judge each model; whatever a rewrite raises counts as a lost model."""
    board = Scoreboard(name)
    for reference in refs:
        try:
            rewritten = rewrite(reference.case.model)
        except Exception as error:  # noqa: BLE001  a rewrite is anybody's code, and its failure is the finding
            verdict = Verdict(Outcome.LOST, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        else:
            if rewritten not in reference.known:
                reference.known[rewritten] = judge(reference, rewritten)
            verdict = reference.known[rewritten]
        board.verdicts[reference.case.label] = verdict
    return board


def interface(model: ModelProto) -> tuple[tuple[str, ...], ...]:
    """Return what a caller must know: inputs that must be fed and outputs, each with its type, in order."""
    given = {tensor.name for tensor in model.graph.initializer}
    required = [item for item in model.graph.input if item.name not in given]
    return tuple(
        tuple(f"{item.name}: {_element(item.type)}" for item in items) for items in (required, model.graph.output)
    )


def _element(type_: Any) -> str:
    kind = type_.WhichOneof("value")
    if kind == "tensor_type":
        return str(type_.tensor_type.elem_type)
    return kind or ""


def _differences(
    expected: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], case: BackendCase | None
) -> list[str]:
    """Return differences beyond the tolerance of ``case``; without one, any."""
    problems: list[str] = []
    for wanted, got in zip(expected, found, strict=True):
        for name, value in wanted.items():
            if name not in got:
                problems.append(f"output {name!r} is missing")
                continue
            tolerance = None if case is None else (max(case.rtol, _rounding(value)), case.atol)
            problems += [f"output {name!r}{problem}" for problem in result_problems(value, got[name], tolerance)]
    return problems


def _rounding(value: Any) -> float:
    return (
        _BFLOAT16_RTOL
        if np.asarray(value, object if isinstance(value, list) else None).dtype.name == "bfloat16"
        else 0.0
    )
