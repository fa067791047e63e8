"""open_data: from what the user wrote after ``--data``, or handed over in Python, to samples that fit the model.

A text is looked at in this order:

1. ``random`` or ``random:N``;
2. ``NAME:ARGUMENT``, where a plugin provides data source ``NAME``;
3. a file or folder; a path that collides with the forms above is written ``./random``;
4. ``module:function``, where code may be named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from nncomp.data.callables import FUNCTION, FunctionSource, from_object
from nncomp.data.checked import Checked
from nncomp.data.feeds import Foreign, plugin_errors
from nncomp.data.folder import FolderSource, array_files
from nncomp.data.images import SUFFIXES as IMAGES
from nncomp.data.images import ImageSource, image_files
from nncomp.data.inputs import data_error
from nncomp.data.labels import Labelled, labelled
from nncomp.data.members import Part
from nncomp.data.npz import NpzSource
from nncomp.data.options import DataOptions, resolve_path
from nncomp.data.preprocess import Preprocess
from nncomp.data.source import DataSource
from nncomp.data.spool import Spooled
from nncomp.data.synthetic import SAMPLES, RandomSource
from nncomp.errors import DataError, UsageError
from nncomp.ir import Graph
from nncomp.validation import refusal

_RANDOM: Final = re.compile(r"random(?::(\d{1,9}))?")


def open_data(
    spec: object,
    graph: Graph,
    *,
    preprocess: Preprocess | str | None = None,
    limit: int | None = None,
    skip_bad: int = 0,
    batch: int = 1,
    part: Part = "calibration",
    strict: bool = False,
    allow_code: bool = False,
    base: Path | None = None,
    seed: int = 0,
    registry_sources: Mapping[str, type[DataSource]] | None = None,
) -> Checked:
    """Return samples for the inputs of ``graph``. Headers are read and checked now, samples as they are asked for.

    Args:
        spec: What to open: a text as above, a path, or an object that :func:`nncomp.data.from_object` takes.
        graph: The model.
        preprocess: For images, and for arrays of uint8 images; a preset's name will do.
        limit: How many samples to look at.
        skip_bad: How many unreadable images are left out before one is an error.
        batch: Samples in one run, if the model leaves that free.
        part: Which of ``x_calibration`` and ``x_evaluation`` to take, if there are such.
        strict: A sample with NaN or infinity is an error.
        allow_code: ``module:function`` may be imported. For what the user typed, never for what a recipe says.
        base: Folder that a relative path starts from, and where modules are looked for, too.
        seed: Of random data.
        registry_sources: Plugins' sources by name.

    Raises:
        DataError: the data cannot be read or does not fit the model (NNC-D001 to NNC-D005).
        PluginError: a plugin's source or the user's function failed (NNC-P010).
    """
    given = {"preprocess": preprocess, "limit": limit, "skip_bad": skip_bad, "batch": batch, "part": part}
    try:
        options = DataOptions.model_validate(given)
    except ValidationError as error:
        raise UsageError(refusal(error, DataOptions).told()) from None
    source: DataSource | None = None
    if isinstance(spec, str):
        source = _named(spec, graph, options, registry_sources or {}, seed)
    if source is None and isinstance(spec, str | os.PathLike):
        source = _from_path(os.fspath(spec), graph, options, base, allow_code=allow_code)
    if source is None:
        source = from_object(spec, graph, preprocess=options.preprocess)
    if source.once:
        source = Spooled(source)
    return Checked(source, graph, limit=limit, batch=batch, strict=strict)


def open_labelled(spec: object, graph: Graph, *, part: Part = "evaluation", **options: Any) -> Labelled:
    """Return samples with their labels; options as for :func:`open_data`.

    Raises:
        DataError: as :func:`open_data`; or there are no labels, or not one a sample (NNC-D003).
    """
    data = open_data(spec, graph, part=part, **options)
    return labelled(data, part, [value.name for value in graph.inputs])


def _named(
    spec: str, graph: Graph, options: DataOptions, plugins: Mapping[str, type[DataSource]], seed: int
) -> DataSource | None:
    """Return random data or a plugin's, None when ``spec`` names neither."""
    random = _RANDOM.fullmatch(spec)
    if random:
        count = int(random[1]) if random[1] else SAMPLES
        return RandomSource(graph, min(count, options.limit or count), seed)
    name, colon, argument = spec.partition(":")
    if not colon or name not in plugins:
        return None
    with plugin_errors(f"data source {name!r} failed to open"):
        return Foreign(plugins[name].open(argument, graph), graph)


def _from_path(spec: str, graph: Graph, options: DataOptions, base: Path | None, *, allow_code: bool) -> DataSource:
    path, how = resolve_path(spec, base), options.preprocess
    if os.path.isdir(path):  # noqa: PTH112  unlike Path's, it never raises
        return _from_folder(path, graph, options)
    if os.path.lexists(path):
        if path.suffix.lower() in IMAGES:
            return ImageSource(path, graph, preprocess=how)
        return NpzSource(path, graph, part=options.part, preprocess=how)
    if not FUNCTION.fullmatch(spec):
        hint = "'~' and variables are not expanded" if spec[:1] in ("~", "$") else ""
        raise data_error(path, "does not exist", code="NNC-D004", hint=hint)
    if not allow_code:
        raise DataError(
            f"data {spec!r} is Python code, which a recipe cannot name",
            code="NNC-D001",
            hint=f"say --data {spec} on the command line",
        )
    return FunctionSource(spec, graph, preprocess=how, limit=options.limit, folder=base or Path())


def _from_folder(path: Path, graph: Graph, options: DataOptions) -> DataSource:
    arrays, images, how = bool(array_files(path)), bool(image_files(path)), options.preprocess
    if arrays and images:
        raise data_error(path, "holds arrays and images, expected one kind", code="NNC-D003")
    if arrays:
        return FolderSource(path, graph, part=options.part, preprocess=how, limit=options.limit)
    if images:
        return ImageSource(path, graph, preprocess=how, skip_bad=options.skip_bad, limit=options.limit)
    hint = "images end in .jpg, .jpeg, .png, .bmp or .webp"
    raise data_error(path, "holds no .npy or .npz files and no images", code="NNC-D004", hint=hint)
