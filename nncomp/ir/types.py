"""Types of values: every type that ONNX can write, as frozen, comparable data.

``str(type)`` is ONNX text syntax (``float[N,3,224,224]``), which :mod:`nncomp.text` prints and ``onnx.parser`` reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from nncomp.ir.dtypes import DataType

Dim: TypeAlias = int | str | None
"""One dimension: a size, a symbol, or unknown."""

Shape: TypeAlias = tuple[Dim, ...]

DTYPE_NAMES: Final[dict[DataType, str]] = {
    **{dtype: dtype.name.lower() for dtype in DataType},
    DataType.UNDEFINED: "undefined",
}
"""ONNX text syntax's word for each element type."""


def quote_name(name: str) -> str:
    """Return ``name`` as an identifier of ONNX text syntax, quoted where it must be."""
    plain = name.isascii() and (name[:1].isalpha() or name[:1] == "_") and name.replace("_", "a").isalnum()
    return name if plain else quote_text(name)


def quote_text(text: str) -> str:
    r"""Return ``text`` as a string literal of ONNX text syntax (its reader takes the sign behind ``\`` as it is)."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(frozen=True, slots=True)
class TensorType:
    """A dense tensor; ``shape`` is None when even the rank is unknown."""

    dtype: DataType
    shape: Shape | None = None
    denotation: str = ""
    dim_denotations: tuple[str, ...] = ()

    @property
    def rank(self) -> int | None:
        """Number of axes, None when unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...] | None:
        """The shape when every dimension is a number, else None."""
        if self.shape is None:
            return None
        for dim in self.shape:
            if not isinstance(dim, int):
                return None
        return cast("tuple[int, ...]", self.shape)

    @property
    def size(self) -> int | None:
        """Number of elements, None when not static."""
        shape = self.static_shape
        return None if shape is None else math.prod(shape)

    @property
    def nbytes(self) -> int | None:
        """Bytes of the elements (sub-byte types packed), None when not static."""
        size = self.size
        return None if size is None or self.dtype == DataType.STRING else math.ceil(size * self.dtype.itemsize)

    def __str__(self) -> str:
        word = DTYPE_NAMES[self.dtype]
        if self.shape is None:
            return f"{word}[]"
        if not self.shape:
            return word
        return f"{word}[{','.join(_dim_text(dim) for dim in self.shape)}]"


@dataclass(frozen=True, slots=True)
class SparseTensorType:
    """A sparse tensor."""

    dtype: DataType
    shape: Shape | None = None
    denotation: str = ""
    dim_denotations: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"sparse_tensor({TensorType(self.dtype, self.shape)})"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """A sequence of values of one type."""

    elem: Type | None
    denotation: str = ""

    def __str__(self) -> str:
        return f"seq({self.elem})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value that may be absent."""

    elem: Type | None
    denotation: str = ""

    def __str__(self) -> str:
        return f"optional({self.elem})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A map from integers or strings to values of one type."""

    key: DataType
    value: Type | None
    denotation: str = ""

    def __str__(self) -> str:
        return f"map({DTYPE_NAMES[self.key]},{self.value})"


@dataclass(frozen=True, slots=True)
class OpaqueType:
    """A runtime's own type (``ai.onnx.ml`` only)."""

    domain: str
    name: str
    denotation: str = ""

    def __str__(self) -> str:
        return f"opaque({','.join(filter(None, (self.domain, self.name)))})"  # onnx's parser takes no quotes here


Type: TypeAlias = TensorType | SparseTensorType | SequenceType | OptionalType | MapType | OpaqueType


def _dim_text(dim: Dim) -> str:
    if dim is None:
        return "?"
    return quote_name(dim) if isinstance(dim, str) else str(dim)
