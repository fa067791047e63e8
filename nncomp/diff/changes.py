"""The differences between two graphs as plain data, for people and for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; None stands for absent."""

    what: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.what}: {self.after}"
        if self.after is None:
            return f"- {self.what}: {self.before}"
        return f"~ {self.what}: {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class ConstantChange:
    """A constant of both graphs whose name, type or data differs.

    Attributes:
        name: In the second graph.
        changes: Of name, type and data (its digest).
        max_difference: Largest absolute difference between elements finite in both; None unless both are floats of
            one shape.
        sqnr_db: 10 log10(sum(a^2) / sum((a - b)^2)) over the same elements; None also without signal or noise.
    """

    name: str
    changes: tuple[Change, ...]
    max_difference: float | None = None
    sqnr_db: float | None = None

    def lines(self) -> Iterator[str]:
        """Yield the lines for people."""
        yield f"~ constant {self.name}"
        for change in self.changes:
            yield f"    {change}"
        if self.max_difference is not None:
            sqnr = "" if self.sqnr_db is None else f", SQNR {self.sqnr_db:.1f} dB"
            yield f"    max difference {self.max_difference:.3g}{sqnr}"


@dataclass(frozen=True, slots=True)
class WeightChange:
    """An operand of an op of both graphs that is stored another way, as numbers.

    Attributes:
        op: Label of the op in the second graph.
        slot: Of the operand.
        before, after: How it is stored.
        max_difference: Largest absolute difference.
        sqnr_db: 10 log10(sum(a^2) / sum((a - b)^2)); None without signal or noise.
    """

    op: str
    slot: int
    before: str
    after: str
    max_difference: float
    sqnr_db: float | None

    def __str__(self) -> str:
        sqnr = "" if self.sqnr_db is None else f", SQNR {self.sqnr_db:.1f} dB"
        changed = self.before if self.before == self.after else f"{self.before} -> {self.after}"
        return f"~ weight of {self.op} (input {self.slot}): {changed}, max difference {self.max_difference:.3g}{sqnr}"


@dataclass(frozen=True, slots=True)
class OpChange:
    """An op of both graphs that differs: in its parts, and inside its bodies."""

    op: str
    changes: tuple[Change, ...]
    bodies: Mapping[str, GraphDiff] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """Yield the lines for people."""
        yield f"~ {self.op}"
        for change in self.changes:
            yield f"    {change}"
        for name, body in self.bodies.items():
            yield f"    {name}"
            for line in body.lines():
                yield f"        {line}"


@dataclass(frozen=True, slots=True)
class GraphDiff:
    """All that differs between two graphs.

    Attributes:
        header: Model and graph fields: versions, opsets, metadata, functions, names.
        interface: Graph inputs and outputs.
        constants_removed, constants_added: Declarations, with digest and range.
        constants_changed: Constants that both graphs have.
        ops_removed, ops_added: Lines of text form.
        ops_changed: Ops that both graphs have.
        weights_changed: Operands of ops that both graphs have, where one is stored in integers or in fewer bits.
    """

    header: tuple[Change, ...] = ()
    interface: tuple[Change, ...] = ()
    constants_removed: tuple[str, ...] = ()
    constants_added: tuple[str, ...] = ()
    constants_changed: tuple[ConstantChange, ...] = ()
    ops_removed: tuple[str, ...] = ()
    ops_added: tuple[str, ...] = ()
    ops_changed: tuple[OpChange, ...] = ()
    weights_changed: tuple[WeightChange, ...] = ()

    @property
    def is_empty(self) -> bool:
        """True when nothing differs."""
        return not any(getattr(self, part.name) for part in fields(self))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    def lines(self) -> tuple[str, ...]:
        """Return the differences for people, one a line: ``-`` only before, ``+`` only after, ``~`` changed."""
        return tuple(self._lines())

    def _lines(self) -> Iterator[str]:
        yield from map(str, (*self.header, *self.interface))
        yield from (f"- {line}" for line in self.constants_removed)
        yield from (f"+ {line}" for line in self.constants_added)
        for constant in self.constants_changed:
            yield from constant.lines()
        yield from (f"- {line}" for line in self.ops_removed)
        yield from (f"+ {line}" for line in self.ops_added)
        for op in self.ops_changed:
            yield from op.lines()
        yield from map(str, self.weights_changed)
