"""``nncomp sensitivity``: rank layers by the error that each causes when it alone is quantized.

JSON: ``{model, target, pass, source, runs, metric, together_db, layers: [{name, kind, sqnr_db, share, drop}], options:
{pass: {option: value}}}``; ``options`` is what a recipe takes as ``[options.PASS]``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nncomp.cli.options import (
    CacheFolder,
    Data,
    Debug,
    Json,
    Limit,
    Model,
    NoCache,
    PassSpecs,
    Plugins,
    Preprocess,
    RecipeName,
    SkipBad,
    TargetWish,
    Threads,
)

if TYPE_CHECKING:
    from nncomp.compiler.sensitivity import Sensitivity

Samples = Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Samples to compare outputs on.")]
Step = Annotated[str, typer.Option("--of", metavar="PASS", help="The pass whose layers to rank (default: the last).")]
Metric = Annotated[
    str,
    typer.Option(
        "--metric", metavar="MODULE:FUNCTION",
        help="How good a model is: called with a function from feeds to outputs; higher is better.",
    ),
]  # fmt: skip
Exclude = Annotated[
    int | None,
    typer.Option(
        "--exclude", metavar="N", min=0, show_default=False,
        help="Layers to leave out in the options (default: those that make half of the noise).",
    ),
]  # fmt: skip
Tuned = Annotated[
    Path | None,
    typer.Option("--write", metavar="FILE", help="Write the recipe with these options.", show_default=False),
]
Top = Annotated[int, typer.Option("--top", metavar="N", min=1, help="Layers to show; JSON has them all.")]


def sensitivity(
    model: Model,
    *,
    target: TargetWish = "",
    recipe: RecipeName = "",
    pass_: PassSpecs = None,
    data: Data = "",
    preprocess: Preprocess = "",
    limit: Limit = None,
    skip_bad: SkipBad = None,
    of: Step = "",
    samples: Samples = 16,
    metric: Metric = "",
    exclude: Exclude = None,
    write: Tuned = None,
    top: Top = 20,
    cache: CacheFolder = None,
    no_cache: NoCache = False,
    threads: Threads = 1,
    plugin: Plugins = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Rank layers by the error that each causes when it alone is quantized."""
    from nncomp.cli.options import cache_folder
    from nncomp.cli.progress import shown_progress
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import show_json
    from nncomp.compiler import CompileRequest
    from nncomp.compiler.metric import load_metric
    from nncomp.compiler.sensitivity import rank_layers
    from nncomp.onnx_io import write_atomically
    from nncomp.report import plain

    score = load_metric(metric) if metric else None
    with shown_progress() as progress:
        request = CompileRequest.of(
            model,
            target=target,
            recipe=recipe,
            passes=tuple(pass_ or ()),
            data=data,
            preprocess=preprocess,
            limit=limit,
            skip_bad=skip_bad,
            threads=threads,
            cache=cache_folder(cache, no_cache=no_cache),
            progress=progress,
        )
        found = rank_layers(request, load_registry(plugin), step=of, samples=samples, metric=score)
    names = found.fragile() if exclude is None else tuple(layer.unit.name for layer in found.layers[:exclude])
    if write is not None:
        write_atomically(write, [found.tuned_recipe(names).to_toml().encode()])
    if json:
        show_json(plain(found.as_dict(names)))
        return
    _show(found, names, top)


def _show(found: Sensitivity, names: tuple[str, ...], top: int) -> None:
    from nncomp.cli.tables import decibel_text, points_text, say, show_table
    from nncomp.recipe import options_section

    scored = found.metric is not None
    rows = [
        (
            number, layer.unit.name, layer.unit.kind, decibel_text(layer.sqnr_db), f"{layer.share:.1%}",
            *([points_text(layer.drop or 0.0)] if scored else []),
        )
        for number, layer in enumerate(found.layers[:top], 1)
    ]  # fmt: skip
    columns = ("", "layer", "kind", "SQNR alone", "noise", *(["metric"] if scored else []))
    show_table("", columns, rows, right=(0, 3, 4, 5))
    if len(found.layers) > top:
        say(f"and {len(found.layers) - top} more: --top {len(found.layers)} or --json")
    say()
    say(f"all of them together: {decibel_text(found.together_db)}, on {found.runs} runs of {found.source}")
    if scored:
        say(f"the metric before is {found.metric:.4g}; changes are in hundredths")
    if names:
        say("for a recipe, to leave the worst alone:")
        say()
        for line in options_section(found.step.name, found.options(names)):
            say(line)
