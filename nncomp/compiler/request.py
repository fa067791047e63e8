"""What a compilation is asked for, what it plans, and what it gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nncomp.errors import GateError, UsageError
from nncomp.ir import Graph
from nncomp.passes import Progress, Silence
from nncomp.recipe import Recipe
from nncomp.report import Report, Warned
from nncomp.runtime import Array
from nncomp.targets import Artifact, Finding
from nncomp.timelimit import RUN_SECONDS
from nncomp.validation import refusal

if TYPE_CHECKING:
    from nncomp.data import DataSource


class _Numbers(BaseModel):
    """What the numbers of a request may be."""

    model_config = ConfigDict(strict=True)

    seed: int | None = Field(ge=0, lt=2**32)
    threads: int = Field(ge=1, le=1024)
    gate_samples: int | None = Field(ge=1, le=64)
    measure_seconds: float = Field(ge=0, allow_inf_nan=False)
    run_seconds: float = Field(gt=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileRequest:
    """What to compile and how. What is None or empty comes from the recipe, then from the defaults.

    Attributes:
        model: A file, or a graph, which stays as it is.
        out: Folder for the results; None writes nothing.
        target: Name, or ``name{option=value, ...}``; default: the recipe's, else ``ort``.
        target_options: More options of the target.
        recipe: A recipe, its file, or the name of one that a plugin provides; default: the target's default.
        passes: Pass specs instead of a recipe.
        data: Calibration data: a source, or what ``--data`` takes.
        preprocess: Of images: a preset's name.
        limit: Samples to use at the most.
        skip_bad: Samples that may be unreadable.
        evaluation: Data to judge the result on; default: the evaluation part of ``data``, else the same samples,
            else random inputs.
        labels: One class a sample of the evaluation data; default: those that lie with it.
        budget: What the result may lose; entries of :class:`nncomp.recipe.Budget`.
        search: How long to look for what to leave alone when the result misses the budget; entries of
            :class:`nncomp.recipe.SearchOptions`.
        seed: Of everything random.
        threads: Of the passes, of evaluation and of the measurement.
        gate: Check each pass against the graph before it; False is the caller's own risk, and the report says so.
        gate_samples: Inputs to check on.
        run_seconds: Wall time that one run of a model may take.
        measure: Measure latency.
        measure_seconds: Wall time for that.
        freeze: Turn inputs with defaults into constants; this changes the interface.
        force: Replace files of our names that no compilation wrote.
        dry_run: Only plan.
        keep_going: Roll back a pass that fails and go on.
        isolate: Run each pass in a process of its own; one that crashes has failed like any other.
        strict: Refuse a result that comes with warnings.
        cache: Folder of what earlier compilations found out, such as calibration; None keeps nothing.
        resume: Go on where an earlier run of the same, which was stopped, left a checkpoint beside ``out``.
        progress: Where long work reports.
    """

    model: Path | Graph
    out: Path | None = None
    target: str = ""
    target_options: Mapping[str, object] = field(default_factory=dict)
    recipe: Recipe | Path | str | None = None
    passes: tuple[str, ...] = ()
    data: DataSource | str | None = None
    preprocess: str = ""
    limit: int | None = None
    skip_bad: int | None = None
    evaluation: DataSource | str | None = None
    labels: Array | None = None
    budget: Mapping[str, float] = field(default_factory=dict)
    search: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None
    threads: int = 1
    gate: bool = True
    gate_samples: int | None = None
    run_seconds: float = RUN_SECONDS
    measure: bool = True
    measure_seconds: float = 2.0
    freeze: bool = False
    force: bool = False
    dry_run: bool = False
    keep_going: bool = False
    isolate: bool = False
    strict: bool = False
    cache: Path | None = None
    resume: bool = False
    progress: Progress = field(default_factory=Silence)

    def __post_init__(self) -> None:
        """Take texts for paths, and refuse what no request can be.

        Raises:
            UsageError: a number is none or out of range, or a path is none (NNC-R021).
        """
        numbers = {name: getattr(self, name) for name in _Numbers.model_fields}
        given = {name: one.item() if isinstance(one, np.generic) else one for name, one in numbers.items()}
        try:
            _Numbers.model_validate(given)
        except ValidationError as error:
            raise UsageError(refusal(error, _Numbers).told()) from None
        for name in ("out", "cache"):
            path = getattr(self, name)
            if path is not None and not isinstance(path, str | os.PathLike):
                raise UsageError(f"{name}: expected a folder, got {path!r}")
            object.__setattr__(self, name, None if path is None else Path(path))

    @classmethod
    def of(
        cls,
        model: Path | Graph,
        *,
        max_drop: float | None = None,
        min_sqnr_db: float | None = None,
        trials: int | None = None,
        search_seconds: float | None = None,
        **fields: Any,
    ) -> Self:
        """Return the request that arguments make, as the command line and :func:`nncomp.compile` take them.

        An argument that is None or "" says nothing.

        Args:
            model: As the field.
            max_drop, min_sqnr_db: Into ``budget``.
            trials, search_seconds: Into ``search``.
            fields: The others.
        """
        given = _said(fields)
        budget = {**given.pop("budget", {}), **_said({"max_drop": max_drop, "min_sqnr_db": min_sqnr_db})}
        search = {**given.pop("search", {}), **_said({"trials": trials, "seconds": search_seconds})}
        return cls(model=model, budget=budget, search=search, **given)


def _said(arguments: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in arguments.items() if value is not None}
    return {name: value for name, value in said.items() if not isinstance(value, str) or value}


@dataclass(frozen=True, slots=True)
class PlannedPass:
    """One pass of a plan: its spec with all options, what it may do to the numbers, and who provides it."""

    spec: str
    effect: str
    plugin: str


@dataclass(frozen=True, slots=True)
class CompilePlan:
    """What would be done, found without doing it.

    JSON form: ``{model, digest, target, seed, passes: [{spec, effect, plugin}], gate, findings: [{level, node, kind,
    reason}], warnings: [{code, message}]}``.
    """

    model: str
    digest: str
    target: str
    seed: int
    passes: tuple[PlannedPass, ...]
    gate: bool
    findings: tuple[Finding, ...]
    warnings: tuple[Warned, ...] = ()


@dataclass(frozen=True, slots=True)
class CompileResult:
    """What a compilation gives.

    Attributes:
        plan: What was to be done.
        report: What was done; None for a dry run.
        artifact: What the target built; None for a dry run.
        graph: What the passes made of the model; None for a dry run.
        files: What was written, the model first.
        lock: The exact recipe, as TOML.
        notices: What cost time and changed nothing, such as a damaged cache; no part of the report.
    """

    plan: CompilePlan
    report: Report | None = None
    artifact: Artifact | None = None
    graph: Graph | None = None
    files: tuple[Path, ...] = ()
    lock: str = ""
    notices: tuple[Warned, ...] = ()


class BudgetMissedError(GateError):
    """The result misses the user's budget; it is kept as ``model.rejected.onnx``.

    Attributes:
        result: What was compiled.
    """

    default_code = "NNC-G004"

    def __init__(self, message: str, *, result: CompileResult, **details: Any) -> None:
        super().__init__(message, **details)
        self.result = result
