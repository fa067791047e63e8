"""``nncomp reduce``: make a model on which passes fail as small as it gets, with all that replays the failure.

JSON: ``{model, code, message, ops_before, ops_after, files}``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nncomp.cli.options import Debug, Json, Model, Plugins

Out = Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where to write.", show_default=False)]
Recipe = Annotated[
    Path | None, typer.Option("-r", "--recipe", metavar="RECIPE", help="Recipe of the passes.", show_default=False)
]
Passes = Annotated[
    list[str] | None, typer.Option("-p", "--pass", metavar="PASS", help="Pass; may be repeated.", show_default=False)
]
Seed = Annotated[int, typer.Option("--seed", help="Of the inputs that graphs are compared on.")]
Tries = Annotated[int, typer.Option("--tries", min=1, help="Most graphs to try.")]


def reduce(
    model: Model,
    *,
    out: Out,
    recipe: Recipe = None,
    passes: Passes = None,
    seed: Seed = 0,
    tries: Tries = 2000,
    plugin: Plugins = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a model on which passes fail small."""
    from nncomp import onnx_io
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import say, show_json
    from nncomp.errors import UsageError
    from nncomp.recipe import Recipe as PassList
    from nncomp.recipe import build_passes, load_recipe
    from nncomp.reduce import Failure, reduce_failure

    if (recipe is None) == (not passes):
        raise UsageError("give a recipe or passes, and not both")
    registry = load_registry(plugin)
    followed = load_recipe(recipe) if recipe is not None else PassList(passes=tuple(passes or ()))
    failure = Failure(build_passes(followed, registry), seed=seed)
    graph = onnx_io.load(model)
    found = reduce_failure(graph, failure, out, tries=tries)
    if json:
        show_json({"model": model.name, **found.as_dict()})
        return
    print(f"{found.code}: {found.message}")
    print(f"{found.ops_before} ops became {found.ops_after}")
    say(f"replay: nncomp compile {out}/repro.onnx -r {out}/recipe.toml --seed {seed}{registry.flags}")
