"""The plan of a compilation: recipe, target, passes, model and data, each found or refused before any work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from nncomp import __version__
from nncomp.cache import Cache
from nncomp.checkpoint import Checkpoint
from nncomp.compiler.datasets import Datasets, data_options, open_datasets
from nncomp.compiler.loading import freeze_defaults, model_files, total_bytes
from nncomp.compiler.oddities import odd_weights, wrong_shapes
from nncomp.compiler.outputs import check_output
from nncomp.compiler.request import CompilePlan, CompileRequest, PlannedPass
from nncomp.errors import ModelError, NncompError, RecipeError, UsageError
from nncomp.infer import infer_types
from nncomp.ir import Graph
from nncomp.onnx_io import load
from nncomp.options import parse_spec
from nncomp.passes import Context, Pass
from nncomp.plugins import Registry
from nncomp.probe import TargetProbe
from nncomp.recipe import Lock, Recipe, build_passes, full_spec, load_recipe
from nncomp.report import Warned
from nncomp.runtime import Feeds, random_feeds, runtime_version
from nncomp.targets import Target
from nncomp.text import model_digest
from nncomp.validation import refusal
from nncomp.verify import verify

Section = TypeVar("Section", bound=BaseModel)

DEFAULT_TARGET: Final = "ort"


@dataclass
class Prepared:
    """All that a compilation needs, checked.

    Attributes:
        request, registry: As given.
        recipe: What is followed: the recipe with the request's own wishes put in.
        target, passes: Ready to use.
        original: The model, frozen if that was asked for; never changed.
        name: Of the model, without its folder.
        digest: Of the model as it came.
        input_bytes: Size of its files; None when it came as a graph.
        data: As opened.
        feeds: The first inputs, real or random, for the gate, shapes and latency.
        feeds_skipped: Why there are none.
        warnings: What was found on the way.
    """

    request: CompileRequest
    registry: Registry
    recipe: Recipe
    target: Target
    passes: list[Pass]
    original: Graph
    name: str
    digest: str
    input_bytes: int | None
    data: Datasets
    feeds: list[Feeds]
    feeds_skipped: str
    warnings: list[Warned] = field(default_factory=list)

    def checkpoint(self) -> Checkpoint | None:
        """Return where it is kept how far the work is; None when nothing is written at all."""
        out = self.request.out
        if out is None:
            return None
        data, judge = self.data.calibration, self.data.evaluation
        basis = [
            __version__, runtime_version(), self.digest, self.recipe.freeze, self.recipe.seed, self.target.spec,
            data.fingerprint() if data is not None else "",
            judge.fingerprint() if judge is not None and judge is not data else "",
            data_options(self.request, self.recipe).model_dump_json(),
            self.recipe.gate.model_dump(), self.request.keep_going, self.origins(),
        ]  # fmt: skip
        return Checkpoint(Path(f"{out.resolve()}.checkpoint"), basis, resume=self.request.resume)

    def context(self, cache: Cache | None = None) -> Context:
        """Return a fresh context for the passes and the target."""
        return Context(
            ops=self.registry.ops,
            target=self.target.capabilities,
            probe=TargetProbe(self.target, self.registry.ops, self.recipe.seed),
            data=self.data.calibration,
            seed=self.recipe.seed,
            threads=self.request.threads,
            cache=cache,
            progress=self.request.progress,
            reproducer=self.reproducer,
        )

    @property
    def reproducer(self) -> Path | None:
        """Folder for what replays a pass or a build that broke; None when nothing is written at all."""
        out = self.request.out
        return Path(f"{out.resolve()}.repro") if out is not None else None

    def plan(self, *, check: bool) -> CompilePlan:
        """Return the plan; with ``check``, also what the target says of the model as it is."""
        return CompilePlan(
            model=self.name,
            digest=self.digest,
            target=self.target.spec,
            seed=self.recipe.seed,
            passes=tuple(
                PlannedPass(full_spec(step), step.effect.value, self.registry.owner("pass", step.name))
                for step in self.passes
            ),
            gate=self.recipe.gate.enabled,
            findings=tuple(self.target.check(self.original, self.context())) if check else (),
            warnings=tuple(self.warnings),
        )

    def lock_passes(self) -> tuple[str, ...]:
        """Return the passes with all their options."""
        return tuple(full_spec(step) for step in self.passes)

    def origins(self) -> dict[str, str]:
        """Return the version of what provides each plugin that is used."""
        used = {self.registry.owner("pass", step.name) for step in self.passes}
        used.add(self.registry.owner("target", self.target.name))
        origins = {state.name: state.origin for state in self.registry.plugins}
        return {name: origins.get(name, "") for name in sorted(used) if name}

    def lock(self) -> Recipe:
        """Return the exact recipe: every option, every version, no path and no date; the same for the same input."""
        data, options = self.data.calibration, data_options(self.request, self.recipe)
        return self.recipe.model_copy(
            update={
                "target": self.target.spec,
                "passes": self.lock_passes(),
                "options": {},
                "data": options.model_copy(update={"path": ""}),
                "lock": Lock(
                    nncomp=__version__,
                    plugins=self.origins(),
                    model=self.digest,
                    data=data.fingerprint() if data is not None else "",
                ),
            }
        )


def prepare(request: CompileRequest, registry: Registry) -> Prepared:
    """Check everything that can be checked before work begins, what costs nothing first.

    Raises:
        NncompError: whatever is wrong with the request, the recipe, the model or the data.
    """
    recipe = _followed(request, registry)
    target = registry.target(recipe.target, request.target_options)
    target.require()
    passes = build_passes(recipe, registry, target.capabilities)
    original, name, files = _model(request, registry)
    if request.out is not None:
        check_output(request.out, files, force=request.force)
    digest = model_digest(original)
    if recipe.freeze:
        freeze_defaults(original)
    data = open_datasets(request, recipe, original, registry)
    if recipe.budget.max_drop is not None and data.labels is None:
        raise RecipeError(
            "the budget limits the drop of accuracy, but there are no labels",
            code="NNC-R012",
            hint="name an array 'y' beside the samples of --data, or put images into one folder a class",
        )
    size = total_bytes(files) if files else None
    prepared = Prepared(request, registry, recipe, target, passes, original, name, digest, size, data, [], "")
    prepared.warnings += [*wrong_shapes(original), *odd_weights(original, registry.ops), *_lock_warnings(prepared)]
    if not request.dry_run:
        prepared.feeds, prepared.feeds_skipped = _first_feeds(prepared)
    return prepared


def _followed(request: CompileRequest, registry: Registry) -> Recipe:
    recipe = _given_recipe(request, registry)
    name = request.target or (recipe.target if recipe else "") or DEFAULT_TARGET
    if recipe is not None and parse_spec(recipe.target)[0] == name:
        name = recipe.target  # with the options that the recipe gives it
    if recipe is None:
        default = registry.target(name).default_recipe
        if not default:
            raise UsageError(f"target {name!r} has no recipe of its own", hint="give -r RECIPE or -p PASS")
        recipe = load_recipe(registry.recipe_path(default))
    if recipe.target and parse_spec(recipe.target)[0] != parse_spec(name)[0]:
        raise RecipeError(
            f"the recipe is for target {recipe.target!r}, asked for is {name!r}",
            code="NNC-R012",
            hint=f"leave out -t, or change the recipe's target ({recipe.source.file or 'given in Python'})",
        )
    gate = recipe.gate.model_copy(
        update={"enabled": recipe.gate.enabled and request.gate, "samples": request.gate_samples or recipe.gate.samples}
    )
    wishes = {
        "target": name,
        "gate": gate,
        "budget": _wished(recipe.budget, request.budget, "budget"),
        "search": _wished(recipe.search, request.search, "search"),
        "seed": recipe.seed if request.seed is None else request.seed,
        "freeze": recipe.freeze or request.freeze,
    }
    return recipe.model_copy(update=wishes).located(recipe.source)


def _wished(section: Section, wishes: Mapping[str, float], name: str) -> Section:
    """Return a section of the recipe with the request's own wishes put in."""
    try:
        return section.model_validate({**section.model_dump(), **wishes})
    except ValidationError as error:
        refused = refusal(error, type(section))
        hint = "a part of 1: --max-drop 0.05 or 5%" if refused.field == "max_drop" else refused.hint()
        raise UsageError(refused.told(name), hint=hint) from None


