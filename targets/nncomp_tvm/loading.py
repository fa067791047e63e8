"""A compiled model from its files: manifest, library and parameters, each held against the others.

A manifest is read as any file from elsewhere: its size is limited, its form is checked, and no name in it leads out of
its folder. The library is machine code, and whoever loads it trusts who built it.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from pydantic_core import from_json

from nncomp.errors import ModelError, ResourceError, UnsupportedError, UsageError, Where
from nncomp.validation import refusal
from nncomp_tvm.artifact import TvmArtifact, last_line
from nncomp_tvm.code import Linked, foreign_to
from nncomp_tvm.library import VERSION, is_cpu, lacking_features, tensors_stored
from nncomp_tvm.manifest import SCHEMA, Manifest, Port

_LARGEST: Final = 1 << 24
"""Bytes of a manifest: those of our models have a few thousand."""

_AGAIN: Final = "copy the whole folder again, or compile again"

_FileName = Annotated[str, Field(pattern=r"^[^/\\\x00]+$", max_length=255)]


class _Form(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileForm(_Form):
    """A file beside the manifest."""

    file: _FileName
    bytes: NonNegativeInt
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class TensorsForm(FileForm):
    """The file of parameters."""

    count: NonNegativeInt


class PortForm(_Form):
    """An input or output."""

    name: str
    dtype: str = Field(pattern="^[a-z][a-z0-9_]*$")
    shape: tuple[Annotated[int, Field(strict=True, ge=0)] | str, ...] | None


class ManifestForm(_Form):
    """The manifest as it is written, but for ``schema``; those of older versions say nothing of the library."""

    nncomp: str
    entry: Literal["main"]
    inputs: tuple[PortForm, ...]
    outputs: tuple[PortForm, ...] = Field(min_length=1)
    device: Literal["cpu", "cuda"]
    target: dict[str, Any]
    tvm: str = Field(pattern="^[0-9A-Za-z.+_-]+$", max_length=60)
    pinned: dict[str, Any]
    library: FileForm | None = None
    parameters: TensorsForm | None


def load_artifact(folder: Path, *, name: str, threads: int) -> TvmArtifact:
    """Return what :meth:`TvmArtifact.save` wrote; see :func:`nncomp_tvm.load`."""
    if threads < 1:
        raise UsageError(f"threads: expected at least 1, got {threads}")
    form = _form(folder / f"{name}.json")
    manifest = _manifest(form, folder / f"{name}.json")
    if form.device != "cpu":
        raise UnsupportedError(
            "the library is for a GPU, and what loads it here is for a CPU",
            hint="docs/tvm.md has the lines that load it",
        )
    if form.tvm != VERSION:
        raise UnsupportedError(
            f"the library was built with TVM {form.tvm}, and here is {VERSION}",
            hint=f"compile again, or pip install apache-tvm=={form.tvm}",
        )
    cpu = form.target.get("mcpu")
    if not isinstance(cpu, str) or not is_cpu(cpu):
        raise UnsupportedError(
            f"the library is for CPU {str(cpu)[:60]!r}, which LLVM does not know on this kind of machine",
            hint="compile on this machine, or for its CPU",
        )
    library = folder / (form.library.file if form.library else f"{name}.so")
    code = _content(library, form.library)
    parameters = _parameters(folder / form.parameters.file, form.parameters) if form.parameters else ()
    foreign = foreign_to(lacking_features(cpu), cpu)
    artifact = TvmArtifact(Linked(code), manifest, threads, foreign=foreign, parameters=parameters)
    if not foreign:
        try:
            artifact.loaded  # noqa: B018  what cannot be loaded is said now, not when it is run
        except Exception as error:  # TVM's errors share no base class
            raise _damaged(library, f"is no library of a model: {last_line(error)}") from error
    return artifact


def _form(path: Path) -> ManifestForm:
    data = _content(path, None, most=_LARGEST)
    try:
        content = from_json(data)
    except ValueError as error:
        raise _damaged(path, f"is no JSON: {error}") from None
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        raise _damaged(path, f"is no manifest of schema {SCHEMA}")
    try:
        return ManifestForm.model_validate(content)
    except ValidationError as error:
        found = refusal(error, ManifestForm)
        raise _damaged(path, f"is no manifest: {found.told()}") from None


def _manifest(form: ManifestForm, path: Path) -> Manifest:
    inputs, outputs = (
        [Port(port.name, port.dtype, port.shape) for port in ports] for ports in (form.inputs, form.outputs)
    )
    pinned = {name: _numbers(value, name, path) for name, value in form.pinned.items()}
    unknown = sorted(set(pinned) - {port.name for port in inputs})
    if unknown:
        raise _damaged(path, f"is no manifest: pinned: there is no input {unknown[0]!r}")
    return Manifest(inputs, outputs, form.device, form.target, form.tvm, pinned)


def _numbers(value: Any, name: str, path: Path) -> NDArray[Any]:
    try:
        found = np.asarray(value)
    except ValueError:
        found = np.asarray(None)
    if found.dtype.kind not in "biuf":
        raise _damaged(path, f"is no manifest: pinned.{name}: expected numbers")
    return found


def _parameters(path: Path, form: TensorsForm) -> tuple[Any, ...]:
    data = _content(path, form)
    try:
        stored: Mapping[str, Any] = tensors_stored(data)
    except Exception as error:  # TVM's errors share no base class
        raise _damaged(path, f"is no file of parameters: {last_line(error)}") from error
    if len(stored) != form.count or any(str(number) not in stored for number in range(form.count)):
        raise _damaged(path, f"holds {len(stored)} tensors, expected {form.count}, named from '0' on")
    return tuple(stored[str(number)] for number in range(form.count))


def _content(path: Path, told: FileForm | None, *, most: int | None = None) -> bytes:
    """Return the bytes of a file.

    Raises:
        ModelError: it is not there, or not as it is told (NNC-T004).
        ResourceError: memory does not hold it (NNC-E002).
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(path, "is not a regular file")
        if most is not None and status.st_size > most:
            raise _damaged(path, f"has {status.st_size} bytes, expected at most {most}")
        if told is not None and status.st_size != told.bytes:
            raise _damaged(path, f"has {status.st_size} bytes, the manifest says {told.bytes}")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise _damaged(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except MemoryError:
        raise ResourceError(f"memory does not hold {path.name!r}", code="NNC-E002", where=Where(str(path))) from None
    if told is not None and sha256(data).hexdigest() != told.sha256:
        raise _damaged(path, "has another SHA-256 than the manifest says")
    return data


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path.name!r} {reason}", code="NNC-T004", where=Where(file=str(path)), hint=_AGAIN)
