"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nncomp.cli.completion import model_files, pass_names, recipe_names, target_names

if TYPE_CHECKING:
    from nncomp.ir import Graph

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="ONNX model file.", show_default=False, autocompletion=model_files)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Print tracebacks of errors.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="MODULE", help="Load this module as a plugin, too. Repeatable.", show_default=False
    ),
]
TargetName = Annotated[
    str,
    typer.Option(
        "--target", "-t", metavar="NAME", help="What to compile for: `nncomp targets` lists them.",
        autocompletion=target_names,
    ),
]  # fmt: skip
Dims = Annotated[
    list[str] | None,
    typer.Option("--dim", metavar="NAME=SIZE", help="Size of a symbolic dimension; others are 1. Repeatable."),
]
Threads = Annotated[int, typer.Option("--threads", metavar="N", min=1, max=1024, help="Threads to run on.")]

TargetWish = Annotated[
    str,
    typer.Option(
        "--target", "-t", metavar="NAME", help="What to compile for (default: the recipe's, else ort).",
        autocompletion=target_names,
    ),
]  # fmt: skip
RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe", "-r", metavar="FILE|NAME", help="What to do (default: the target's own recipe).",
        autocompletion=recipe_names,
    ),
]  # fmt: skip
PassSpecs = Annotated[
    list[str] | None,
    typer.Option(
        "--pass", "-p", metavar="SPEC", show_default=False, autocompletion=pass_names,
        help="A pass instead of a recipe, as in 'quantize{skip=[\"head*\"]}'. Repeatable, in order.",
    ),
]  # fmt: skip
Data = Annotated[
    str,
    typer.Option("--data", metavar="DATA", help="Samples: .npz, a folder, module:function, random."),
]
Preprocess = Annotated[str, typer.Option("--preprocess", metavar="PRESET", help="Of images: unit, tf or imagenet.")]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Use at most this many samples.", show_default=False)
]
SkipBad = Annotated[
    int | None,
    typer.Option(
        "--skip-bad", metavar="N", min=0, help="Leave out up to this many unreadable samples.", show_default=False
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache", metavar="FOLDER", show_default=False,
        help="What earlier runs found out, such as calibration (default: nncomp in the user's cache folder).",
    ),
]  # fmt: skip
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither use nor keep what earlier runs found out.")]


def default_cache() -> Path | None:
    """Return where earlier runs keep what they found out; None where the user has no home."""
    from os import environ

    home = environ.get("XDG_CACHE_HOME") or environ.get("LOCALAPPDATA")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "nncomp"
    except RuntimeError:
        return None


def cache_folder(named: Path | None, *, no_cache: bool) -> Path | None:
    """Return where this run keeps what it finds out: None for nowhere."""
    return None if no_cache else named or default_cache()


def quantity(option: str, text: str, unit: str, factor: float = 1.0) -> float | None:
    """Return the number that ``text`` gives, times ``factor`` when ``unit`` stands behind it; None for "".

    Raises:
        UsageError: it is no finite number (NNC-R021).
    """
    from math import isfinite, nan

    from nncomp.errors import UsageError

    if not text:
        return None
    bare = text.strip().lower().removesuffix(unit.lower())
    try:
        number = float(bare) if "_" not in bare else nan
    except ValueError:
        number = nan
    if not isfinite(number):
        raise UsageError(f"{option}: expected a number, or one with {unit!r} behind it, got {text!r}")
    return number if bare == text.strip().lower() else number * factor


def dimensions(given: list[str] | None) -> dict[str, int]:
    """Return ``--dim`` as sizes by name.

    Raises:
        UsageError: an entry is not ``NAME=SIZE`` (NNC-R021).
    """
    from nncomp.errors import UsageError

    sizes: dict[str, int] = {}
    for text in given or ():
        name, _, size = text.rpartition("=")
        if not (name and size.isascii() and size.isdigit() and int(size)):
            raise UsageError(f"--dim: expected NAME=SIZE, got {text!r}", hint="as in --dim N=8")
        sizes[name] = int(size)
    return sizes


def input_shapes(graph: Graph, sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a graph's inputs by name, symbolic dimensions of the given sizes; others are 1."""
    return {
        value.name: tuple(dim if isinstance(dim, int) else sizes.get(dim or "", 1) for dim in value.shape)
        for value in graph.inputs
        if value.shape is not None
    }
