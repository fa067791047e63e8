"""What a pass decides op by op, so that somebody else can decide it: sensitivity, and search under a budget.

A pass that derives from :class:`TunablePass` names its units, each with the settings that it may have, and gives itself
with other settings. Whoever asks knows nothing else of the pass: the answer is always a pass with other options, which
a recipe can write down.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nncomp.passes import Pass

if TYPE_CHECKING:
    from nncomp.ir import Graph
    from nncomp.passes import Context


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that a pass treats and might treat otherwise, as a rule a layer.

    Attributes:
        name: As the pass's options name it.
        kind: Operator kind, for tables.
        settings: What it may be; the first is what the pass does by itself, the last leaves it as it was. Those between
            may be enough where the first is not, and are tried in this order.
    """

    name: str
    kind: str
    settings: tuple[str, ...]


class TunablePass(Pass):
    """A pass whose decisions can be made one by one."""

    @abstractmethod
    def units(self, graph: Graph, ctx: Context) -> Sequence[Unit]:
        """Return what this pass would treat in ``graph``, in the order of the graph; it stays as it is."""

    @abstractmethod
    def tuned(self, settings: Mapping[str, str]) -> Self:
        """Return this pass with other settings for some units, by name; all others as this pass has them."""

    @abstractmethod
    def alone(self, unit: str) -> Self:
        """Return this pass, treating nothing but ``unit``."""
