"""``nncomp bench``: latency on ONNX Runtime with all its optimizations, of one model or of two in turn.

JSON: ``{model, baseline, latency_us, baseline_us, ratio, spread: [low, high], pairs, threads, inputs: {name: shape}}``.
With one model the baseline is the model itself, and the spread of the ratio is the machine's noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nncomp.cli.options import Debug, Dims, Json, Model, Plugins, Threads, dimensions

Baseline = Annotated[
    Path | None, typer.Argument(metavar="[BASELINE]", help="Model to compare with.", show_default=False)
]
Data = Annotated[str, typer.Option("--data", metavar="DATA", help="Take the first sample of this, not random numbers.")]
Seconds = Annotated[float, typer.Option("--seconds", metavar="S", min=0.05, max=3600, help="Wall time to spend.")]


def bench(
    model: Model,
    baseline: Baseline = None,
    *,
    data: Data = "",
    dim: Dims = None,
    seconds: Seconds = 2.0,
    threads: Threads = 1,
    plugin: Plugins = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a model's latency, alone or against another."""
    from dataclasses import asdict

    from nncomp import onnx_io
    from nncomp.bench import compare_latency
    from nncomp.cli.registry import load_registry
    from nncomp.cli.tables import say, show_json, time_text
    from nncomp.data import open_data
    from nncomp.runtime import Session, random_feeds

    sizes = dimensions(dim)
    graph = onnx_io.load(model)
    if data:
        registry = load_registry(plugin)
        feeds = next(iter(open_data(data, graph, registry_sources=registry.data_sources, allow_code=True)))
    else:
        feeds = random_feeds(graph, dims=sizes)
    ours = Session(graph, optimize=True, threads=threads)
    theirs = Session(onnx_io.load(baseline), optimize=True, threads=threads) if baseline else ours
    found = compare_latency(lambda: ours.run(feeds), lambda: theirs.run(feeds), seconds=seconds, threads=threads)
    shapes = {name: list(array.shape) for name, array in feeds.items()}
    if json:
        show_json(
            {"model": str(model), "baseline": str(baseline) if baseline else None, **asdict(found), "inputs": shapes}
        )
        return
    inputs = ", ".join(f"{name}{shape}" for name, shape in shapes.items())
    say(f"{model}: {time_text(found.latency_us)} a run ({threads} thread{'s' * (threads > 1)}, {inputs})")
    if baseline:
        say(f"{baseline}: {time_text(found.baseline_us)} a run")
        say(
            f"{model.name} is {found.ratio:.2f}x as fast (10th to 90th percentile {found.spread[0]:.2f} to "
            f"{found.spread[1]:.2f}, {found.pairs} pairs)"
        )
    else:
        say(
            f"noise: the model against itself is {found.spread[0]:.2f}x to {found.spread[1]:.2f}x ({found.pairs} pairs)"
        )
