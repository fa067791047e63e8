"""Anything that is an array to somebody, as numpy arrays that ONNX Runtime takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from nncomp.errors import DataError
from nncomp.runtime import Array


def to_numpy(value: object, what: str) -> Array:
    """Return ``value`` as a numpy array, sharing its memory where that is possible.

    Takes numpy arrays and scalars, nested lists of numbers, and tensors of torch, tensorflow, jax and whatever else
    has ``__array__`` or ``__dlpack__``; those on a device or with gradients are brought home first.

    Raises:
        DataError: it is no array of plain numbers (NNC-D001).
    """
    try:
        array = _converted(value)
    except (TypeError, ValueError, RuntimeError, AttributeError, BufferError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{what}: {type(value).__name__} cannot be read as an array: {reason}",
            code="NNC-D001",
            hint="give numpy arrays, or tensors that numpy.asarray or DLPack take",
        ) from None
    if array.dtype.hasobject:
        raise DataError(
            f"{what}: {type(value).__name__} holds Python objects, expected plain numbers",
            code="NNC-D001",
            hint="are all samples of one shape? numpy makes objects of ragged lists",
        )
    return array


def native(array: Array) -> Array:
    """Return ``array`` contiguous and in this machine's byte order; a copy only where it is not."""
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _converted(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    for bring_home in ("detach", "cpu"):  # torch: numpy refuses tensors with gradients or on a GPU
        method = getattr(value, bring_home, None)
        value = method() if callable(method) else value
    if hasattr(value, "__array__") or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    return np.from_dlpack(value)
