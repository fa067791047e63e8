"""Attributes of ops: a value with its ONNX type, because an empty list alone does not say what it is a list of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nncomp.ir.dtypes import AttributeType
from nncomp.ir.tensors import Tensor, tensor
from nncomp.ir.types import Type

AttributeValue: TypeAlias = (
    int
    | float
    | str
    | bytes
    | Tensor
    | Type
    | tuple[int, ...]
    | tuple[float, ...]
    | tuple[str | bytes, ...]
    | tuple[Tensor, ...]
    | tuple[Type, ...]
    | tuple[object, ...]
    | None
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Subgraphs are not attribute values but ``op.bodies``; the one attribute of type GRAPHS in the IR is an empty list.

    Attributes:
        type: ONNX attribute type.
        value: int, float, str (bytes where the text is not UTF-8), tensor, type, or a tuple of one of them; for
            SPARSE_TENSOR(S) the onnx message, kept as it is.
        ref: inside a function, the name of the function's attribute that this one takes its value from.
        doc: doc string.
    """

    type: AttributeType
    value: AttributeValue
    ref: str = ""
    doc: str = ""


def attribute(value: object) -> Attribute:
    """Return an Attribute for a plain Python value, numpy array or tensor.

    Raises:
        TypeError: the type cannot be told, as for an empty list: build an :class:`Attribute` then.
    """
    if isinstance(value, Attribute):
        return value
    if isinstance(value, bool | int | np.integer):
        return Attribute(AttributeType.INT, int(value))
    if isinstance(value, float | np.floating):
        return Attribute(AttributeType.FLOAT, float(value))
    if isinstance(value, str | bytes):
        return Attribute(AttributeType.STRING, value)
    if isinstance(value, np.ndarray):
        return Attribute(AttributeType.TENSOR, tensor(value))
    if isinstance(value, Sequence) and value:  # before the protocol, whose check costs 0.1 ms
        return _list_attribute(value)
    if isinstance(value, Tensor):
        return Attribute(AttributeType.TENSOR, value)
    raise TypeError(f"cannot tell the attribute type of {value!r}")


def attributes(values: Mapping[str, object]) -> dict[str, Attribute]:
    """Return :func:`attribute` of each value; None values are left out (an attribute that is not given)."""
    return {name: attribute(value) for name, value in values.items() if value is not None}


def _list_attribute(values: Sequence[object]) -> Attribute:
    if all(isinstance(item, int | np.integer) for item in values):
        return Attribute(AttributeType.INTS, tuple(int(item) for item in values))  # type: ignore[call-overload]
    if all(isinstance(item, int | float | np.number) for item in values):
        return Attribute(AttributeType.FLOATS, tuple(float(item) for item in values))  # type: ignore[arg-type]
    if all(isinstance(item, str | bytes) for item in values):
        return Attribute(AttributeType.STRINGS, tuple(values))
    raise TypeError(f"cannot tell the attribute type of {values!r}")
