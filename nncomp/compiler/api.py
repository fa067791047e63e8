"""nncomp.compile: the compilation of the command line for Python and notebooks, one call in and one object out."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx

from nncomp.compiler.driver import compile_model, saved
from nncomp.compiler.loading import model_files
from nncomp.compiler.outputs import check_output
from nncomp.compiler.request import CompileRequest, CompileResult
from nncomp.errors import UsageError
from nncomp.ir import Graph
from nncomp.onnx_io import from_bytes, graph_from_proto
from nncomp.passes import Pass
from nncomp.plugins import Registry
from nncomp.recipe import Recipe, full_spec
from nncomp.report import Report
from nncomp.runtime import Array, Feeds
from nncomp.targets import Artifact

Model: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto | Graph


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled model.

    Attributes:
        result: All that the compilation gave.
        graph: What the passes made of the model; the target may have changed a copy of it further.
    """

    result: CompileResult
    graph: Graph
    _sources: tuple[Path, ...] = ()

    @property
    def report(self) -> Report:
        """What was done, and what came of it."""
        assert self.result.report is not None
        return self.result.report

    @property
    def artifact(self) -> Artifact:
        """What the target built."""
        assert self.result.artifact is not None
        return self.result.artifact

    @property
    def recipe(self) -> str:
        """The exact recipe, as TOML: every option, every version, and digests of model and data."""
        return self.result.lock

    def run(self, feeds: Feeds | Array) -> dict[str, Any]:
        """Run once; outputs by name.

        Args:
            feeds: Arrays by the name of the input, or the array of the only input that must be given.

        Raises:
            UsageError: one array for a model of several inputs (NNC-R021).
        """
        if isinstance(feeds, Mapping):
            return self.artifact.run(feeds)
        names = [value.name for value in self.graph.inputs if value.default is None]
        if len(names) != 1:
            raise UsageError(
                f"one array was given, and the model takes {len(names)} inputs: {', '.join(names)}",
                hint="give arrays by name",
            )
        return self.artifact.run({names[0]: np.asarray(feeds)})

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> tuple[Path, ...]:
        """Write what ``nncomp compile -o FOLDER`` writes: the model, the report and the exact recipe; all or nothing.

        Args:
            folder: Made if need be.
            force: Replace files of our names that no compilation wrote.

        Returns:
            The files, the model first.

        Raises:
            UsageError: the folder holds the model itself, or such files of others (NNC-R020).
            ResourceError: the disk refused (NNC-E001).
        """
        out = Path(folder)
        check_output(out, self._sources, force=force)
        return saved(self.result, out).files

    def __repr__(self) -> str:
        return f"<Compiled {self.report.model_name} for {self.report.target}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def compile(
    model: Model,
    target: str = "",
    *,
    data: Any = None,
    recipe: Recipe | Path | str | None = None,
    passes: Sequence[str | Pass] = (),
    max_drop: float | None = None,
    min_sqnr_db: float | None = None,
    measure: bool = True,
    registry: Registry | None = None,
    **more: Any,
) -> Compiled:
    """Compile a model as ``nncomp compile`` does, without writing anything: see :meth:`Compiled.save`.

    Args:
        model: A file, its bytes, a protobuf message, or a graph, which stays as it is.
        target: Name, or ``name{option=value, ...}``; default: the recipe's, else ``ort``.
        data: Calibration data: what ``--data`` takes, a data source, arrays, or anything that gives feeds.
        recipe: A recipe, its file, or the name of one that a plugin provides; default: the target's own.
        passes: Instead of a recipe: passes, or texts as ``-p`` takes them. Classes need not be registered.
        max_drop: Share of the accuracy that may be lost.
        min_sqnr_db: Least SQNR of each output, decibels.
        measure: Measure latency, for two seconds.
        registry: Plugins; default: all that are installed.
        more: Any other field of :class:`nncomp.CompileRequest`.

    Raises:
        BudgetMissedError: the result misses the budget (NNC-G004); it carries the result.
        UsageError: there is no such argument (NNC-R021).
        NncompError: whatever else went wrong; its code says what.
    """
    _refuse_unknown(more)
    registry = registry if registry is not None else Registry.discover()
    source, sources = _opened(model)
    request = CompileRequest.of(
        source,
        target=target,
        data=data,
        recipe=recipe,
        passes=tuple(full_spec(step) if isinstance(step, Pass) else step for step in passes),
        max_drop=max_drop,
        min_sqnr_db=min_sqnr_db,
        measure=measure,
        **more,
    )
    result = compile_model(request, _with_classes(registry, passes))
    assert result.graph is not None
    return Compiled(result, result.graph, sources)


def _refuse_unknown(more: Mapping[str, Any]) -> None:
    known = sorted({field.name for field in fields(CompileRequest)} - {"dry_run"})
    for name in more:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise UsageError(f"compile() has no argument {name!r}", hint=hint)


def _opened(model: Model) -> tuple[Path | Graph, tuple[Path, ...]]:
    """Return what a request takes, and the files that the model came from."""
    if isinstance(model, Graph):
        return model, ()
    if isinstance(model, onnx.ModelProto):
        return graph_from_proto(model), ()
    if isinstance(model, bytes):
        return from_bytes(model), ()
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"model: expected a file, bytes, an onnx.ModelProto or a graph, got {type(model).__name__}")
    path = Path(model)
    return path, tuple(model_files(path)) if path.is_file() else ()


def _with_classes(registry: Registry, passes: Sequence[str | Pass]) -> Registry:
    """Return a registry that knows the classes of ``passes``, too; the given one stays as it is."""
    classes = {step.name: type(step) for step in passes if isinstance(step, Pass)}
    owners = {
        ("pass", name): kind.__module__ for name, kind in classes.items() if registry.passes.get(name) is not kind
    }
    if not owners:
        return registry
    return replace(registry, passes={**registry.passes, **classes}, owners={**registry.owners, **owners})
