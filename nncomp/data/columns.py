"""Columns: arrays that hold all samples of an input, and how they are cut into samples.

An array fits an input of rank R in one of these ways:

* rank R, first dimension free: each row is a sample, fed as a batch of one;
* rank R, first dimension fixed at B: each B rows are fed together, rows left over at the end are not used;
* rank R + 1: each item is a whole input;
* rank R - 1, where the input's first dimension is free or one: the array is one sample without a batch axis;
* rank 0 for an input of rank 0: the same number for every sample.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nncomp.data.inputs import Found, InputSpec
from nncomp.data.preprocess import ImagePlan
from nncomp.runtime import Array


class Column(ABC):
    """One array, read front to back.

    Attributes:
        found: its type and shape, known without reading it.
    """

    found: Found

    @abstractmethod
    def blocks(self, rows: int) -> Iterator[Array]:
        """Yield consecutive blocks of ``rows`` items of the first axis; a shorter one at the end is left out."""

    @abstractmethod
    def whole(self) -> Array:
        """Return the array."""

    def refuse_large(self, rows: int) -> None:  # noqa: B027  what is in memory already may be of any size
        """Raise when blocks of ``rows`` items, or the whole array for 0, are more than should be read at once."""


class ArrayColumn(Column):
    """An array in memory; only the block that is given out is ever copied."""

    def __init__(self, array: Array) -> None:
        self._array = array
        self.found = Found(array.dtype, array.shape)

    def blocks(self, rows: int) -> Iterator[Array]:
        """Yield views."""
        for start in range(0, len(self._array) // rows * rows, rows):
            yield self._array[start : start + rows]

    def whole(self) -> Array:
        """Return the array itself."""
        return self._array


@dataclass(frozen=True, slots=True)
class Cut:
    """How a column is cut.

    Attributes:
        samples: how many feeds it gives; None for a number that is the same in all of them.
        rows: items of the first axis in one feed; 0 when the whole array is.
        finish: makes the input of what was cut.
    """

    samples: int | None
    rows: int
    finish: Callable[[Array], Array]


def cut(spec: InputSpec, shape: tuple[int, ...]) -> Cut | None:
    """Return how an array of ``shape`` is cut for an input, None when it does not fit."""
    if spec.holds(shape) and not shape:
        return Cut(None, 0, _as_it_is)
    if spec.shape is None:
        return Cut(shape[0], 1, _as_it_is)
    if len(shape) == len(spec.shape) and spec.shape:
        rows = spec.batch or 1
        samples = shape[0] // rows
        return Cut(samples, rows, _as_it_is) if spec.holds((rows, *shape[1:])) and (samples or not shape[0]) else None
    if shape and spec.holds(shape[1:]):
        return Cut(shape[0], 1, lambda block: block[0])
    if spec.holds((1, *shape)):
        return Cut(1, 0, lambda block: block[None])
    return None


def cut_images(plan: ImagePlan, found: Found, what: str) -> Cut | None:
    """Return how a column of uint8 images is cut, None when it is none."""
    if found.dtype != np.uint8 or len(found.shape) not in (3, 4):
        return None
    return Cut(found.shape[0], 1, lambda block: plan.apply_array(block[0], f"{what}: an image"))


def _as_it_is(block: Array) -> Array:
    return block
