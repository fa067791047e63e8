"""The data of a compilation: samples to calibrate on, and samples, with labels where there are some, to judge on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from nncomp.compiler.request import CompileRequest
from nncomp.data import DataOptions, DataSource, labels, open_data, resolve_path
from nncomp.errors import DataError, UsageError
from nncomp.ir import Graph, TensorType
from nncomp.plugins import Registry
from nncomp.recipe import Recipe
from nncomp.runtime import Array, Feeds
from nncomp.validation import refusal


@dataclass(frozen=True, slots=True)
class Datasets:
    """What was opened.

    Attributes:
        calibration: For passes and the gate; None when there is none.
        evaluation: To judge the result on; the same samples when there are no others.
        labels: Classes of the evaluation samples; None when nobody knows.
        held_out: The evaluation samples are others than those of the calibration.
        first: The first samples, for the gate, shapes and latency.
    """

    calibration: DataSource | None = None
    evaluation: DataSource | None = None
    labels: Array | None = None
    held_out: bool = False
    first: tuple[Feeds, ...] = ()

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """Yield the evaluation samples with their labels."""
        if self.evaluation is None:
            return
        for numbers, feeds in self.evaluation.numbered():
            yield feeds, None if self.labels is None else self.labels[list(numbers)]


def data_options(request: CompileRequest, recipe: Recipe) -> DataOptions:
    """Return the recipe's data options with the request's own put in.

    Raises:
        UsageError: one is wrong (NNC-R021).
    """
    given: dict[str, Any] = {
        "preprocess": request.preprocess or None,
        "limit": request.limit,
        "skip_bad": request.skip_bad,
    }
    asked = {name: value for name, value in given.items() if value is not None}
    base = recipe.data or DataOptions()
    try:
        return DataOptions.model_validate({**base.model_dump(), **asked})
    except ValidationError as error:
        refused = refusal(error, DataOptions)
        option = refused.path[0].replace("_", "-")
        hint = "--preprocess takes a preset's name; fields go into a recipe, as [data.preprocess]"
        raise UsageError(f"--{option}: {refused.reason}", hint=hint if option == "preprocess" else "") from None


def open_datasets(request: CompileRequest, recipe: Recipe, graph: Graph, registry: Registry) -> Datasets:
    """Open the request's data, or else the recipe's. Headers, labels and the first samples are read.

    Raises:
        DataError: the data cannot be read or does not fit the model.
    """
    opener = _Opener(request, recipe, graph, registry, spec=request.data)
    if request.data is None and recipe.data is not None and recipe.data.path:
        # What a recipe names is data beside it, never code.
        opener = replace(opener, spec=recipe.data.path, base=recipe.source.folder, allow_code=False)
    judge = opener if request.evaluation is None else _Opener(request, recipe, graph, registry, request.evaluation)
    calibration = opener.open("calibration") if opener.spec is not None else None
    if judge.spec is None:
        return Datasets()
    evaluation = judge.evaluation(calibration if judge is opener else None)
    known = judge.labels(evaluation)
    looked_at = judge.again("evaluation", evaluation)
    held_out = calibration is None
    if calibration is not None:
        beginning = opener.again("calibration", calibration)
        held_out = evaluation is not calibration and _differ(beginning, looked_at)
        looked_at = beginning
    first = () if request.dry_run else tuple(islice(looked_at, recipe.gate.samples))
    return Datasets(calibration, evaluation, known, held_out, first)


@dataclass(frozen=True, slots=True)
class _Opener:
    """Opens one piece of data, in the way that the recipe and the request ask for."""

    request: CompileRequest
    recipe: Recipe
    graph: Graph
    registry: Registry
    spec: object
    base: Path | None = None
    allow_code: bool = True

    def open(self, part: Any) -> DataSource:
        options = data_options(self.request, self.recipe)
        return open_data(
            self.spec,
            self.graph,
            preprocess=options.preprocess,
            limit=options.limit,
            skip_bad=options.skip_bad,
            batch=options.batch,
            part=part,
            strict=self.request.strict,
            allow_code=self.allow_code,
            base=self.base,
            seed=self.recipe.seed,
            registry_sources=self.registry.data_sources,
        )

    @property
    def is_text(self) -> bool:
        return isinstance(self.spec, str | os.PathLike)

    def again(self, part: Any, opened: DataSource) -> DataSource:
        """Return a source for a look at the beginning: what ``opened`` counts and warns of is of whole iterations.

        An object that was handed over may be good for one use only, and is not opened twice.
        """
        return self.open(part) if self.is_text and opened.size is not None else opened

    def evaluation(self, calibration: DataSource | None) -> DataSource:
        """Open the evaluation part; where there is none, the samples of the calibration have to do."""
        if calibration is not None and not self.is_text:
            return calibration
        try:
            return self.open("evaluation")
        except DataError as error:
            if error.code != "NNC-D004" or calibration is None:
                raise
            return calibration

    def labels(self, evaluation: DataSource) -> Array | None:
        given = self.request.labels
        if given is not None:
            return _fitting(_rows(given), evaluation, self.graph)
        path = resolve_path(os.fspath(self.spec), self.base) if isinstance(self.spec, str | os.PathLike) else None
        if path is None or not path.exists():
            return None
        found = labels(path, part="evaluation", inputs=[value.name for value in self.graph.inputs])
        return None if found is None else _fitting(found, evaluation, self.graph)


def _rows(given: object) -> Array:
    """Return labels that somebody handed over as an array of one row a sample."""
    try:
        found = np.asarray(given)
    except ValueError:  # rows of different lengths
        found = np.asarray(None)
    if not found.ndim:
        raise DataError(f"labels: expected an array with one class a sample, got {type(given).__name__}")
    return found


def _fitting(found: Array, evaluation: DataSource, graph: Graph) -> Array:
    if evaluation.size is not None and len(found) < evaluation.size:
        raise DataError(f"{evaluation.label} has {len(found)} labels for {evaluation.size} samples")
    scores = _scores(graph)
    if scores is None or found.size != len(found) or not found.size:
        return found  # a metric's own, which nobody here reads
    name, classes = scores
    expected = f"expected integers from 0 to {classes - 1}, the classes of output {name!r}"
    if found.dtype.kind not in "iub":
        raise DataError(f"{evaluation.label}: labels are {found.dtype}, {expected}")
    low, high = int(found.min()), int(found.max())
    if low < 0 or high >= classes:
        raise DataError(f"{evaluation.label}: labels go from {low} to {high}, {expected}")
    return found


def _scores(graph: Graph) -> tuple[str, int] | None:
    """Return the output that looks like scores of classes, with their number; None when no such number is known."""
    for value in graph.outputs:
        kind = value.type
        if isinstance(kind, TensorType) and kind.dtype.is_floating_point() and kind.rank == 2 and kind.shape:
            classes = kind.shape[1]
            if not isinstance(classes, int):
                return None  # it may be this one
            if classes > 1:
                return value.name, classes
    return None


def _differ(a: DataSource, b: DataSource) -> bool:
    """True when the first samples differ; data whose parts begin alike are taken to be the same."""
    x, y = next(iter(a), {}), next(iter(b), {})
    return x.keys() != y.keys() or any(not np.array_equal(x[name], y[name]) for name in x)
