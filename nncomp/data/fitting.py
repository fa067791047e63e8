"""Fit: one sample as the model takes it, or the error that says what is wrong; and samples put together for one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from nncomp.data.feeds import as_feeds
from nncomp.data.inputs import Found, InputSpec, converts, loses_digits, mismatch
from nncomp.runtime import Array, Feeds


class Fit:
    """Holds samples against the inputs of a graph.

    Attributes:
        rounded: for inputs whose numbers were rounded, from which type to which.
    """

    def __init__(self, specs: Sequence[InputSpec]) -> None:
        self._specs = specs
        self.rounded: dict[str, str] = {}

    def parts(self, given: object, what: str) -> list[Feeds]:
        """Return a sample in the types and ranks of the inputs, in several parts when it fills the batch several times.

        The arrays are copies: who gave the sample may fill the same memory with the next one.

        Raises:
            DataError: it does not fit (NNC-D003), or is no arrays (NNC-D001).
        """
        feeds = as_feeds(given, self._specs, what)
        specs = {spec.name: spec for spec in self._specs if spec.name in feeds}
        framed = {name: _with_batch_axis(feeds[name], spec) for name, spec in specs.items()}
        unfit = [name for name, spec in specs.items() if not _holds(spec, framed[name])]
        missing = any(spec.name not in feeds for spec in self._specs if not spec.optional)
        shares = {} if unfit else _shares(specs, framed)
        uneven = list(shares) if not _agree(shares, framed) else []
        if unfit or missing or uneven or len(specs) < len(feeds):
            found = {name: Found(array.dtype, array.shape) for name, array in feeds.items()}
            raise mismatch(what, self._specs, found, unfit or uneven)
        for name, spec in specs.items():
            if loses_digits(framed[name].dtype, spec):
                self.rounded.setdefault(name, f"{framed[name].dtype} to {np.dtype(spec.dtype)}")
        with np.errstate(over="ignore", invalid="ignore"):  # infinity is looked for afterwards
            cast = {name: framed[name].astype(spec.dtype, order="C") for name, spec in specs.items()}
        count = max((share.numerator for share in shares.values()), default=1)
        return [cast] if count == 1 else [_part(cast, index, count) for index in range(count)]

    def lacking(self, feeds: Feeds) -> int:
        """Return how many samples like ``feeds`` fill the model's batch; 0 when it takes any number."""
        fixed = (spec for spec in self._specs if spec.batch and spec.name in feeds)
        return next((spec.batch // len(feeds[spec.name]) for spec in fixed if spec.batch), 0)


def alike(one: Feeds, other: Feeds) -> bool:
    """True when two samples can go into one run: same inputs and shapes, same numbers where there is no axis."""
    return one.keys() == other.keys() and all(
        array.shape == other[name].shape and (array.ndim > 0 or array == other[name]) for name, array in one.items()
    )


def joined(group: Sequence[Feeds]) -> Feeds:
    """Return samples that are :func:`alike` as one, put together along the first axis."""
    if len(group) == 1:
        return group[0]
    return {
        name: np.concatenate([feeds[name] for feeds in group]) if array.ndim else array
        for name, array in group[0].items()
    }


def _with_batch_axis(array: Array, spec: InputSpec) -> Array:
    return array[None] if spec.shape and array.ndim == len(spec.shape) - 1 else array


def _holds(spec: InputSpec, array: Array) -> bool:
    """True when type and shape fit, the number of rows apart."""
    if array.ndim and len(array) == 0:
        return False
    shape = array.shape if spec.batch is None else (spec.batch, *array.shape[1:])
    return converts(array.dtype, spec) and array.ndim == len(shape) and spec.holds(shape)


def _shares(specs: Mapping[str, InputSpec], arrays: Feeds) -> dict[str, Fraction]:
    """Return, for inputs with a fixed batch, how often the array fills it."""
    return {name: Fraction(len(arrays[name]), spec.batch) for name, spec in specs.items() if spec.batch}


def _agree(shares: Mapping[str, Fraction], arrays: Feeds) -> bool:
    """True when all arrays fill their batch equally often, a whole number of times or one nth."""
    if not shares:
        return True
    share = next(iter(shares.values()))
    return (
        set(shares.values()) == {share}
        and 1 in (share.numerator, share.denominator)
        and all(len(array) % share.numerator == 0 for array in arrays.values() if array.ndim)
    )


def _part(feeds: Feeds, index: int, count: int) -> Feeds:
    rows = {name: len(array) // count for name, array in feeds.items() if array.ndim}
    return {
        name: array[index * rows[name] : (index + 1) * rows[name]] if array.ndim else array
        for name, array in feeds.items()
    }
