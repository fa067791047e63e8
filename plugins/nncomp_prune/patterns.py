"""Patterns of zeros in a matrix: which elements leave together, and among which a fixed number must leave.

A matrix (O, K) is divided into units, which become zero as a whole, and units into groups, each of which loses the same
share. With one unit an element and one group in all, zeros may stand anywhere; with one group a row, rows are balanced;
with a group of M neighbours of which M - N leave, the pattern is N:M.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nncomp.errors import RecipeError

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of zeros.

    Attributes:
        share: Share of units in each group that become zero.
        unit: Rows and columns of a unit.
        group: Rows and columns of a group, in elements; 0 for all there are.
        sort: What a target calls it: ``element``, ``balanced``, ``n:m`` or ``block``.
    """

    share: float
    unit: tuple[int, int] = (1, 1)
    group: tuple[int, int] = (0, 0)
    sort: str = "element"

    def misfit(self, rows: int, columns: int) -> str:
        """Return why a matrix of that shape cannot have the pattern, "" if it can."""
        for name, size, parts in (("rows", rows, (self.unit[0], self.group[0])),
                                  ("columns", columns, (self.unit[1], self.group[1]))):  # fmt: skip
            for part in parts:
                if part and size % part:
                    return f"its matrix has {size} {name}, no multiple of {part}"
        return ""

    def zeros(self, scores: Doubles) -> Mask:
        """Return where zeros stand: the units with the least sum of scores in each group.

        Args:
            scores: (O, K), or some of its columns: a whole number of groups where groups have columns.
        """
        rows, columns = scores.shape
        high, wide = self.unit
        sums = scores.reshape(rows // high, high, columns // wide, wide).sum(axis=(1, 3))
        down, across = (self.group[0] or rows) // high, (self.group[1] or columns) // wide
        blocks = sums.reshape(sums.shape[0] // down, down, sums.shape[1] // across, across).swapaxes(1, 2)
        groups = blocks.reshape(*blocks.shape[:2], -1)
        leaving = round(self.share * groups.shape[2])
        mask = np.zeros(groups.shape, bool)
        lowest = np.argsort(groups, axis=2, kind="stable")[:, :, :leaving]
        np.put_along_axis(mask, lowest, values=True, axis=2)
        units = mask.reshape(blocks.shape).swapaxes(1, 2).reshape(sums.shape)
        return np.repeat(np.repeat(units, high, axis=0), wide, axis=1)


def pattern_of(text: str, share: float, *, option: str) -> Pattern:
    """Read a pattern.

    ======================  =========================================================
    ``element``             anywhere
    ``row``                 the same number in each row
    ``N:M``                 N of M neighbouring inputs stay
    ``block RxC``           blocks of R outputs and C inputs
    ``tile RxC``            anywhere, the same number in each R x C sub-matrix
    ======================  =========================================================

    Args:
        text: As the option has it.
        share: Share of zeros, where the text does not say it.
        option: What to call the option in messages.

    Raises:
        RecipeError: it is none of these (NNC-R010).
    """
    if text in ("element", "row"):
        return Pattern(share) if text == "element" else Pattern(share, group=(1, 0), sort="balanced")
    if (found := re.fullmatch(r"(\d{1,2}):(\d{1,2})", text)) and 0 < int(found[1]) < int(found[2]):
        kept, total = int(found[1]), int(found[2])
        return Pattern(1 - kept / total, group=(1, total), sort="n:m")
    if (found := re.fullmatch(r"(block|tile) ([1-9]\d{0,3})x([1-9]\d{0,3})", text)) is not None:
        shape = int(found[2]), int(found[3])
        if found[1] == "block":
            return Pattern(share, unit=shape, sort="block")
        return Pattern(share, group=shape, sort="balanced")
    raise RecipeError(
        f"{option}: expected 'element', 'row', 'N:M', 'block RxC' or 'tile RxC', got {text!r}",
        hint='as in pattern="2:4"',
    )
