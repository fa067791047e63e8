"""The formats themselves, written and read back: what the closed forms of sizes are checked against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """A fiber as pairs: zeros in front, then a value (which is zero in a padding entry).

    Attributes:
        runs, values: One an entry.
        length: Places of the fiber.
    """

    runs: Integers
    values: Values
    length: int

    def bits(self, run_bits: int, value_bits: int) -> int:
        """Return the size without padding to words."""
        return len(self.runs) * (run_bits + value_bits)


def encode_runs(fiber: Values, run_bits: int) -> Runs:
    """Encode a fiber with runs of at most ``2^run_bits - 1`` zeros; longer ones are cut by entries whose value is zero.

    Zeros behind the last value are left out: the length is known.
    """
    flat = fiber.reshape(-1)
    places = np.flatnonzero(flat)
    zeros = np.diff(places, prepend=-1) - 1
    step = 1 << run_bits
    pads = zeros >> run_bits
    entries = pads + 1
    ends = np.cumsum(entries) - 1
    runs = np.full(int(entries.sum()), step - 1, np.int64)
    values = np.zeros(len(runs), flat.dtype)
    runs[ends] = zeros & (step - 1)
    values[ends] = flat[places]
    return Runs(runs, values, flat.size)


def decode_runs(code: Runs) -> Values:
    """Return the fiber."""
    fiber = np.zeros(code.length, code.values.dtype)
    fiber[np.cumsum(code.runs + 1) - 1] = code.values
    return fiber


@dataclass(frozen=True)
class Columns:
    """A matrix by columns, each coded by runs: CSC with relative indices.

    Attributes:
        runs, values: Entries of all columns, one behind the other.
        pointers: (columns + 1,): where each begins.
        rows: Rows of the matrix.
    """

    runs: Integers
    values: Values
    pointers: Integers
    rows: int

    def bits(self, run_bits: int, value_bits: int, pointer_bits: int) -> int:
        """Return the size."""
        return len(self.runs) * (run_bits + value_bits) + len(self.pointers) * pointer_bits


def encode_columns(matrix: Values, run_bits: int) -> Columns:
    """Encode a matrix (rows, columns)."""
    codes = [encode_runs(column, run_bits) for column in matrix.T]
    runs = np.concatenate([code.runs for code in codes] or [np.zeros(0, np.int64)])
    values = np.concatenate([code.values for code in codes] or [np.zeros(0, matrix.dtype)])
    pointers = np.cumsum([0, *(len(code.runs) for code in codes)])
    return Columns(runs, values, pointers.astype(np.int64), matrix.shape[0])


def decode_columns(code: Columns) -> Values:
    """Return the matrix."""
    pairs = zip(code.pointers[:-1], code.pointers[1:], strict=True)
    columns = [decode_runs(Runs(code.runs[a:b], code.values[a:b], code.rows)) for a, b in pairs]
    return np.stack(columns, axis=1) if columns else np.zeros((code.rows, 0), code.values.dtype)


def encode_bitmask(fiber: Values) -> tuple[npt.NDArray[np.uint8], Values]:
    """Return one bit a place, eight in a byte, and the values that are not zero."""
    flat = fiber.reshape(-1)
    return np.packbits(flat != 0), flat[flat != 0]


def decode_bitmask(mask: npt.NDArray[np.uint8], values: Values, length: int) -> Values:
    """Return the fiber."""
    fiber = np.zeros(length, values.dtype)
    fiber[np.unpackbits(mask, count=length).astype(bool)] = values
    return fiber
