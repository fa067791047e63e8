"""Sizes of tensors: numbers, or ones that are only known when the code runs.

An open size is a factor times symbols, such as ``12 n0``. What Relax says otherwise (``n0 + 1``) is a symbol of its
own: a kernel need not know what it is made of, it is handed the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeGuard

from nncomp_tvm.library import tirx


@dataclass(frozen=True, order=True)
class Symbol:
    """A number that is known at run time; ``value`` is Relax's expression of it."""

    name: str
    value: Any = field(compare=False, repr=False)


@dataclass(frozen=True)
class Open:
    """An open size: ``factor`` times ``symbols``, which are sorted; a square has its symbol twice."""

    factor: int
    symbols: tuple[Symbol, ...]

    def __mul__(self, other: Extent) -> Extent:
        """Return the product with another size."""
        if isinstance(other, int):
            return Open(self.factor * other, self.symbols) if other else 0
        return Open(self.factor * other.factor, tuple(sorted(self.symbols + other.symbols)))

    __rmul__ = __mul__

    @property
    def value(self) -> Any:
        """Relax's expression of it."""
        product_: Any = self.factor
        for symbol in self.symbols:
            product_ = symbol.value if isinstance(product_, int) and product_ == 1 else product_ * symbol.value
        return product_


Extent: TypeAlias = int | Open


def extent_of(dimension: Any) -> Extent:
    """Return one of Relax's dimensions."""
    if hasattr(dimension, "value"):
        return int(dimension.value)
    if isinstance(dimension, tirx.Mul):
        return extent_of(dimension.a) * extent_of(dimension.b)
    return Open(1, (Symbol(str(dimension), dimension),))


def product(extents: Iterable[Extent]) -> Extent:
    """Multiply sizes; of none, 1."""
    total: Extent = 1
    for extent in extents:
        total = total * extent
    return total


def quotient(whole: Extent, part: Extent) -> Extent | None:
    """Divide a size by one that it is a multiple of, whatever the symbols are; None where that is not certain."""
    first, second = (one if isinstance(one, Open) else Open(one, ()) for one in (whole, part))
    left = list(first.symbols)
    for symbol in second.symbols:
        if symbol not in left:
            return None
        left.remove(symbol)
    if not second.factor or first.factor % second.factor:
        return None
    factor = first.factor // second.factor
    return Open(factor, tuple(left)) if left and factor else factor


def likely(extent: Extent, symbol: int = 128) -> int:
    """Return a size with ``symbol`` for what is open: the length of a sentence, or rows of a small image."""
    return extent if isinstance(extent, int) else extent.factor * symbol ** len(extent.symbols)


def known(shape: Sequence[Extent]) -> TypeGuard[tuple[int, ...]]:
    """Whether every size is a number."""
    return all(isinstance(extent, int) for extent in shape)


def symbols_of(shapes: Iterable[Sequence[Extent]]) -> list[Symbol]:
    """Return the symbols in shapes, sorted by name."""
    return sorted({s for shape in shapes for extent in shape if isinstance(extent, Open) for s in extent.symbols})


def dimensions(shape: Sequence[Extent]) -> list[Any]:
    """Return sizes as Relax has them."""
    return [extent.value if isinstance(extent, Open) else extent for extent in shape]
