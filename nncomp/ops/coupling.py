"""What an ``axes`` rule says about one op: where its outputs' elements come from, and which live and die together.

Each axis of each tensor carries a vector of *atoms*, one a position (an int above zero), or a :class:`Pin`, which says
that all its elements stay, and why. A rule reads the axes of the inputs, gives those of the outputs, and ties, pins and
contracts on the way. Its promise, which :func:`nncomp.testing.check_axes` tests: for each set of atoms that ties have
closed, ``restrict(f(x, weights)) == f'(restrict(x), restrict(weights))``, where on a *contracted* axis ``x`` is
multiplied by the 0/1 mask, and ``f'`` is the op with the operands that carry sizes rewritten.

Over-coupling and pinning are always sound, so a rule that does not understand its op raises :class:`Unclear`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from nncomp.ir import Dim, Graph, Op, Value

Atoms: TypeAlias = npt.NDArray[np.int64]


AxesRule: TypeAlias = "Callable[[Coupling], None]"
"""Tells which elements of an op's outputs come from which of its inputs, and which live and die together."""


class Unclear(Exception):  # noqa: N818  not an error: the op is pinned, and the reason goes to the report
    """Raised by a rule that cannot tell: everything that the op touches is pinned. The message is the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Pin:
    """An axis whose elements all stay.

    Attributes:
        reason: why, in words for the report.
        size: its length, None when not known.
        op: who pinned it, None for the graph itself.
        place: which axis of which operand of ``op``, in words.
        option: the choice, and the candidate in it, that would have left this axis free.
        minor: nobody would expect the elements of a constant to go for this alone (a kernel's window, a shape).
    """

    reason: str
    size: Dim = None
    op: Op | None = None
    place: str = ""
    option: tuple[ChoiceKey, str] | None = None
    minor: bool = False


Axis: TypeAlias = "Atoms | Pin"
Axes: TypeAlias = tuple[Axis, ...]


class ChoiceKey(NamedTuple):
    """Where one of several axes can stay free: the op, and which place in it."""

    op: Op
    place: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, of which candidates, and the atoms that it left free."""

    key: ChoiceKey
    chosen: str
    candidates: tuple[str, ...]
    atoms: Atoms


@dataclass(frozen=True, slots=True)
class Contraction:
    """``op`` sums over ``axis`` of its input ``slot``: an operand of zeros there is an operand that is not there.

    ``zero_slot`` is the input that holds the number which stands for zero (a zero point), None for zero itself.
    ``share``: an op that is several products says how large each is, in any unit (a recurrent layer: its two weights).
    """

    graph: Graph
    op: Op
    slot: int
    axis: int
    atoms: Atoms
    zero_slot: int | None = None
    share: int = 0


class Removal(Protocol):
    """What an edit may ask and change when atoms are removed; see :meth:`Coupling.on_removal`."""

    def kept(self, axis: Axis) -> npt.NDArray[np.bool_] | None:
        """Return which positions of an axis stay; None when all do."""

    def size(self, axis: Axis) -> Dim:
        """Return the new length of an axis."""

    def set_attrs(self, **attrs: object) -> None:
        """Set attributes of the op."""

    def set_constant(self, slot: int, data: npt.NDArray[Any]) -> None:
        """Let input ``slot`` read a new constant."""

    def patch(self, slot: int, numbers: Mapping[int, int], known: npt.NDArray[Any] | None = None) -> None:
        """Replace elements of the vector of integers at input ``slot``, constant or computed.

        ``known`` is what a computed one is known to hold; it becomes a constant then.
        """

    def patch_output(self, numbers: Mapping[int, int]) -> None:
        """Replace elements of the vector of integers that the op gives, for all that read it."""

    def replace_output(self, data: npt.NDArray[Any]) -> None:
        """Let all that read the op's output read a constant."""


Edit: TypeAlias = Callable[[Removal], None]


@dataclass(slots=True)
class Ledger:
    """What all rules of one analysis said, in order."""

    choices: Mapping[ChoiceKey, str] = field(default_factory=dict)
    approximate: bool = False
    next_atom: int = 1
    ties: list[tuple[Atoms, Atoms]] = field(default_factory=list)
    pins: list[tuple[Atoms, Pin]] = field(default_factory=list)
    contractions: list[Contraction] = field(default_factory=list)
    edits: list[tuple[Graph, Op, Edit]] = field(default_factory=list)
    made: list[Choice] = field(default_factory=list)
    wishes: list[tuple[ChoiceKey, str]] = field(default_factory=list)
    copies: set[int] = field(default_factory=set)

    def fresh(self, count: int) -> Atoms:
        """Return new atoms."""
        atoms = np.arange(self.next_atom, self.next_atom + count, dtype=np.int64)
        self.next_atom += count
        return atoms

    def born(self, shape: Sequence[Dim], reason: str, op: Op | None = None) -> Axes:
        """Return fresh atoms on each axis longer than 1, for a tensor whose elements can be left out freely."""
        return tuple(
            self.fresh(size) if isinstance(size, int) and size > 1 else Pin(reason, size, op) for size in shape
        )

    def pin(self, axis: Axis, why: Pin) -> None:
        """Say that the elements of an axis stay."""
        if isinstance(axis, np.ndarray):
            self.pins.append((axis, why))

    def tie(self, one: Axis, other: Axis) -> None:
        """Say that the elements at each position of two axes, equally long, live and die together."""
        if isinstance(one, Pin):
            self.pin(other, one)
        elif isinstance(other, Pin):
            self.pin(one, other)
        elif one is not other:
            self.ties.append((one.reshape(-1), other.reshape(-1)))


def stays(reason: str) -> AxesRule:
    """Return the rule of an op of which nothing can be removed."""

    def rule(c: Coupling) -> None:
        raise Unclear(reason)

    return rule


class Coupling:
    """One op, as its rule sees it.

    Attributes:
        op: the op.
        graph: the graph that it stands in.
        approximate: let normalizations over a free axis through, though their statistics change.
    """

    def __init__(
        self,
        graph: Graph,
        op: Op,
        labels: Mapping[Value, Axes],
        ledger: Ledger,
        known: Callable[[Value], npt.NDArray[Any] | None] = lambda value: None,
    ) -> None:
        self.graph = graph
        self.op = op
        self.approximate = ledger.approximate
        self.read: set[int] = set()
        self.given: dict[int, Axes] = {}
        self._labels = labels
        self._known = known
        self._ledger = ledger

    # ---------------------------------------------------------------- reading

    def has(self, slot: int) -> bool:
        """True when input ``slot`` is given."""
        return self.op.input(slot) is not None

    def ignore(self, *slots: int) -> None:
        """Say that these inputs may lose elements without any change to what the op does (only their type is read)."""
        self.read.update(slots)

    def axes(self, slot: int) -> Axes:
        """Return the axes of input ``slot``; one that a rule never asks for is pinned.

        Raises:
            Unclear: the input is not given, or no tensor of known rank.
        """
        value = self.op.input(slot)
        found = None if value is None else self._labels.get(value)
        if found is None:
            raise Unclear(f"the rank of input {slot} is not known")
        self.read.add(slot)
        return found

    def array(self, slot: int) -> npt.NDArray[Any] | None:
        """Return the data of input ``slot`` if it is fixed, also when it is computed from shapes that are."""
        value = self.op.input(slot)
        if value is None:
            return None
        found = self._known(value)
        return self.graph.array(value) if found is None else found

    def shape(self, slot: int = 0) -> tuple[Dim, ...]:
        """Return the shape of output ``slot``.

        Raises:
            Unclear: its rank is not known.
        """
        found = self.op.outputs[slot].shape if slot < len(self.op.outputs) else None
        if found is None:
            raise Unclear(f"the rank of output {slot} is not known")
        return found

    # ---------------------------------------------------------------- saying

    def fresh(self, count: int) -> Atoms:
        """Return new atoms."""
        return self._ledger.fresh(count)

    def tie(self, one: Axis, other: Axis) -> None:
        """Say that the elements at each position of two axes live and die together.

        Raises:
            Unclear: they are not equally long.
        """
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.size != other.size:
            raise Unclear(f"axes of {one.size} and {other.size} elements meet")
        self._ledger.tie(one, other)

    def tie_all(self, atoms: Iterable[int] | Atoms) -> None:
        """Say that all these atoms live and die together."""
        array = np.asarray(atoms, np.int64).reshape(-1)
        if array.size > 1:
            self._ledger.ties.append((np.broadcast_to(array[:1], array[1:].shape), array[1:]))

    def pin(self, axis: Axis, reason: str, place: str = "", *, minor: bool = False) -> Pin:
        """Say that the elements of an axis stay; return the axis as it goes on."""
        if isinstance(axis, Pin):
            return axis
        found = Pin(reason, axis.size, self.op, place, minor=minor)
        self._ledger.pin(axis, found)
        return found

    def pinned(self, size: Dim, reason: str, option: tuple[ChoiceKey, str] | None = None) -> Pin:
        """Return an axis of an output whose elements all stay."""
        return Pin(reason, size, self.op, option=option)

    def born(self, shape: Sequence[Dim]) -> Axes:
        """Return axes of a tensor that the op makes of nothing, and whose elements can be left out freely."""
        return self._ledger.born(shape, "a computed size", self.op)

    def copies(self, size: Dim) -> Axis:
        """Return an axis along which the op repeats one element: any of them can be left out."""
        if not isinstance(size, int) or size < 2:
            return self.pinned(size, "a computed size")
        atoms = self.fresh(size)
        self._ledger.copies.update(atoms.tolist())
        return atoms

    def is_copied(self, axis: Axis) -> bool:
        """True for an axis that :meth:`copies` made."""
        return isinstance(axis, np.ndarray) and int(axis[0]) in self._ledger.copies

    def contract(self, slot: int, axis: int, *, zero_slot: int | None = None, share: int = 0) -> None:
        """Say that the op sums over an axis of input ``slot``; see :class:`Contraction`."""
        found = self.axes(slot)
        atoms = found[axis]
        if isinstance(atoms, Pin) and share:  # nothing to mask, but work all the same
            atoms = np.zeros(0, np.int64)
        if isinstance(atoms, np.ndarray):
            place = axis + len(found) if axis < 0 else axis
            self._ledger.contractions.append(Contraction(self.graph, self.op, slot, place, atoms, zero_slot, share))

    def give(self, axes: Sequence[Axis], slot: int = 0) -> None:
        """Say what the axes of output ``slot`` are; one that a rule does not give is pinned."""
        self.given[slot] = tuple(
            self.pin(axis, "a single element") if isinstance(axis, np.ndarray) and axis.size < 2 else axis
            for axis in axes
        )

    def choose(self, place: str, candidates: Mapping[str, Atoms]) -> str:
        """Return which of several candidates stays free; the first is the default, the others are tried if it fails.

        Args:
            place: Distinguishes choices of one op.
            candidates: By name, the atoms that each would leave free.
        """
        key, names = ChoiceKey(self.op, place), tuple(candidates)
        wanted = self._ledger.choices.get(key, "")
        chosen = wanted if wanted in candidates else names[0]
        self._ledger.made.append(Choice(key, chosen, names, candidates[chosen]))
        return chosen

    def wish(self, axis: Axis) -> None:
        """Say that this axis would better be free, if a choice pinned it."""
        if isinstance(axis, Pin) and axis.option is not None:
            self._ledger.wishes.append(axis.option)

    def on_removal(self, edit: Edit) -> None:
        """Have ``edit`` called when atoms are removed: it rewrites attributes and operands that carry sizes."""
        self._ledger.edits.append((self.graph, self.op, edit))

    def sizes_operand(self, slot: int, axes: Sequence[Axis]) -> None:
        """Say that input ``slot`` holds the length of each of ``axes``, in order."""
        kept = {place: axis for place, axis in enumerate(axes) if isinstance(axis, np.ndarray)}
        data = self.array(slot)
        if (
            data is not None
        ):  # what is no size (0 copies the input's, -1 is what is left, 1 broadcasts) is right as it is
            kept = {place: axis for place, axis in kept.items() if int(data[place]) == axis.size}

        def edit(removal: Removal) -> None:
            changed = {
                place: int(removal.size(axis) or 0) for place, axis in kept.items() if removal.kept(axis) is not None
            }
            if changed:
                removal.patch(slot, changed, data)

        if kept:
            self.on_removal(edit)

    # ---------------------------------------------------------------- broadcasting

    def broadcast(self, operands: Sequence[Sequence[Axis]], shape: Sequence[Dim]) -> Axes:
        """Tie the axes of operands that broadcast to ``shape`` (aligned at the end); return those of the result."""
        found: list[Axis] = []
        for place, size in enumerate(shape, start=-len(shape)):
            met = [axes[place] for axes in operands if len(axes) >= -place]
            long = [axis for axis in met if not (isinstance(axis, Pin) and axis.size == 1)]
            if not long:
                found.append(met[0] if met else self.pinned(size, "a computed size"))
                continue
            for other in long[1:]:
                self.tie(long[0], other)
            pins = [axis for axis in long if isinstance(axis, Pin)]
            found.append(pins[0] if pins else long[0])
        return tuple(found)
