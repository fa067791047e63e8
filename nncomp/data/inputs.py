"""What a graph's inputs ask of data, and the one error that says what did not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from nncomp.errors import DataError, UnsupportedError, Where
from nncomp.ir import DataType, Graph, Shape, TensorType

FLOAT_KIND: Final = "f"
_INTEGER_KINDS: Final = "iub"
_NUMBER_KINDS: Final = FLOAT_KIND + _INTEGER_KINDS


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One graph input that data may feed.

    Attributes:
        name: of the input.
        type: as the graph declares it.
        optional: True when the graph has a default for it.
    """

    name: str
    type: TensorType
    optional: bool

    @property
    def dtype(self) -> npt.DTypeLike:
        """The numpy type that ONNX Runtime wants."""
        return self.type.dtype.numpy()

    @property
    def shape(self) -> Shape | None:
        """The declared shape."""
        return self.type.shape

    @property
    def batch(self) -> int | None:
        """The first dimension where the graph fixes it; None when it is free or there is none."""
        first = self.shape[0] if self.shape else None
        return first if isinstance(first, int) else None

    def holds(self, shape: Sequence[int]) -> bool:
        """True when an array of ``shape`` may be fed."""
        return self.shape is None or fits(shape, self.shape)


@dataclass(frozen=True, slots=True)
class Found:
    """What data offers for one name."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        try:
            return str(TensorType(DataType.from_numpy(self.dtype.newbyteorder("=")), self.shape))
        except TypeError:  # numpy types that ONNX has no word for
            return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def input_specs(graph: Graph) -> tuple[InputSpec, ...]:
    """Return what the inputs of a model's own graph ask for, in order.

    Raises:
        UnsupportedError: an input that must be fed is no dense tensor of plain numbers (NNC-T002).
    """
    specs = []
    for value in graph.inputs:
        type_ = value.tensor_type
        if type_ is not None and _is_plain(type_.dtype):
            specs.append(InputSpec(value.name, type_, value.default is not None))
        elif value.default is None:
            raise UnsupportedError(f"input {value.name!r} is {value.type}: data can feed dense tensors of numbers only")
    return tuple(specs)


def required(specs: Iterable[InputSpec]) -> list[InputSpec]:
    """Return the inputs that must be fed."""
    return [spec for spec in specs if not spec.optional]


def only_input(specs: Iterable[InputSpec]) -> InputSpec | None:
    """Return the input that an array without a name is for, None when that is not plain."""
    needed = required(specs)
    return needed[0] if len(needed) == 1 else None


def fits(shape: Sequence[int], dims: Shape) -> bool:
    """True when ``shape`` has the rank of ``dims`` and agrees with every fixed dimension."""
    return len(shape) == len(dims) and all(
        not isinstance(dim, int) or dim == size for size, dim in zip(shape, dims, strict=True)
    )


def converts(found: np.dtype[np.generic], spec: InputSpec) -> bool:
    """True when numbers of type ``found`` may be fed: floats to floats, integers to integers that hold them all."""
    wanted = np.dtype(spec.dtype)
    if wanted.kind == FLOAT_KIND:
        return found.kind == FLOAT_KIND
    return found.kind in _INTEGER_KINDS and bool(np.can_cast(found, wanted, "safe"))


def loses_digits(found: np.dtype[np.generic], spec: InputSpec) -> bool:
    """True when feeding ``found`` rounds its numbers."""
    return not np.can_cast(found, np.dtype(spec.dtype), "safe")


def data_error(path: Path | str, message: str, *, code: str, hint: str = "", tensor: str = "") -> DataError:
    """Return the error that speaks of a data file."""
    return DataError(f"data {str(path)!r} {message}", code=code, where=Where(file=str(path), tensor=tensor), hint=hint)


def mismatch(
    label: str,
    specs: Sequence[InputSpec],
    found: Mapping[str, Found],
    unfit: Iterable[str] = (),
    *,
    file: str = "",
    advice: str = "",
) -> DataError:
    """Return the error that says how ``found`` differs from what the graph asks for, as a table in its hint.

    Args:
        label: What messages call the data.
        specs: The graph's inputs.
        found: What the data offers, by name.
        unfit: Names of inputs whose array was found not to fit.
        file: Where the data is.
        advice: What to do, if we know.
    """
    unfit = set(unfit)
    known = {spec.name for spec in specs}
    missing = [spec.name for spec in specs if not spec.optional and spec.name not in found]
    extra = [name for name in found if name not in known]
    problems = [
        (spec.name, f"input {spec.name!r}: expected {spec.type}, got {found[spec.name]}")
        for spec in specs
        if spec.name in unfit
    ]
    problems += [(name, f"input {name!r} is missing") for name in missing]
    problems += [(name, f"{name!r} is no input of the model") for name in extra]
    rows = [("input", "expected", "found")]
    rows += [(spec.name, str(spec.type), str(found.get(spec.name, "missing"))) for spec in specs if _shown(spec, found)]
    rows += [(name, "nothing", str(found[name])) for name in extra]
    if not advice and len(missing) == len(extra) == 1:
        advice = f"rename {extra[0]!r} to {missing[0]!r}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    tensor, problem = problems[0]
    return DataError(
        f"{label}: {problem}{more}",
        code="NNC-D003",
        where=Where(file=file, tensor=tensor),
        hint="\n".join([*([advice] if advice else []), *_table(rows)]),
    )


def _shown(spec: InputSpec, found: Mapping[str, Found]) -> bool:
    return not spec.optional or spec.name in found


def _table(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    cells = [tuple(_printable(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _is_plain(dtype: DataType) -> bool:
    try:
        numpy_type = dtype.numpy()
    except TypeError:
        return False
    return bool(numpy_type.isbuiltin == 1 and numpy_type.kind in _NUMBER_KINDS)
