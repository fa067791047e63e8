"""Report: what a compilation did, as data with a versioned JSON form.

The JSON form, schema 1 (numbers that are not finite are null)::

    schema        1
    nncomp        version
    status        "done" | "rejected" (the budget is missed)
    model         {name, digest, seed}
    target        name
    recipe        [pass with its options, ...]
    gate          "on" | "off"
    before,       {ops, kinds, params, weight_bytes, macs, traffic_bytes, peak_activation_bytes, unpriced, unsized,
    after          opsets, ir_version, file_bytes}
    passes        [{spec, plugin, effect, changed, ops_before, ops_after, error, gate: {passed, identical, relative,
                    sqnr_db, cosine, worst_output, skipped} | null,
                    notes: [{event, subject, count, reason, code, nodes: [up to 5]}]}]
    results       {pass name: what it left for the report}
    accuracy      {source, runs, identical, sqnr_db, cosine, agreement, labelled, before, after, drop,
                    outputs: [{name, identical, sqnr_db, cosine, agreement}]} | {skipped: why}
    target_report what Artifact.report() gives
    budget        {min_sqnr_db: ..., ...} as asked; missed: [one line each]
    search        what was tried for the budget, see :mod:`nncomp.report.search`: {step, reached, stopped, candidates:
                    [{name, kind, share, costs_us}], trials: [{settings, sqnr_db, cosine, agreement, drop, missed,
                    latency_us, ratio, error, frontier, chosen}]} | null. Where latency is measured, it decides the
                    order of trials, and so what comes out.
    layers        {against, skipped: {error|kernels|latency: why}, items: [{name, kind, ops, inputs, output, shape,
                    macs, params, moved_bytes, weight_bits, activation_bits, zeros, kernel, precision, cause, error,
                    weight, activation}]}, see :mod:`nncomp.report.layers`
    files         [{name, bytes}]
    warnings      [{code, message}]
    measured      the only part that differs from run to run: {cpu_s, peak_memory_bytes, passes: [{cpu_s,
                    check_cpu_s}], latency: {latency_us, baseline_us, ratio, spread, pairs, threads} | null,
                    latency_skipped: why, layers: [{latency_us, baseline_us}], other_kernels_us}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, Final

from nncomp.passes import Note
from nncomp.pipeline import PassRecord
from nncomp.report.accuracy import Accuracy
from nncomp.report.facts import ModelFacts
from nncomp.report.jsontext import json_text
from nncomp.report.layers import LayerReport
from nncomp.report.search import SearchReport
from nncomp.targets import Measurement

SCHEMA: Final = 1
EXAMPLES: Final = 5
"""Nodes that the report names of those that one note is about."""


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NoteGroup:
    """Notes that differ by node only."""

    event: str
    subject: str
    count: int
    reason: str
    code: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Resources:
    """What the compilation itself took."""

    cpu_s: float
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What a compilation did; see the module for its JSON form."""

    nncomp: str
    status: str
    model_name: str
    digest: str
    seed: int
    target: str
    recipe: tuple[str, ...]
    gated: bool
    before: ModelFacts
    after: ModelFacts
    passes: tuple[PassRecord, ...]
    before_bytes: int | None = None
    after_bytes: int | None = None
    results: Mapping[str, Any] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    accuracy_skipped: str = ""
    target_report: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, float] = field(default_factory=dict)
    missed: tuple[str, ...] = ()
    search: SearchReport | None = None
    layers: LayerReport = field(default_factory=LayerReport)
    files: tuple[tuple[str, int], ...] = ()
    warnings: tuple[Warned, ...] = ()
    latency: Measurement | None = None
    latency_skipped: str = ""
    resources: Resources | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        accuracy: dict[str, Any] = {"skipped": self.accuracy_skipped}
        if self.accuracy is not None:
            found = self.accuracy
            accuracy = asdict(found) | {name: getattr(found, name) for name in _ACCURACY}
        shown: dict[str, Any] = plain(
            {
                "schema": SCHEMA,
                "nncomp": self.nncomp,
                "status": self.status,
                "model": {"name": self.model_name, "digest": self.digest, "seed": self.seed},
                "target": self.target,
                "recipe": self.recipe,
                "gate": "on" if self.gated else "off",
                "before": asdict(self.before) | {"file_bytes": self.before_bytes},
                "after": asdict(self.after) | {"file_bytes": self.after_bytes},
                "passes": [_pass(record) for record in self.passes],
                "results": self.results,
                "accuracy": accuracy,
                "target_report": self.target_report,
                "budget": {**self.budget, "missed": self.missed},
                "search": None if self.search is None else asdict(self.search),
                "layers": {
                    "against": self.layers.against,
                    "skipped": self.layers.skipped,
                    "items": self.layers.layers,
                },
                "files": [{"name": name, "bytes": size} for name, size in self.files],
                "warnings": [asdict(warning) for warning in self.warnings],
                "measured": self._measured(),
            }
        )
        return shown

    def to_json(self) -> str:
        """Return the JSON text, keys in the order of the schema; a list of numbers stands on one line."""
        return f"{json_text(self.as_dict())}\n"

    def __str__(self) -> str:
        """Return the gist of it: a table before and after, and how near the outputs are to the original's."""
        from nncomp.report.summary import summary

        return summary(self)

    def __repr__(self) -> str:
        return f"<Report {self.model_name} for {self.target}: {self.status}>"

    def _repr_html_(self) -> str:
        """Return the gist of it, as notebooks show it."""
        from nncomp.report.page import report_fragment

        return report_fragment(self.as_dict())

    def _measured(self) -> dict[str, Any]:
        return {
            **(asdict(self.resources) if self.resources else {"cpu_s": None, "peak_memory_bytes": None}),
            "passes": [{"cpu_s": record.cpu_s, "check_cpu_s": record.check_cpu_s} for record in self.passes],
            "latency": asdict(self.latency) if self.latency else None,
            "latency_skipped": self.latency_skipped,
            "layers": self.layers.times,
            "other_kernels_us": self.layers.other_us,
        }


_ACCURACY: Final = ("identical", "sqnr_db", "cosine", "agreement", "drop")


def grouped(notes: Sequence[Note]) -> list[NoteGroup]:
    """Put notes that differ by node only together, in order of their first, and name a few nodes of each."""
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for note in notes:
        groups.setdefault((note.event, note.subject, note.reason, note.code), []).append(note.node)
    return [
        NoteGroup(event, subject, len(nodes), reason, code, tuple(node for node in nodes if node)[:EXAMPLES])
        for (event, subject, reason, code), nodes in groups.items()
    ]


def plain(value: Any) -> Any:
    """Return ``value`` as what JSON can hold; numbers that are not finite become None, other objects their text."""
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a numpy scalar
        return plain(value.item())
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def _pass(record: PassRecord) -> dict[str, Any]:
    gate = record.gate
    checked: dict[str, Any] | None = None
    if gate is not None:
        deviation = asdict(gate.deviation) if gate.deviation is not None else {}
        checked = {"passed": gate.passed, **deviation, "skipped": gate.skipped}
    return {
        "spec": record.spec,
        "plugin": record.plugin,
        "effect": record.effect.value,
        "changed": record.changed,
        "ops_before": record.ops_before,
        "ops_after": record.ops_after,
        "error": record.error,
        "gate": checked,
        "notes": [asdict(group) for group in grouped(record.notes)],
    }
