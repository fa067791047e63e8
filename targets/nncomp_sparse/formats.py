"""How many bits a tensor with zeros takes: from its data where there is some, else in expectation.

Expected sizes are those of ``k`` non-zeros spread evenly over ``n`` places (hypergeometric, not independent: the number
of non-zeros is known). A run-length code with ``r`` bits stores a zero as padding each time a run of zeros reaches
another multiple of 2^r; a non-zero element has at least L zeros in front of it with probability

    p(L) = (k / n) * prod_{j < L} (n - k - j) / (n - 1 - j),   at each of the n - L places that have L others in front.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from nncomp_sparse.hardware import Format
from nncomp_sparse.layer import Floats, Operand

_NEGLIGIBLE: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Stored:
    """Bits of a whole tensor: values, and what says where they stand."""

    payload: float
    metadata: float

    @property
    def bits(self) -> float:
        """All of them."""
        return self.payload + self.metadata


def stored_bits(operand: Operand, form: Format, bits: int, *, columns: int = 1) -> Stored:
    """Return the bits of a tensor.

    Args:
        operand: The tensor.
        form: How it is stored.
        bits: Width of a value.
        columns: Fibers that are coded apart from one another (of ``relative-index``, ``codebook``, ``coordinate``).
    """
    n, k = operand.elements, operand.nonzeros
    match form.format:
        case "bitmask":
            return Stored(k * bits, float(n))
        case "run-length":
            return _packed(k + _pads(operand, form.index_bits, 1), bits, form)
        case "relative-index":
            entries = k + _pads(operand, form.index_bits, columns)
            return Stored(entries * bits, entries * form.index_bits + form.pointer_bits * (columns + 1))
        case "codebook":
            entries = k + _pads(operand, form.index_bits, columns)
            table = bits * float(2**form.code_bits)
            code = min(_entropy(operand), form.code_bits) if form.huffman else form.code_bits
            return Stored(entries * code + table, entries * form.index_bits + form.pointer_bits * (columns + 1))
        case "coordinate":
            return Stored(k * bits, k * math.ceil(math.log2(max(n // columns, 2))))
        case "structured":
            if not conforms(operand, form.n, form.m):
                return Stored(float(n * bits), 0.0)
            kept = n * form.n / form.m
            return Stored(kept * bits, kept * math.ceil(math.log2(form.m)))
        case _:
            return Stored(float(n * bits), 0.0)


def conforms(operand: Operand, n: int, m: int) -> bool:
    """True when each ``m`` neighbouring input channels of a weight hold at most ``n`` non-zeros.

    Without a mask nobody knows, and a share of non-zeros of at most n / m is believed if it was given as such.
    """
    if operand.mask is None:
        return operand.known == "given" and operand.density <= n / m
    mask = np.moveaxis(operand.mask, 2, -1)
    channels = mask.shape[-1]
    if channels % m:
        mask = np.concatenate([mask, np.zeros((*mask.shape[:-1], -channels % m), bool)], axis=-1)
    return bool((np.count_nonzero(mask.reshape(-1, m), axis=1) <= n).all())


def expected_pads(n: int, k: float, run_bits: int) -> float:
    """Return the expected padding entries of a run-length code of one fiber; see the module's docstring.

    Args:
        n: Places.
        k: Non-zeros.
        run_bits: Width of a run.
    """
    if n <= 0 or k <= 0 or k >= n:
        return 0.0
    step, total = 2**run_bits, 0.0
    start = math.lgamma(n - k + 1) - math.lgamma(n)
    for zeros in range(step, int(n - k) + 1, step):
        log = start - math.lgamma(n - k - zeros + 1) + math.lgamma(n - zeros)
        term = (k / n) * (n - zeros) * math.exp(log)
        total += term
        if term < _NEGLIGIBLE * k:
            break
    return total


def _pads(operand: Operand, run_bits: int, columns: int) -> float:
    if columns == 1 and operand.pads is not None and run_bits < len(operand.pads):
        return float(operand.pads[run_bits])
    return columns * expected_pads(operand.elements // columns, operand.nonzeros / columns, run_bits)


def _packed(entries: float, bits: int, form: Format) -> Stored:
    if not form.group_bits:
        return Stored(entries * bits, entries * form.index_bits)
    total = entries * form.group_bits / form.group_entries
    return Stored(entries * bits, total - entries * bits)


def _entropy(operand: Operand) -> float:
    """Return the least mean bits of a code for the values, from their frequencies; 64 when they are not known."""
    counts: Floats | None = operand.codes
    if counts is None or counts.sum() == 0:
        return 64.0
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
