"""Tensor-train matrices on a machine that multiplies each core once (TIE): products, parameters, intermediate results.

A matrix of prod(m) x prod(n) is a chain of d cores, core k of (r_{k-1}, m_k, n_k, r_k), r_0 = r_d = 1. Contracted
from the last core to the first, no product is done twice::

    products       = sum_k r_{k-1} m_k n_k r_k prod_{i<k} n_i prod_{i>k} m_i
    intermediate_k = r_{k-1} m_k prod_{i<k} n_i prod_{i>k} m_i words
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorTrain:
    """A chain.

    Attributes:
        rows, cols: m and n of each core.
        ranks: Between cores, one fewer than there are cores.
    """

    rows: tuple[int, ...]
    cols: tuple[int, ...]
    ranks: tuple[int, ...]

    @classmethod
    def of(cls, rows: Sequence[int], cols: Sequence[int], rank: int) -> TensorTrain:
        """Return a chain whose inner ranks are all the same."""
        return cls(tuple(rows), tuple(cols), (rank,) * (len(rows) - 1))

    @property
    def _all_ranks(self) -> tuple[int, ...]:
        return (1, *self.ranks, 1)

    @property
    def params(self) -> int:
        """Elements of all cores."""
        ranks = self._all_ranks
        return sum(ranks[k] * m * n * ranks[k + 1] for k, (m, n) in enumerate(zip(self.rows, self.cols, strict=True)))

    @property
    def intermediates(self) -> tuple[int, ...]:
        """Words behind each core, the last core first; the last of them is the result."""
        return tuple(
            self._all_ranks[k] * self.rows[k] * math.prod(self.cols[:k]) * math.prod(self.rows[k + 1 :])
            for k in range(len(self.rows) - 1, -1, -1)
        )

    @property
    def products(self) -> int:
        """Multiplications for one vector."""
        ranks = self._all_ranks
        behind = reversed(self.intermediates)
        return sum(words * self.cols[k] * ranks[k + 1] for k, words in enumerate(behind))

    @property
    def dense_params(self) -> int:
        """Elements of the matrix, which are also the products of one vector with it."""
        return math.prod(self.rows) * math.prod(self.cols)
