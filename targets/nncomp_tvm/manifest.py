"""The manifest beside a library: what its arguments and results are, and what it was built with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Final

import numpy.typing as npt

from nncomp import __version__

SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: its name in ONNX, element type as numpy calls it, and sizes or symbols.

    ``shape`` is None where not even the rank is known; "" stands for a size without a name.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file beside the manifest."""

    file: str
    bytes: int
    sha256: str


def told(name: str, content: bytes) -> StoredFile:
    """Return what is told of a file."""
    return StoredFile(name, len(content), sha256(content).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """What a caller of the library must know.

    Attributes:
        inputs, outputs: in the order of the arguments of ``main``, and of its results.
        device: ``cpu`` or ``cuda``.
        target: as TVM writes it, options included.
        tvm: version of TVM that it was built with, and that must load it.
        pinned: numbers of inputs that it was built for, by name: with others its results would be wrong.
    """

    inputs: Sequence[Port]
    outputs: Sequence[Port]
    device: str
    target: dict[str, Any]
    tvm: str
    pinned: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def to_json(self, library: StoredFile, parameters: StoredFile | None = None, *, count: int = 0) -> str:
        """Return the file's text, the same for the same build.

        Args:
            library: The code.
            parameters: TVM's form of the tensors that ``main`` takes behind its inputs, if it takes any: their names
                are "0", "1", ... in order.
            count: How many there are.
        """
        pinned = {name: array.tolist() for name, array in self.pinned.items()}
        stored = {**asdict(parameters), "count": count} if parameters is not None else None
        content = {
            "schema": SCHEMA, "nncomp": __version__, "entry": "main", **asdict(self), "pinned": pinned,
            "library": asdict(library), "parameters": stored,
        }  # fmt: skip
        return json.dumps(content, indent=2) + "\n"
