"""Dimensions: atoms grouped by the axes that they sit in, found by hashing, named by where they come from first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from nncomp.axes.model import Dimension, Labels, Member, PinnedDimension, is_constant
from nncomp.ir import Value
from nncomp.ops.components import components
from nncomp.ops.coupling import Atoms, Pin

if TYPE_CHECKING:
    from nncomp.axes.walk import Walk

_REASONS: Final = 3


def dimensions(labels: Mapping[Value, Labels], count: int) -> tuple[Dimension, ...]:
    """Group closed atoms 1 ... ``count`` by the axes that they sit in and how often, in the order of their first axis.

    Linear in the elements of all label vectors: each axis has a 64-bit hash, and each atom the sum of those it is in.
    """
    axes = [(value, axis, atoms) for value, found in labels.items() for axis, atoms in enumerate(found)]
    vectors = [(value, axis, atoms) for value, axis, atoms in axes if atoms is not None]
    if not vectors:
        return ()
    signature = np.zeros(count + 1, np.uint64)
    for number, (_, _, atoms) in enumerate(vectors):
        signature += np.bincount(atoms, minlength=count + 1).astype(np.uint64) * _hash(number)
    _, first, group = np.unique(signature[1:], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # groups in the order of their smallest atom
    group_of = np.concatenate([[-1], rank[group]])
    members: dict[int, list[Member]] = {}
    for value, axis, atoms in vectors:
        for number, positions in _places(group_of[atoms], atoms):
            members.setdefault(number, []).append(Member(value, axis, positions))
    order = np.argsort(group_of, kind="stable")[1:]
    splits = np.split(order, np.cumsum(np.bincount(group_of[1:]))[:-1])
    return tuple(_dimension(atoms, tuple(members[number])) for number, atoms in enumerate(splits))


def pinned_dimensions(walk: Walk, numbers: Atoms) -> tuple[PinnedDimension, ...]:
    """Group pinned atoms that constants share with computed values, with the reasons that reach them."""
    ledger = walk.ledger
    one = np.concatenate([a for a, _ in ledger.ties] or [np.zeros(0, np.int64)])
    other = np.concatenate([b for _, b in ledger.ties] or [np.zeros(0, np.int64)])
    root = components(ledger.next_atom, one, other)
    reasons: dict[int, dict[tuple[str, object, str], Pin]] = {}
    for atoms, why in ledger.pins:
        for part in np.unique(root[atoms]).tolist():
            reasons.setdefault(part, {}).setdefault((why.reason, why.op, why.place), why)
    groups: dict[frozenset[int], list[tuple[Value, int]]] = {}
    for value, axes in walk.labels.items():
        for place, axis in enumerate(axes):
            stuck = [] if isinstance(axis, Pin) else np.unique(root[axis[numbers[axis] == 0]]).tolist()
            if stuck:
                groups.setdefault(frozenset(stuck), []).append((value, place))
    found = []
    for parts, places in groups.items():
        first = next(((value, place) for value, place in places if not is_constant(value)), places[0])
        constants = tuple(dict.fromkeys(value for value, _ in places if is_constant(value)))
        whys = {pair: why for part in sorted(parts) for pair, why in reasons.get(part, {}).items()}
        if constants and not all(why.minor for why in whys.values()):
            name = f"{first[0].name}[{first[1]}]"
            found.append(PinnedDimension(name, len(parts), constants, tuple(whys.values())[:_REASONS]))
    return tuple(found)


def _dimension(atoms: Atoms, members: tuple[Member, ...]) -> Dimension:
    first = next((one for one in members if not _is_from_constant(one.value)), members[0])
    return Dimension(f"{first.value.name}[{first.axis}]", atoms, members)


def _is_from_constant(value: Value) -> bool:
    """Return True for a constant, and for what Identity makes of one."""
    op = value.producer
    if op is not None and op.is_a("Identity") and op.inputs[0] is not None:
        value = op.inputs[0]
    return is_constant(value)


def _places(groups: npt.NDArray[np.int64], atoms: Atoms) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Return for each group in a vector the places of its atoms: (atoms, k), by atom, then ascending."""
    order = np.lexsort((np.arange(atoms.size), atoms, groups))
    sorted_groups = groups[order]
    starts = np.flatnonzero(np.diff(sorted_groups, prepend=np.int64(-2)))
    found = []
    for start, stop in zip(starts, [*starts[1:], atoms.size], strict=True):
        number = int(sorted_groups[start])
        if number >= 0:
            places = order[start:stop]
            found.append((number, places.reshape(np.unique(atoms[places]).size, -1)))
    return found


def _hash(number: int) -> np.uint64:
    """Return 64 bits that belong to a number: splitmix64's finalizer (Steele, Lea and Flood, 2014)."""
    bits = (number + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return np.uint64(bits ^ (bits >> 31))
