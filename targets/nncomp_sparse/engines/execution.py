"""What an engine says of a layer: how long its multipliers take, and what moves."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Table
from dataclasses import dataclass
from typing import TypeAlias

from nncomp_sparse.costing import Costing
from nncomp_sparse.counts import Access
from nncomp_sparse.search import Objective


@dataclass(frozen=True)
class Execution:
    """One layer on one machine.

    Attributes:
        accesses: By (index of the level, tensor); arrays of one candidate.
        steps: Cycles if nothing were skipped and all elements had the same to do.
        compute: Cycles of the multipliers: what zeros leave, what waits included.
        fill: Cycles before and after, in which nothing is multiplied.
        mapping: For people.
        evaluated: Mappings that were looked at.
        proved: None of them is better.
        share: Of the products, how many take time.
    """

    accesses: Table[tuple[int, str], Access]
    steps: float
    compute: float
    fill: float
    mapping: str
    evaluated: int = 1
    proved: bool = True
    share: float = 1.0


Engine: TypeAlias = Callable[[Costing, Objective], Execution]
"""How a kind of dataflow works through a layer."""
