"""Block-wise integer formats: codes of 2, 4 or 8 bits, one scale and zero point for each block of a row's inputs.

w is about scale * (code - zero_point), codes 0 to 2^bits - 1. Rows are output channels, (O, K), whatever the layout in
the model; a last block that K does not fill is filled up with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Codes: TypeAlias = npt.NDArray[np.uint8]

_TINY: Final = np.finfo(np.float32).tiny
_SHRINK: Final = tuple(np.linspace(1.0, 0.6, 17).tolist())


@dataclass(frozen=True, slots=True)
class Params:
    """Scale and zero point of each block.

    Attributes:
        scale: (O, blocks), float32, above zero.
        zero: (O, blocks), uint8.
    """

    scale: Floats
    zero: Codes


@dataclass(frozen=True, slots=True)
class Blocks:
    """One block-wise format.

    Attributes:
        bits: Of a code: 2, 4 or 8.
        size: Inputs of a block.
        symmetric: The zero point is the middle code of every block, and need not be stored.
    """

    bits: int
    size: int
    symmetric: bool

    @property
    def top(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """Zero point of symmetric blocks."""
        return 1 << (self.bits - 1)

    def count(self, inputs: int) -> int:
        """Return how many blocks a row of ``inputs`` weights has."""
        return -(-inputs // self.size)

    def params(self, rows: npt.NDArray[Any]) -> Params:
        """Return what covers each block of (O, K) weights.

        Asymmetric: [min(w, 0), max(w, 0)] on codes 0 to top. Symmetric: codes reach one step further down than up.
        """
        return self._covering(self._blocked(np.asarray(rows, np.float32)), 1.0)

    def fitted(self, rows: npt.NDArray[Any], importance: npt.NDArray[Any]) -> Params:
        """Return, of ranges shrunk in steps, those with the least sum of importance * (w - rounded w)^2 a block.

        Args:
            rows: (O, K) weights.
            importance: (K,) at or above zero: the second moment of each input.
        """
        blocked = self._blocked(np.asarray(rows, np.float32))
        weight = self._blocked(np.asarray(importance, np.float32)[np.newaxis])
        best = self._covering(blocked, 1.0)
        least = self._error(blocked, best, weight)
        for factor in _SHRINK[1:]:
            params = self._covering(blocked, factor)
            error = self._error(blocked, params, weight)
            better = error < least
            least = np.where(better, error, least)
            best = Params(np.where(better, params.scale, best.scale), np.where(better, params.zero, best.zero))
        return best

    def codes(self, rows: npt.NDArray[Any], params: Params) -> Codes:
        """Return the nearest codes, (O, blocks, size); inputs beyond the last have the zero point's."""
        return self._nearest(self._blocked(np.asarray(rows, np.float32)), params)

    def rounded(self, rows: npt.NDArray[Any], params: Params) -> Floats:
        """Return the weights that the nearest codes stand for, in the shape of ``rows``."""
        return self.values(self.codes(rows, params), params)[:, : rows.shape[1]]

    def values(self, codes: Codes, params: Params) -> Floats:
        """Return scale * (code - zero point), (O, blocks * size)."""
        steps = codes.astype(np.float32) - params.zero[..., np.newaxis].astype(np.float32)
        return np.asarray(steps * params.scale[..., np.newaxis], np.float32).reshape(len(codes), -1)

    def pack(self, codes: Codes) -> Codes:
        """Return codes packed along the last axis, the first in the lowest bits; a last byte is filled with zeros."""
        each = 8 // self.bits
        if each == 1:
            return codes
        short = -codes.shape[-1] % each
        if short:
            codes = np.concatenate([codes, np.zeros((*codes.shape[:-1], short), np.uint8)], axis=-1)
        packed = codes[..., ::each].copy()
        for place in range(1, each):
            packed |= codes[..., place::each] << np.uint8(place * self.bits)
        return packed

    def _blocked(self, rows: Floats) -> Floats:
        short = -rows.shape[1] % self.size
        if short:
            rows = np.concatenate([rows, np.zeros((len(rows), short), np.float32)], axis=1)
        return rows.reshape(len(rows), -1, self.size)

    def _covering(self, blocked: Floats, factor: float) -> Params:
        low = np.minimum(blocked.min(axis=2), 0) * np.float32(factor)
        high = np.maximum(blocked.max(axis=2), 0) * np.float32(factor)
        if self.symmetric:
            scale = np.maximum(-low / np.float32(self.middle), high / np.float32(self.middle - 1))
            zero = np.full(scale.shape, self.middle, np.uint8)
        else:
            scale = high / np.float32(self.top) - low / np.float32(self.top)  # the difference itself may overflow
            zero = np.clip(np.rint(-low / np.where(scale > _TINY, scale, 1)), 0, self.top).astype(np.uint8)
        scale = np.where(scale > _TINY, scale, np.float32(1)).astype(np.float32)
        return Params(scale, zero)

    def _nearest(self, blocked: Floats, params: Params) -> Codes:
        steps = np.rint(blocked / params.scale[..., np.newaxis])
        steps += params.zero[..., np.newaxis].astype(np.float32)
        np.clip(steps, 0, self.top, out=steps)
        return np.asarray(steps, np.uint8)

    def _error(self, blocked: Floats, params: Params, weight: Floats) -> Floats:
        steps = self._nearest(blocked, params).astype(np.float32) - params.zero[..., np.newaxis].astype(np.float32)
        steps *= params.scale[..., np.newaxis]
        steps -= blocked
        np.square(steps, out=steps)
        return np.asarray(np.einsum("obs,xbs->ob", steps, weight), np.float32)
