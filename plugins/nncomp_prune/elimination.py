"""Backward elimination: leave out inputs of linear layers one after the other, each time those that cost least.

For a layer y = W x with H = sum x^T x, leaving out the columns S and refitting the others by least squares costs, in
squared error of y,

    tr(W_S (H^-1_SS)^-1 W_S^T),   and leaves   W - W_S (H^-1_SS)^-1 H^-1_S:,   H^-1 - H^-1_:S (H^-1_SS)^-1 H^-1_S:

(Hassibi and Stork, "Second order derivatives for network pruning: optimal brain surgeon", NIPS 1992, for blocks of
columns as in Frantar and Alistarh, "Optimal brain compression", NeurIPS 2022.) An atom has columns in several layers,
and costs the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

STEPS: Final = 128
"""Into how many removals a long dimension is divided: several atoms leave at once when it has more."""


@dataclass
class Problem:
    """One matrix that atoms have columns in; it changes as they leave.

    Attributes:
        weight: (O, K), the least-squares solution with all columns.
        inverse: (K, K), H^-1, ridge included.
        columns: (A, m) columns of each atom; -1 fills up where an atom has fewer.
        share: What a unit of squared error counts.
    """

    weight: Doubles
    inverse: Doubles
    columns: Places
    share: float = 1.0

    def costs(self, alive: npt.NDArray[np.bool_]) -> Doubles:
        """Return what leaving out each alive atom would cost, (alive,)."""
        columns = self.columns[alive]
        given = columns >= 0
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        blocks[~(given[:, :, None] & given[:, None, :])] = 0.0
        diagonal = np.arange(columns.shape[1])
        blocks[:, diagonal, diagonal] += ~given
        weights = self.weight.T[columns] * given[:, :, None]  # (alive, m, O)
        solved = weights / blocks if columns.shape[1] == 1 else np.linalg.solve(blocks, weights)
        return np.asarray(self.share * np.einsum("amo,amo->a", weights, solved))

    def leave_out(self, atoms: Places) -> float:
        """Take atoms out; return what it cost."""
        columns = self.columns[atoms].reshape(-1)
        columns = columns[columns >= 0]
        if not columns.size:
            return 0.0
        rows = self.inverse[columns]  # (S, K)
        block, weights = rows[:, columns], self.weight[:, columns]
        step = np.linalg.solve(block, weights.T)  # (S, O)
        cost = self.share * float(np.einsum("so,os->", step, weights))
        self.weight -= step.T @ rows
        self.inverse -= rows.T @ np.linalg.solve(block, rows)
        self.weight[:, columns] = 0.0
        self.inverse[columns] = 0.0
        self.inverse[:, columns] = 0.0
        self.inverse[columns, columns] = 1.0
        return max(cost, 0.0)


class Elimination:
    """Atoms that leave one after the other.

    O(steps * sum over problems of (K^2 S + A m^3)) with S = A m / steps columns at a time.

    Args:
        problems: They are changed.
        count: A, number of atoms.
        steps: Removals in all; several atoms leave at once where there are more.

    Attributes:
        order: Atoms in the order in which they left.
        costs: What it cost up to and with each of them, ascending.
    """

    def __init__(self, problems: Sequence[Problem], count: int, *, steps: int = STEPS) -> None:
        self.problems = problems
        self.order: list[int] = []
        self.costs: list[float] = []
        self._alive = np.ones(count, bool)
        self._at_once = max(1, -(-count // steps))

    def run(self, number: int) -> None:
        """Let atoms leave until ``number`` of them have."""
        while len(self.order) < number:
            self.leave(self.cheapest(min(self._at_once, number - len(self.order))))

    def cheapest(self, number: int) -> Places:
        """Return so many of the atoms that are left: those that would cost least, each alone; cheapest first."""
        candidates = np.flatnonzero(self._alive)
        prices = np.zeros(candidates.size)
        for problem in self.problems:
            prices += problem.costs(self._alive)
        return candidates[np.argsort(prices, kind="stable")[:number]]

    def leave(self, atoms: Places) -> None:
        """Let these atoms leave at once."""
        before = self.costs[-1] if self.costs else 0.0
        paid = sum(problem.leave_out(atoms) for problem in self.problems)
        self._alive[atoms] = False
        self.order.extend(atoms.tolist())
        self.costs.extend(before + paid * (place + 1) / atoms.size for place in range(atoms.size))