def _given_recipe(request: CompileRequest, registry: Registry) -> Recipe | None:
    if request.passes:
        if request.recipe is not None:
            raise UsageError("give a recipe or passes, not both", hint="add the passes to the recipe")
        return Recipe(passes=request.passes)
    recipe = request.recipe
    if recipe is None or isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str | os.PathLike):
        raise UsageError(f"recipe: expected a recipe, its file or its name, got {recipe!r}")
    path = Path(recipe)
    if not path.exists() and path.name == str(recipe) and not path.suffix:
        path = registry.recipe_path(str(recipe))
    return load_recipe(path)


def _model(request: CompileRequest, registry: Registry) -> tuple[Graph, str, list[Path]]:
    if isinstance(request.model, Graph):
        graph, name, files = request.model.clone(), request.model.name, []
    else:
        path = Path(request.model)
        graph, name, files = load(path), path.name, model_files(path)
    try:
        if not graph.outputs:
            raise ModelError("the graph has no outputs", code="NNC-M034")
        verify(graph)
        infer_types(graph.clone(), registry.ops)
    except ModelError as error:
        error.where = replace(error.where, file=str(files[0]) if files else "")
        raise
    return graph, name, files


def _first_feeds(prepared: Prepared) -> tuple[list[Feeds], str]:
    if prepared.data.first:
        return list(prepared.data.first), ""
    try:
        return [random_feeds(prepared.original, seed=prepared.recipe.seed)], ""
    except NncompError as error:
        return [], error.message


def _lock_warnings(prepared: Prepared) -> list[Warned]:
    lock = prepared.recipe.lock
    if lock is None:
        return []
    now = prepared.lock().lock
    assert now is not None
    found = []
    if lock.model and lock.model != now.model:
        found.append(Warned("NNC-W060", "the recipe was locked for another model"))
    if lock.data and lock.data != now.data:
        found.append(Warned("NNC-W061", "the recipe was locked for other data"))
    if (lock.nncomp, lock.plugins) != (now.nncomp, now.plugins):
        found.append(Warned("NNC-W062", "the recipe was locked with other versions of nncomp or its plugins"))
    return found
