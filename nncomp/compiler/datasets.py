"""The data of a compilation: samples to calibrate on, and samples, with labels where there are some, to judge on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from nncomp.compiler.request import CompileRequest
from nncomp.data import DataOptions, DataSource, labels, open_data, resolve_path
from nncomp.errors import DataError, UsageError
from nncomp.ir import Graph
from nncomp.plugins import Registry
from nncomp.recipe import Recipe
from nncomp.runtime import Array, Feeds


@dataclass(frozen=True, slots=True)
class Datasets:
    """What was opened.

    Attributes:
        calibration: For passes and the gate; None when there is none.
        evaluation: To judge the result on; the same samples when there are no others.
        labels: Classes of the evaluation samples; None when nobody knows.
        held_out: The evaluation samples are others than those of the calibration.
    """

    calibration: DataSource | None = None
    evaluation: DataSource | None = None
    labels: Array | None = None
    held_out: bool = False

    def samples(self) -> Iterator[tuple[Feeds, Array | None]]:
        """Yield the evaluation samples with their labels."""
        if self.evaluation is None:
            return
        for numbers, feeds in self.evaluation.numbered():
            yield feeds, None if self.labels is None else self.labels[list(numbers)]

    def first(self, count: int) -> list[Feeds]:
        """Return the first samples."""
        source = self.calibration if self.calibration is not None else self.evaluation
        return [] if source is None else list(islice(source, count))


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
        first = error.errors()[0]
        raise UsageError(f"--{first['loc'][0]}: {first['msg']}, got {first['input']!r}".replace("_", "-")) from None


def open_datasets(request: CompileRequest, recipe: Recipe, graph: Graph, registry: Registry) -> Datasets:
    """Open the request's data, or else the recipe's. Nothing but headers and labels is read.

    Raises:
        DataError: the data cannot be read or does not fit the model.
    """
    opener = _Opener(request, recipe, graph, registry)
    spec: object = request.data
    if spec is None and recipe.data is not None and recipe.data.path:
        spec = recipe.data.path
        opener = _Opener(request, recipe, graph, registry, base=recipe.source.folder, allow_code=False)
    calibration = opener.open(spec, "calibration") if spec is not None else None
    if request.evaluation is not None:
        opener, spec = _Opener(request, recipe, graph, registry), request.evaluation
    if spec is None:
        return Datasets()
    evaluation = opener.evaluation(spec, calibration)
    known = opener.labels(spec, evaluation)
    return Datasets(calibration, evaluation, known, held_out=calibration is None or _differ(calibration, evaluation))


@dataclass(frozen=True, slots=True)
class _Opener:
    request: CompileRequest
    recipe: Recipe
    graph: Graph
    registry: Registry
    base: Path | None = None
    allow_code: bool = True

    def open(self, spec: object, part: Any) -> DataSource:
        options = data_options(self.request, self.recipe)
        return open_data(
            spec,
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

    def evaluation(self, spec: object, calibration: DataSource | None) -> DataSource:
        """Open the evaluation part; where there is none, the samples of the calibration have to do."""
        if not isinstance(spec, str | os.PathLike) and spec is self.request.data and calibration is not None:
            return calibration
        try:
            return self.open(spec, "evaluation")
        except DataError as error:
            if error.code != "NNC-D004" or calibration is None:
                raise
            return calibration

    def labels(self, spec: object, evaluation: DataSource) -> Array | None:
        given = self.request.labels
        if given is not None:
            return _fitting(np.asarray(given), evaluation)
        path = resolve_path(os.fspath(spec), self.base) if isinstance(spec, str | os.PathLike) else None
        if path is None or not path.exists():
            return None
        inputs = [value.name for value in self.graph.inputs]
        found = labels(path, part="evaluation", inputs=inputs)
        return None if found is None else _fitting(found, evaluation)


def _fitting(found: Array, evaluation: DataSource) -> Array:
    if evaluation.size is not None and len(found) < evaluation.size:
        raise DataError(f"{evaluation.label} has {len(found)} labels for {evaluation.size} samples")
    return found


def _differ(a: DataSource, b: DataSource) -> bool:
    """True when the first samples differ; data whose parts begin alike are taken to be the same."""
    if a is b:
        return False
    x, y = next(iter(a), {}), next(iter(b), {})
    return x.keys() != y.keys() or any(not np.array_equal(x[name], y[name]) for name in x)
