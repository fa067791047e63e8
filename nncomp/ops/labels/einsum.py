"""Einsum: each letter is one axis; letters that the result lacks are contracted."""

from __future__ import annotations

from nncomp.ops.coupling import Axis, Coupling, Pin, Unclear
from nncomp.ops.einsum import einsum_terms


def einsum(c: Coupling) -> None:
    """Tie the axes of each letter; ``...`` stands for axes that are counted from the end."""
    terms, result = einsum_terms(c.op)
    if len(terms) != len(c.op.inputs):
        raise Unclear("its equation does not fit its inputs")
    found: dict[str, Axis] = {}
    for slot, term in enumerate(terms):
        axes = c.axes(slot)
        for letter, axis in zip(_letters(term, len(axes)), axes, strict=True):
            found[letter] = _met(c, found.get(letter), axis)
    out = _letters(result, len(c.shape()))
    for letter in sorted(found.keys() - set(out)):
        _contract(c, terms, letter)
    _wish_for_heads(c, terms, out, found)
    c.give([found[letter] for letter in out])


def _met(c: Coupling, before: Axis | None, axis: Axis) -> Axis:
    if before is None or before is axis or (isinstance(before, Pin) and before.size == 1):
        return axis
    if isinstance(axis, Pin) and axis.size == 1:
        return before
    c.tie(before, axis)
    return axis if isinstance(axis, Pin) else before


def _contract(c: Coupling, terms: tuple[str, ...], letter: str) -> None:
    for slot, term in enumerate(terms):
        axes = c.axes(slot)
        for place, found in enumerate(_letters(term, len(axes))):
            if found == letter and not isinstance(axes[place], Pin):
                c.contract(slot, place)
                return


def _wish_for_heads(c: Coupling, terms: tuple[str, ...], out: list[str], found: dict[str, Axis]) -> None:
    """Prefer letters that every operand and the result have, the heads of attention."""
    for letter in out:
        if len(terms) > 1 and all(letter in term for term in terms):
            c.wish(found[letter])


def _letters(term: str, rank: int) -> list[str]:
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after) if dots else 0
    letters = [*before, *(f"...{hidden - number}" for number in range(hidden)), *after]
    if len(letters) != rank:
        raise Unclear("its equation does not fit its inputs")
    return letters
