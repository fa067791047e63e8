"""What a ``report.json`` must look like to be shown: a file may be of anybody, and cut short or changed by hand.

The form is that of schema 1, in :mod:`nncomp.report.report`. Keys that are not named here are kept as they are, for new
ones come without a new schema; what passes and targets tell in their own words is looked at where it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

Count: TypeAlias = Annotated[int, Field(ge=0)]
Number: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Time: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Pair: TypeAlias = Annotated[list[Number], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Model(_Part):
    name: str
    digest: str
    seed: int = 0


class _Facts(_Part):
    ops: Count
    kinds: dict[str, Count]
    params: Count
    weight_bytes: Count
    macs: Count
    traffic_bytes: Count
    peak_activation_bytes: Count
    unpriced: dict[str, Count] = Field(default_factory=dict)
    file_bytes: Count | None = None


class _Note(_Part):
    event: str
    subject: str
    count: Count
    reason: str
    nodes: list[str] = Field(default_factory=list)


class _NotLooked(_Part):
    passed: bool
    skipped: str = Field(min_length=1)


class _Looked(_Part):
    passed: bool
    identical: bool
    relative: Number | None
    sqnr_db: Number | None
    skipped: str = ""


class _Pass(_Part):
    spec: str
    effect: str
    changed: bool
    ops_before: Count
    ops_after: Count
    error: str
    gate: _NotLooked | _Looked | None
    notes: list[_Note]


class _Output(_Part):
    name: str
    identical: bool
    sqnr_db: Number | None
    cosine: Number | None
    agreement: Number | None


class _Compared(_Part):
    source: str
    runs: Count
    identical: bool
    sqnr_db: Number | None
    agreement: Number | None
    labelled: Count
    before: Number | None
    after: Number | None
    drop: Number | None
    outputs: list[_Output]


class _NotCompared(_Part):
    skipped: str


class _Trial(_Part):
    settings: dict[str, str]
    sqnr_db: Number | None
    drop: Number | None
    ratio: Number | None
    latency_us: Time | None
    missed: list[str]
    error: str
    frontier: bool
    chosen: bool


class _Candidate(_Part):
    name: str
    kind: str
    share: Number | None
    costs_us: Number | None


class _Search(_Part):
    step: str
    reached: bool
    stopped: str
    candidates: list[_Candidate]
    trials: list[_Trial]


class _Budget(_Part):
    missed: list[str]


class _Spread(_Part):
    low: Number
    high: Number
    counts: list[Count] = Field(min_length=1)
    covered: Pair | None
    outside: Number | None


class _Layer(_Part):
    name: str
    kind: str
    ops: list[str]
    inputs: list[Count]
    output: str
    shape: list[int] | None
    macs: Count | None
    params: Count
    moved_bytes: Count | None
    weight_bits: Count | None
    activation_bits: Count | None
    zeros: Number | None
    kernel: str
    precision: str
    cause: str
    error: Time | None
    weight: _Spread | None
    activation: _Spread | None


class _Layers(_Part):
    against: str = ""
    skipped: dict[str, str] = Field(default_factory=dict)
    items: list[_Layer] = Field(default_factory=list)

    @model_validator(mode="after")
    def _reads_what_stands_before(self) -> Self:
        for number, layer in enumerate(self.items):
            late = [read for read in layer.inputs if read >= number]
            if late:
                raise ValueError(f"items.{number}.inputs: expected layers before it, got {late[0]}")
        return self


class _LayerTime(_Part):
    latency_us: Time | None
    baseline_us: Time | None = None


class _PassTime(_Part):
    cpu_s: Time
    check_cpu_s: Time


class _Latency(_Part):
    latency_us: Time
    baseline_us: Time
    ratio: Time
    spread: Pair
    pairs: Count


class _Measured(_Part):
    cpu_s: Time | None
    peak_memory_bytes: Count | None
    passes: list[_PassTime]
    latency: _Latency | None
    latency_skipped: str = ""
    layers: list[_LayerTime] = Field(default_factory=list)
    other_kernels_us: Time | None = None


class _File(_Part):
    name: str
    bytes: Count


class _Warning(_Part):
    code: str
    message: str


class ReportForm(_Part):
    """A report of schema 1; those of before there were layers have none."""

    nncomp: str
    status: str
    model: _Model
    target: str
    recipe: list[str]
    gate: str
    before: _Facts
    after: _Facts
    passes: list[_Pass]
    results: dict[str, Any]
    accuracy: _NotCompared | _Compared
    target_report: dict[str, Any]
    budget: _Budget
    search: _Search | None = None
    layers: _Layers = Field(default_factory=_Layers)
    files: list[_File] = Field(default_factory=list)
    warnings: list[_Warning]
    measured: _Measured

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for what, count, times in (
            ("passes", len(self.passes), len(self.measured.passes)),
            ("layers", len(self.layers.items), len(self.measured.layers)),
        ):
            if times != count and (times or what == "passes"):
                raise ValueError(f"measured.{what}: expected {count} entries, one for each of {what}, got {times}")
        return self


def in_form(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with what it leaves out at its default.

    Raises:
        pydantic.ValidationError: it is of another form.
    """
    return ReportForm.model_validate(found).model_dump()


def told_number(told: Mapping[str, Any], key: str) -> float | None:
    """Return a number that a target tells in its own words, None where it tells none."""
    found = told.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        return None
    return float(found)
